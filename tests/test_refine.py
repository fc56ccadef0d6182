"""Clicks and boxes: masks of the bundled weights, and what a click guarantees whatever the decoder answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn

from surgicalsam_napari.errors import CheckpointError
from surgicalsam_napari.inference.refine import Box, Click, Refinement
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.model.encoders import ENCODERS
from surgicalsam_napari.model.mask_prediction import MaskPrediction
from surgicalsam_napari.model.surgical_sam import PromptedMask, SurgicalSAM
from surgicalsam_napari.model.zoo import bundled_checkpoint
from surgicalsam_napari.phantom import PhantomScene

SIZE = (360, 480)


@pytest.fixture(scope="module")
def light_model() -> SurgicalSAM:
    return load_checkpoint(bundled_checkpoint(), device="cpu")


@pytest.fixture(scope="module")
def instrument() -> tuple[np.ndarray, np.ndarray]:
    """A frame (H, W, 3) and the mask (H, W) of the instrument that covers most of it."""
    frame = PhantomScene(300_002, SIZE).frame(30)
    class_id = np.bincount(frame.labels[frame.labels > 0]).argmax()
    return frame.image, frame.labels == class_id


@pytest.fixture(scope="module")
def embedding(light_model: SurgicalSAM, instrument: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return light_model.embed([instrument[0]])[0]


@pytest.fixture
def truth(instrument: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return instrument[1]


@pytest.fixture
def empty_refinement(light_model: SurgicalSAM, embedding: np.ndarray) -> Refinement:
    return Refinement(light_model, embedding, np.zeros(SIZE, bool))


def middle(mask: np.ndarray) -> tuple[float, float]:
    """Row and column of the pixel farthest from the mask's border."""
    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(depth.argmax(), mask.shape)
    return float(row), float(column)


def box_of(mask: np.ndarray) -> Box:
    rows, columns = np.nonzero(mask)
    return Box(float(rows.min()), float(columns.min()), float(rows.max() + 1), float(columns.max() + 1))


def iou(mask: np.ndarray, truth: np.ndarray) -> float:
    return float((mask & truth).sum() / (mask | truth).sum())


def test_one_click_inside_an_instrument_finds_it(empty_refinement: Refinement, truth: np.ndarray) -> None:
    empty_refinement.add_click(Click(*middle(truth), True))
    assert iou(empty_refinement.mask, truth) > 0.6
    assert 0.3 < empty_refinement.predicted_iou <= 1.2


def test_a_box_finds_the_instrument_in_it(empty_refinement: Refinement, truth: np.ndarray) -> None:
    empty_refinement.set_box(box_of(truth))
    assert iou(empty_refinement.mask, truth) > 0.6
    assert empty_refinement.box == box_of(truth) and empty_refinement.clicks == ()


def test_a_negative_click_removes_a_wrong_region(light_model: SurgicalSAM, embedding: np.ndarray, truth: np.ndarray) -> None:
    blob = np.zeros(SIZE, bool)
    free = middle(~truth)
    blob[int(free[0]) - 30 : int(free[0]) + 30, int(free[1]) - 30 : int(free[1]) + 30] = True
    blob &= ~truth
    refinement = Refinement(light_model, embedding, truth | blob)
    refinement.add_click(Click(*middle(blob), False))
    assert (refinement.mask & blob).sum() < 0.5 * blob.sum()
    assert iou(refinement.mask, truth) > 0.85


def test_a_positive_click_adds_a_missing_region(light_model: SurgicalSAM, embedding: np.ndarray, truth: np.ndarray) -> None:
    missing = truth.copy()
    missing[:, : int(middle(truth)[1]) - 20] = False
    refinement = Refinement(light_model, embedding, truth & ~missing)
    refinement.add_click(Click(*middle(missing), True))
    assert (refinement.mask & missing).sum() > 0.5 * missing.sum()


