"""SurgicalSAM as a whole: frames and class ids in, label maps out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from tiny_encoder import TINY

from surgicalsam_napari.errors import CheckpointError, ClassSetError, DeviceError
from surgicalsam_napari.instruments import ENDOVIS2018, ClassSet, InstrumentClass
from surgicalsam_napari.model.checkpoint import build_parts, load_checkpoint
from surgicalsam_napari.model.device import choose_device, describe_device
from surgicalsam_napari.model.digest import checkpoint_record
from surgicalsam_napari.model.encoders import ENCODERS
from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.image_encoder import build_image_encoder
from surgicalsam_napari.model.surgical_sam import MaskPrediction, SurgicalSAM, fallback_presence


def random_frames(count: int, size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, *size, 3), dtype=np.uint8)


def untrained_model(classes: ClassSet) -> SurgicalSAM:
    torch.manual_seed(1)
    parts = build_parts(ENCODERS[TINY], len(classes), tokens_per_class=4)
    model = SurgicalSAM(classes, TINY, "none", image_encoder=build_image_encoder(TINY), presence_threshold=0.0, **parts)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("size", [(64, 80), (81, 57), (30, 200), (256, 256)])
def test_any_frame_size_gives_a_label_map_of_that_size(tiny_model, size):
    predictions = tiny_model.predict(tiny_model.embed(random_frames(2, size)), [3, 1], size)
    assert len(predictions) == 2
    for prediction in predictions:
        assert prediction.label_map.shape == size and prediction.label_map.dtype == np.uint8
        assert set(np.unique(prediction.label_map)) <= {0, 1, 3}
        assert prediction.class_ids == (3, 1) and prediction.presence.shape == (2,)


@pytest.mark.parametrize("count", [1, 3, 12])
def test_any_number_of_classes_with_any_ids(count):
    classes = ClassSet("mine", tuple(InstrumentClass(10 * i + 5, f"tool {i}", "#102030") for i in range(count)))
    model = untrained_model(classes)
    (prediction,) = model.predict(model.embed(random_frames(1, (48, 64))), classes.ids, (48, 64))
    assert set(np.unique(prediction.label_map)) <= {0, *classes.ids}


def test_a_class_is_predicted_the_same_alone_with_others_and_in_any_batch(tiny_model):
    embeddings = torch.from_numpy(tiny_model.embed(random_frames(5, (64, 80))))
    together = tiny_model.decode(embeddings, ENDOVIS2018.ids)
    alone = tiny_model.decode(embeddings[3:4], [6])
    torch.testing.assert_close(together.low_res_logits[3, 5], alone.low_res_logits[0, 0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(together.presence[3, 5], alone.presence[0, 0], atol=1e-4, rtol=1e-4)


def test_another_class_of_the_same_frame_is_the_same_as_in_a_model_that_decoded_nothing_before():
    embeddings = torch.randn(1, *untrained_model(ENDOVIS2018).embedding_shape)
    model, fresh = untrained_model(ENDOVIS2018), untrained_model(ENDOVIS2018)
    model.decode(embeddings, [3])
    assert torch.equal(model.decode(embeddings, [6]).low_res_logits, fresh.decode(embeddings, [6]).low_res_logits)


def test_a_frame_is_decoded_again_after_its_embedding_or_the_weights_changed():
    embeddings = torch.randn(1, *untrained_model(ENDOVIS2018).embedding_shape)
    model, fresh = untrained_model(ENDOVIS2018), untrained_model(ENDOVIS2018)
    model.decode(embeddings, [3])
    embeddings *= 2
    changed = model.decode(embeddings, [3]).low_res_logits
    assert torch.equal(changed, fresh.decode(embeddings, [3]).low_res_logits)
    for each in (model, fresh):
        with torch.no_grad():
            each.prototypes.class_embeddings.weight.add_(1)
    fresh.decode(-embeddings, [3])  # another frame in between
    again = model.decode(embeddings, [3]).low_res_logits
    assert not torch.equal(again, changed) and torch.equal(again, fresh.decode(embeddings, [3]).low_res_logits)


def test_a_class_below_the_presence_threshold_leaves_the_frame_empty(tiny_checkpoint):
    model = load_checkpoint(tiny_checkpoint, device="cpu")
    model.presence_threshold = 1.1
    (prediction,) = model.predict(model.embed(random_frames(1, (64, 80))), ENDOVIS2018.ids, (64, 80))
    assert not prediction.label_map.any() and not prediction.present.any()


def test_without_a_presence_head_predicted_iou_and_area_decide():
    logits = torch.full((1, 3, 8, 8), -1.0)
    logits[0, 0], logits[0, 1, 0, 0], logits[0, 2] = 1.0, 1.0, 1.0
    quality = torch.tensor([[0.9, 0.9, 1.3]])
    presence = fallback_presence(MaskPrediction(logits, quality, None))
    torch.testing.assert_close(presence, torch.tensor([[0.9, 0.0, 1.0]]))


def test_geometry_agrees_with_the_reference_on_sizes():
    assert FrameGeometry((1024, 1280)).resized_size == (819, 1024)
    assert FrameGeometry((1080, 1920)).resized_size == (576, 1024)
    assert FrameGeometry((1920, 1080)).resized_size == (1024, 576)


def test_an_unknown_class_is_refused_with_the_known_ids(tiny_model):
    with pytest.raises(ClassSetError, match=r"1, 2, 3, 4, 5, 6, 7; got 9"):
        tiny_model.decode(torch.zeros(1, 128, 32, 32), [9])


class FitsOnly(torch.nn.Module):
    """An encoder on a device with memory for this many frames."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, images):
        if len(images) > self.frames:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return images.new_zeros(len(images), 128, 32, 32) + images.mean((1, 2, 3))[:, None, None, None]


