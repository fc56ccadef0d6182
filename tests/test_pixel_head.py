"""The pixel head: classes and background compete at every pixel, and it is stored in checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.checkpoint import load_checkpoint, save_checkpoint
from surgicalsam_napari.model.encoders import ENCODERS
from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.pixel_head import PixelHead, expected_iou, winning_margins
from surgicalsam_napari.model.surgical_sam import SurgicalSAM

PYRAMID = ((4, 1), (8, 2), (16, 4))


def embeddings(channels: int, count: int = 2, side: int = 16) -> torch.Tensor:
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def model_with_head(tiny_checkpoint: Path) -> SurgicalSAM:
    model = load_checkpoint(tiny_checkpoint, device="cpu")
    torch.manual_seed(3)
    model.pixel_head = PixelHead(model.decoder_dim, ENCODERS[model.encoder_id].pyramid, len(model.classes)).eval()
    return model


def test_masks_of_a_head_never_overlap_and_an_instrument_of_doubtful_class_is_found() -> None:
    head = PixelHead(6, (), 3).eval()
    given = embeddings(6)
    decoded = head.decode(given, [0, 1, 2], None, 0.0)
    assert decoded.low_res_logits.shape == (2, 3, 64, 64)
    assert ((decoded.predicted_iou >= 0) & (decoded.predicted_iou <= 1)).all()
    assert ((decoded.presence >= 0) & (decoded.presence <= 1)).all()
    logits = head(given)
    probabilities = logits.softmax(dim=1)
    margins = winning_margins(logits, torch.ones(2, 3, dtype=torch.bool))
    is_instrument = probabilities[:, 1:].sum(dim=1) > probabilities[:, 0]
    torch.testing.assert_close((margins > 0).any(dim=1), is_instrument)
    likeliest = probabilities[:, 1:].argmax(dim=1)
    for row in range(3):
        torch.testing.assert_close(margins[:, row] > 0, is_instrument & (likeliest == row))


def test_a_class_that_is_not_in_the_frame_leaves_its_pixels_to_the_others() -> None:
    # of the three classes, the second is the likeliest at a place, but it is not in the frame
    logits = torch.tensor([0.3, 0.25, 0.35, 0.1]).log()[None, :, None, None]
    present = torch.tensor([[True, False, True]])
    assert (winning_margins(logits, present) > 0).flatten().tolist() == [True, True, False]
    assert (winning_margins(logits, torch.tensor([[True, True, True]])) > 0).flatten().tolist() == [False, True, False]
    alone = winning_margins(torch.tensor([[0.0, 1.0]])[..., None, None], torch.tensor([[True]]))
    assert alone.item() == pytest.approx(1)


def test_padding_of_the_square_is_never_an_instrument() -> None:
    head = PixelHead(6, (), 1).eval()
    with torch.no_grad():
        head.branches[0].layers[-1].bias.copy_(torch.tensor([-5.0, 5.0]))  # an instrument everywhere
    decoded = head.decode(embeddings(6, count=1), [0], (9, 16), 0.5)
    assert (decoded.low_res_logits[0, 0, :36] > 0).all()
    assert (decoded.low_res_logits[0, 0, 36:] < 0).all()


def test_packed_features_are_read_at_their_own_resolution() -> None:
    torch.manual_seed(0)
    head = PixelHead(6, PYRAMID, 2).eval()
    fine, middle, coarse = embeddings(4), embeddings(8, side=8), embeddings(16, side=4)
    packed = torch.cat([embeddings(6), fine, F.pixel_shuffle(middle, 2), F.pixel_shuffle(coarse, 4)], dim=1)
    assert packed.shape[1] == 6 + 4 + 2 + 1
    head.standardise(packed)
    torch.testing.assert_close(head.branches[1].mean, torch.cat([part.mean((0, 2, 3)) for part in (fine, middle, coarse)]))
    # a crop that a whole number of coarse cells fills gives the same logits away from its edge
    cropped = head.cropped(packed, (11, 16))
    assert cropped.shape[-2:] == (12, 16)
    torch.testing.assert_close(head(cropped)[..., :12, :], head(packed)[..., :12, :])


def test_the_expected_iou_is_that_of_the_probabilities() -> None:
    probability = torch.zeros(1, 1, 4, 4)
    probability[..., :2, :] = 1.0
    mask = probability > 0.5
    assert expected_iou(probability, mask).item() == 1
    probability[..., 2, :] = 0.5  # half of four more pixels
    assert expected_iou(probability, mask).item() == pytest.approx(8 / 10)
    assert expected_iou(probability, torch.zeros_like(mask)).item() == 0


def test_a_checkpoint_keeps_its_head(model_with_head: SurgicalSAM, tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "learned.safetensors", model_with_head, training_record={})
    loaded = load_checkpoint(path, device="cpu")
    frame = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
    expected, again = (model.decode(torch.from_numpy(model.embed([frame])), [2, 5]) for model in (model_with_head, loaded))
    torch.testing.assert_close(again.low_res_logits, expected.low_res_logits)
    assert again.low_res_logits.shape[-1] == 4 * model_with_head.embedding_shape[1]


def test_predictions_of_a_head_are_label_maps_of_the_frame(model_with_head: SurgicalSAM) -> None:
    size = (100, 160)
    embedding = model_with_head.embed([np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)])
    (prediction,) = model_with_head.predict(embedding, ENDOVIS2018.ids, size)
    assert prediction.label_map.shape == size
    assert set(np.unique(prediction.label_map)) <= {0, *ENDOVIS2018.ids}
    assert (prediction.contested == 0).all()
    visible = FrameGeometry(size, model_with_head.input_size).visible_grid(model_with_head.embedding_shape[1:])
    assert visible[0] < model_with_head.embedding_shape[1]
