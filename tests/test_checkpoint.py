"""Checkpoints: saved and loaded models are equal, and a file that does not fit is refused with a reason."""

from __future__ import annotations

import copy
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_encoder import TINY

from surgicalsam_napari.errors import CheckpointError, DiskSpaceError
from surgicalsam_napari.instruments import ENDOVIS2017, ENDOVIS2018, ClassSet, InstrumentClass
from surgicalsam_napari.model.checkpoint import load_checkpoint, read_checkpoint_info, save_checkpoint


def altered(source: Path, target: Path, tensors: dict | None = None, drop: str = "", **metadata: str) -> Path:
    """A copy of a checkpoint with some tensors or header entries changed."""
    with safe_open(source, "pt") as file:
        header = file.metadata()
    state = {key: tensor for key, tensor in load_file(source).items() if key != drop}
    save_file({**state, **(tensors or {})}, target, {**header, **metadata})
    return target


def test_a_saved_checkpoint_predicts_the_same_after_loading(tiny_model, tmp_path):
    path = save_checkpoint(tmp_path / "again.safetensors", tiny_model, training_record={"epochs": 3})
    loaded = load_checkpoint(path, device="cpu")
    frames = np.random.default_rng(0).integers(0, 255, (1, 60, 80, 3), dtype=np.uint8)
    (before,) = tiny_model.predict(tiny_model.embed(frames), ENDOVIS2018.ids, (60, 80))
    (after,) = loaded.predict(loaded.embed(frames), ENDOVIS2018.ids, (60, 80))
    np.testing.assert_array_equal(before.label_map, after.label_map)
    np.testing.assert_array_equal(before.presence, after.presence)
    assert loaded.classes == ENDOVIS2018 and loaded.encoder_digest == tiny_model.encoder_digest


def test_the_header_describes_the_checkpoint_without_the_weights(tiny_model, tmp_path):
    info = read_checkpoint_info(save_checkpoint(tmp_path / "mine.safetensors", tiny_model, training_record={"epochs": 3}))
    assert info.name == "mine" and info.classes == ENDOVIS2018 and info.encoder_id == TINY and info.includes_encoder
    assert info.training_record == {"epochs": 3} and info.presence_threshold == tiny_model.presence_threshold


def test_half_precision_takes_half_the_disk(tiny_model, tmp_path):
    whole = save_checkpoint(tmp_path / "whole.safetensors", tiny_model, training_record={})
    rounded = copy.deepcopy(tiny_model)  # other tests share the model
    for tensor in rounded.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.half())
    assert whole.stat().st_size > 1.9 * os.path.getsize(
        save_checkpoint(tmp_path / "half.safetensors", rounded, training_record={}, half=True)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"drop": "mask_decoder.iou_token.weight"}, "1 keys are missing .mask_decoder|1 keys are missing .iou_token"),
        ({"tensors": {"mask_decoder.wings": torch.zeros(1)}}, "1 are not known .wings"),
        ({"tensors": {"mask_decoder.iou_token.weight": torch.zeros(1, 64)}}, r"is \(1, 64\), should be \(1, 128\)"),
        ({"tensors": {"wings.left": torch.zeros(1)}}, "has unknown keys: wings.left"),
        ({"drop": "prototypes.class_embeddings.weight"}, "lacks prototypes.class_embeddings.weight"),
        ({"tensors": {"prototypes.class_embeddings.weight": torch.zeros(5, 128)}}, "knows 5 classes"),
        ({"format": "something"}, "not a SurgicalSAM checkpoint"),
        ({"format_version": "99"}, "format 99"),
        ({"encoder_id": "vit_x"}, 'needs the encoder "vit_x"'),
        (
            {"encoder_id": "demo"},
            "demo encoder .* no longer has. Train again from the bundled light weights; your corrected",
        ),
        ({"classes": "{"}, "header .* is damaged"),
        ({"encoder_digest": "0000"}, "was tuned on"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_with_the_reason(tiny_checkpoint, tmp_path, change, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(altered(tiny_checkpoint, tmp_path / "bad.safetensors", **change), device="cpu")
    assert "\n" not in str(caught.value)


def test_a_half_downloaded_checkpoint_is_refused(tiny_checkpoint, tmp_path):
    path = tmp_path / "half.safetensors"
    path.write_bytes(tiny_checkpoint.read_bytes()[:100_000])
    with pytest.raises(CheckpointError, match="partly downloaded"):
        load_checkpoint(path, device="cpu")


def test_the_demo_checkpoint_of_earlier_versions_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for read in (load_checkpoint, read_checkpoint_info):
        with pytest.raises(CheckpointError, match=r"^demo was trained on the demo encoder of an earlier version"):
            read("demo")


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint .*nowhere\.safetensors"):
        load_checkpoint(tmp_path / "nowhere.safetensors")
    with pytest.raises(CheckpointError, match=r"nowhere\.pth"):
        load_checkpoint(tmp_path / "nowhere.pth", classes=ENDOVIS2018)


class Payload:
    """Runs code when unpickled."""

    def __reduce__(self):
        return (os.mkdir, (os.environ["PAYLOAD_FOLDER"],))


def test_a_pickle_payload_is_never_run(tmp_path, monkeypatch):
    monkeypatch.setenv("PAYLOAD_FOLDER", str(tmp_path / "owned"))
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"prototypes_state_dict": Payload()}))
    torch.save({"prototypes_state_dict": Payload()}, tmp_path / "torch.pth")
    for name in ("plain.pth", "torch.pth"):
        with pytest.raises(CheckpointError):
            load_checkpoint(tmp_path / name, classes=ENDOVIS2018)
    assert not (tmp_path / "owned").exists()