def test_pixels_far_from_a_click_stay_unchanged(light_model: SurgicalSAM, embedding: np.ndarray, truth: np.ndarray) -> None:
    fringed = truth.copy()
    fringed[::2] &= distance_transform_edt(truth)[::2] > 2  # finer than the decoder's resolution
    row, column = middle(truth)
    below = row + np.flatnonzero(~truth[int(row) :, int(column)])[0] + 5
    refinement = Refinement(light_model, embedding, fringed)
    for click in (Click(row, column, True), Click(below, column, True), Click(below + 2, column, False)):
        refinement.add_click(click)
    rows, columns = np.indices(SIZE)
    far = np.hypot(rows - row, columns - column) > 0.25 * SIZE[1]
    assert (fringed & far).any()
    np.testing.assert_array_equal(refinement.mask[far], fringed[far])


def band(top: int, bottom: int) -> np.ndarray:
    """A mask of all columns of some rows: its border is far from the frame's sides."""
    mask = np.zeros(SIZE, bool)
    mask[top:bottom] = True
    return mask


def test_the_border_moves_to_as_far_beyond_a_click_as_it_was_before(light_model: SurgicalSAM, embedding: np.ndarray) -> None:
    for is_positive, border in ((True, 172), (False, 148)):
        refinement = Refinement(light_model, embedding, band(100, 160))
        refinement.add_click(Click(160 + 6 * (1 if is_positive else -1), 240, is_positive))
        edge = np.flatnonzero(refinement.mask[:, 240]).max() + 1
        assert abs(edge - border) <= 2
        np.testing.assert_array_equal(refinement.mask[:, :100], band(100, 160)[:, :100])


def test_clicks_in_the_middle_of_errors_bring_the_mask_to_the_truth(
    light_model: SurgicalSAM, embedding: np.ndarray, truth: np.ndarray
) -> None:
    row, column = middle(truth)
    rows, columns = np.indices(SIZE)
    too_much = np.hypot(rows - middle(~truth)[0], columns - middle(~truth)[1]) < 30
    too_little = np.hypot(rows - row, columns - column) < 60
    refinement = Refinement(light_model, embedding, (truth & ~too_little) | too_much)
    assert iou(refinement.mask, truth) < 0.6
    for _ in range(2):
        mask = refinement.mask
        error = max((truth & ~mask, mask & ~truth), key=lambda wrong: distance_transform_edt(np.pad(wrong, 1)).max())
        row, column = middle(error)
        refinement.add_click(Click(row, column, bool(truth[int(row), int(column)])))
    assert iou(refinement.mask, truth) > 0.85


def test_a_click_keeps_what_an_earlier_click_of_the_other_kind_put_right(
    light_model: SurgicalSAM, embedding: np.ndarray
) -> None:
    refinement = Refinement(light_model, embedding, band(100, 160))
    refinement.add_click(Click(165, 240, True))
    near_first = np.hypot(*(index - place for index, place in zip(np.indices(SIZE), (165, 240), strict=True))) <= 4
    assert refinement.mask[near_first].all()
    for column in (232, 248):
        refinement.add_click(Click(164, column, False))
        assert not refinement.mask[164, column]
    assert refinement.mask[near_first].all()


def test_a_click_that_agrees_with_the_mask_changes_nothing(light_model: SurgicalSAM, embedding: np.ndarray) -> None:
    refinement = Refinement(light_model, embedding, band(100, 160))
    for click in (Click(130, 240, True), Click(40, 240, False)):
        refinement.add_click(click)
        np.testing.assert_array_equal(refinement.mask, band(100, 160))
        assert np.isnan(refinement.predicted_iou)


def test_a_click_far_from_the_mask_adds_another_instrument_and_keeps_the_first(
    light_model: SurgicalSAM, embedding: np.ndarray, truth: np.ndarray
) -> None:
    first = np.zeros(SIZE, bool)
    first[:12, -12:] = True
    refinement = Refinement(light_model, embedding, first & ~truth)
    refinement.add_click(Click(*middle(truth), True))
    added = refinement.mask & ~first
    assert (added & truth).sum() > 0.4 * truth.sum() and (added & truth).sum() > 0.7 * added.sum()
    assert refinement.mask[first & ~truth].all()