def test_out_of_memory_halves_the_batch_and_continues():
    model = untrained_model(ENDOVIS2018)
    frames = random_frames(7, (64, 80))
    model.image_encoder = FitsOnly(7)
    at_once = model.embed(frames)
    model.image_encoder = FitsOnly(2)
    np.testing.assert_array_equal(model.embed(frames), at_once)


def test_out_of_memory_on_one_frame_names_a_smaller_encoder(tiny_model):
    model = untrained_model(ENDOVIS2018)
    model.encoder_id, model.image_encoder = "vit_h", FitsOnly(0)
    with pytest.raises(DeviceError, match="SAM ViT-L needs about"):
        model.embed(random_frames(1, (64, 80)))


def test_embedding_without_an_encoder_says_what_to_load(tiny_checkpoint):
    model = load_checkpoint(tiny_checkpoint, device="cpu", load_image_encoder=False)
    with pytest.raises(CheckpointError, match=r"need the image encoder \(Tiny encoder\)"):
        model.embed(random_frames(1, (64, 80)))


def test_an_unknown_device_is_refused():
    with pytest.raises(DeviceError, match='no device "gpu"'):
        choose_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="sees 0 CUDA devices"):
            choose_device("cuda")


def test_the_device_is_described_in_words():
    assert describe_device(torch.device("cpu")).startswith("CPU (")


def test_predictions_are_frozen(tiny_model):
    (prediction,) = tiny_model.predict(tiny_model.embed(random_frames(1, (64, 80))), [1], (64, 80))
    with pytest.raises(dataclasses.FrozenInstanceError):
        prediction.class_ids = (2,)


def test_the_fast_mode_is_refused_on_a_cpu_that_would_be_slower(tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    with pytest.raises(DeviceError, match="bfloat16 in hardware"):
        load_checkpoint(tiny_checkpoint, device="cpu", fast=True)


def test_the_fast_mode_gives_nearly_the_same_masks_and_counts_as_another_checkpoint(tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    exact = load_checkpoint(tiny_checkpoint, device="cpu")
    fast = load_checkpoint(tiny_checkpoint, device="cpu", fast=True)
    embeddings = exact.embed(random_frames(1, (64, 80)))
    (approximate,), (expected,) = (model.predict(embeddings, ENDOVIS2018.ids, (64, 80)) for model in (fast, exact))
    assert (approximate.label_map == expected.label_map).mean() > 0.9
    assert approximate.predicted_iou.dtype == np.float32
    assert checkpoint_record(fast)["digest"] != checkpoint_record(exact)["digest"]