def test_a_failed_save_leaves_the_existing_file_unchanged(tiny_checkpoint, tiny_model, tmp_path, monkeypatch):
    path = tmp_path / "kept.safetensors"
    shutil.copy(tiny_checkpoint, path)
    before = path.read_bytes()

    def full_disk(tensors, filename, metadata):
        Path(filename).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("surgicalsam_napari.model.checkpoint.save_file", full_disk)
    with pytest.raises(DiskSpaceError, match="No space left to write kept"):
        save_checkpoint(path, tiny_model, training_record={})
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["kept.safetensors"]


def authors_checkpoint(folder: Path) -> dict:
    return {
        "path": folder / "model_ckp.pth",
        "encoder_weights": folder / "sam_prompt_encoder.pth",
        "device": "cpu",
    }


def test_an_authors_checkpoint_needs_names_for_its_classes(authors_folder):
    with pytest.raises(CheckpointError, match="holds no class names"):
        load_checkpoint(**authors_checkpoint(authors_folder), load_image_encoder=False)
    three = ClassSet("three", ENDOVIS2017.classes[:3])
    with pytest.raises(CheckpointError, match="knows 7 classes, and the class set three has 3"):
        load_checkpoint(**authors_checkpoint(authors_folder), classes=three, load_image_encoder=False)


def test_an_authors_checkpoint_needs_the_encoder_it_was_trained_with(authors_folder):
    with pytest.raises(CheckpointError):
        load_checkpoint(**authors_checkpoint(authors_folder), classes=ENDOVIS2018)


def test_an_authors_checkpoint_without_sams_checkpoint_says_how_to_get_it(authors_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("SURGICALSAM_MODELS", str(tmp_path))
    with pytest.raises(CheckpointError, match="surgicalsam models download vit_h"):
        load_checkpoint(authors_folder / "model_ckp.pth", classes=ENDOVIS2018)


def test_an_authors_checkpoint_converts_to_safetensors_unchanged(authors_folder, tmp_path):
    original = load_checkpoint(**authors_checkpoint(authors_folder), classes=ENDOVIS2018, load_image_encoder=False)
    path = save_checkpoint(tmp_path / "converted.safetensors", original, training_record={})
    converted = load_checkpoint(path, device="cpu", load_image_encoder=False)
    embeddings = torch.randn(1, 256, 64, 64)
    torch.testing.assert_close(
        converted.decode(embeddings, [2]).low_res_logits, original.decode(embeddings, [2]).low_res_logits, atol=0, rtol=0
    )


def test_class_colours_are_saved_with_the_checkpoint(tiny_model, tmp_path, monkeypatch):
    painted = ClassSet("mine", tuple(InstrumentClass(c.id, c.name, "#010203") for c in ENDOVIS2018))
    monkeypatch.setattr(tiny_model, "classes", painted)
    path = save_checkpoint(tmp_path / "painted.safetensors", tiny_model, training_record={})
    assert json.loads(json.dumps(read_checkpoint_info(path).classes.to_json())) == painted.to_json()