def test_the_mask_of_a_whole_frame_can_be_clicked(light_model: SurgicalSAM, embedding: np.ndarray) -> None:
    refinement = Refinement(light_model, embedding, np.ones(SIZE, bool))
    refinement.add_click(Click(100, 100, False))
    assert not refinement.mask[100, 100] and refinement.mask[200:].all()


def test_a_decoder_that_sees_the_class_everywhere_changes_only_the_part_around_a_click(
    light_model: SurgicalSAM, embedding: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = 4 * light_model.embedding_shape[1]
    everywhere = PromptedMask(torch.full((side, side), 5.0), 0.5)
    monkeypatch.setattr(light_model, "decode_prompts", lambda *arguments: everywhere)
    refinement = Refinement(light_model, embedding, band(0, 20))
    refinement.add_click(Click(60, 240, True))
    assert refinement.mask[60, 240] and not refinement.mask[-20:].any()


@pytest.mark.parametrize("is_positive", [True, False])
def test_sams_own_decoder_is_asked_about_every_click_away_from_the_border(
    light_model: SurgicalSAM,
    embedding: np.ndarray,
    truth: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    is_positive: bool,
) -> None:
    spec = ENCODERS[light_model.encoder_id]
    monkeypatch.setitem(ENCODERS, spec.id, replace(spec, has_sam_decoder=True))
    refinement = Refinement(light_model, embedding, truth)
    row, column = middle(~truth if is_positive else truth)
    refinement.add_click(Click(row, column, is_positive))
    assert np.isfinite(refinement.predicted_iou)
    assert refinement.mask[int(row), int(column)] == is_positive


def test_every_encoder_of_sam_has_sams_decoder() -> None:
    assert {spec.id for spec in ENCODERS.values() if not spec.has_sam_decoder} == {"light", "tiny"}


@pytest.mark.parametrize("is_positive", [True, False])
def test_every_clicked_pixel_is_as_the_click_says(
    light_model: SurgicalSAM, embedding: np.ndarray, truth: np.ndarray, is_positive: bool
) -> None:
    rng = np.random.default_rng(0)
    refinement = Refinement(light_model, embedding, truth)
    places = [
        (0.0, 0.0),
        (SIZE[0] - 1.0, SIZE[1] - 1.0),
        *(tuple(rng.uniform(0, (SIZE[0] - 1, SIZE[1] - 1))) for _ in range(6)),
    ]
    for row, column in places:
        refinement.add_click(Click(row, column, is_positive))
    mask = refinement.mask
    assert [mask[round(row), round(column)] for row, column in places] == [is_positive] * len(places)


def test_the_later_of_two_clicks_on_one_place_counts(empty_refinement: Refinement, truth: np.ndarray) -> None:
    row, column = middle(truth)
    for is_positive in (True, False):
        empty_refinement.add_click(Click(row, column, is_positive))
        assert empty_refinement.mask[int(row), int(column)] == is_positive


def test_removing_a_prompt_returns_to_the_mask_before_it(empty_refinement: Refinement, truth: np.ndarray) -> None:
    empty_refinement.set_box(box_of(truth))
    boxed, quality = empty_refinement.mask, empty_refinement.predicted_iou
    empty_refinement.add_click(Click(*middle(~truth), True))
    assert not np.array_equal(empty_refinement.mask, boxed)
    empty_refinement.remove_last()
    np.testing.assert_array_equal(empty_refinement.mask, boxed)
    assert empty_refinement.predicted_iou == quality
    empty_refinement.remove_last()
    assert empty_refinement.box is None and not empty_refinement.mask.any()
    empty_refinement.remove_last()
    assert not empty_refinement.mask.any()


def test_a_box_drawn_after_a_click_is_removed_first(empty_refinement: Refinement, truth: np.ndarray) -> None:
    click = Click(*middle(truth), True)
    empty_refinement.add_click(click)
    clicked = empty_refinement.mask
    empty_refinement.set_box(box_of(truth))
    empty_refinement.remove_last()
    assert empty_refinement.box is None and empty_refinement.clicks == (click,)
    np.testing.assert_array_equal(empty_refinement.mask, clicked)


def test_removing_a_box_keeps_the_clicks(empty_refinement: Refinement, truth: np.ndarray) -> None:
    click = Click(*middle(truth), True)
    empty_refinement.add_click(click)
    clicked = empty_refinement.mask
    empty_refinement.set_box(Box(0, 0, 40, 40))
    empty_refinement.set_box(box_of(truth))
    assert empty_refinement.box == box_of(truth)
    empty_refinement.set_box(None)
    assert empty_refinement.box is None and empty_refinement.clicks == (click,)
    np.testing.assert_array_equal(empty_refinement.mask, clicked)


def test_without_prompts_the_mask_is_the_given_one(
    light_model: SurgicalSAM, embedding: np.ndarray, truth: np.ndarray
) -> None:
    for given in (truth, np.zeros(SIZE, bool)):
        refinement = Refinement(light_model, embedding, given)
        np.testing.assert_array_equal(refinement.mask, given)
        assert refinement.clicks == () and refinement.box is None


def test_changes_to_the_given_mask_or_the_preview_have_no_effect(
    light_model: SurgicalSAM, embedding: np.ndarray, truth: np.ndarray
) -> None:
    given = truth.copy()
    refinement = Refinement(light_model, embedding, given)
    given[:] = False
    refinement.mask[:] = False
    np.testing.assert_array_equal(refinement.mask, truth)


def test_a_tall_frame_is_refined_in_its_own_pixels(light_model: SurgicalSAM) -> None:
    frame = PhantomScene(300_004, (400, 200)).frame(0)
    truth = frame.labels == np.bincount(frame.labels[frame.labels > 0]).argmax()
    refinement = Refinement(light_model, light_model.embed([frame.image])[0], np.zeros(truth.shape, bool))
    refinement.add_click(Click(*middle(truth), True))
    assert refinement.mask.shape == (400, 200)
    assert iou(refinement.mask, truth) > 0.4


def test_a_checkpoint_without_a_click_decoder_is_refused(embedding: np.ndarray) -> None:
    model = load_checkpoint(bundled_checkpoint(), device="cpu")
    model.sam_mask_decoder = None
    with pytest.raises(CheckpointError, match="Choose a checkpoint that includes it"):
        Refinement(model, embedding, np.zeros(SIZE, bool))


class LearnedSquare(nn.Module):
    """In place of a pixel head: the class is in the rows and columns 10 to 30 of the low-resolution square."""

    def decode(
        self, embeddings: Tensor, rows: list[int], _visible: tuple[int, int] | None, presence_threshold: float = 0.5
    ) -> MaskPrediction:
        side = 4 * embeddings.shape[-1]
        logits = torch.full((1, len(rows), side, side), -5.0)
        logits[..., 10:30, 10:30] = 5
        return MaskPrediction(logits, torch.full((1, len(rows)), 0.75), torch.ones(1, len(rows)))


def test_a_click_on_a_new_part_shows_what_the_model_learned_of_the_class(tiny_checkpoint: Path) -> None:
    model = load_checkpoint(tiny_checkpoint, device="cpu")
    model.pixel_head = LearnedSquare()
    scale = max(SIZE) / (4 * model.embedding_shape[1])
    learned = np.zeros(SIZE, bool)
    learned[round(10 * scale) : round(30 * scale), round(10 * scale) : round(30 * scale)] = True
    refinement = Refinement(model, np.zeros(model.embedding_shape, np.float16), np.zeros(SIZE, bool), class_id=3)
    refinement.add_click(Click(20 * scale, 20 * scale, True))
    assert iou(refinement.mask, learned) > 0.9
    assert refinement.predicted_iou == 0.75
