"""Clicks and boxes: what the bundled weights make of them, and what a click guarantees whatever the decoder answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from surgicalsam_napari.errors import CheckpointError
from surgicalsam_napari.inference.refine import Box, Click, Refinement
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.model.zoo import demo_checkpoint
from surgicalsam_napari.phantom import PhantomScene

SIZE = (360, 480)


@pytest.fixture(scope="module")
def demo_model() -> SurgicalSAM:
    return load_checkpoint(demo_checkpoint(), device="cpu")


@pytest.fixture(scope="module")
def instrument() -> tuple[np.ndarray, np.ndarray]:
    """A frame (H, W, 3) and the mask (H, W) of the instrument that covers most of it."""
    frame = PhantomScene(300_002, SIZE).frame(30)
    class_id = np.bincount(frame.labels[frame.labels > 0]).argmax()
    return frame.image, frame.labels == class_id


@pytest.fixture(scope="module")
def embedding(demo_model: SurgicalSAM, instrument: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return demo_model.embed([instrument[0]])[0]


@pytest.fixture
def truth(instrument: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return instrument[1]


@pytest.fixture
def from_nothing(demo_model: SurgicalSAM, embedding: np.ndarray) -> Refinement:
    return Refinement(demo_model, embedding, np.zeros(SIZE, bool))


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


def test_one_click_inside_an_instrument_finds_it(from_nothing: Refinement, truth: np.ndarray) -> None:
    from_nothing.add_click(Click(*middle(truth), True))
    assert iou(from_nothing.mask, truth) > 0.6
    assert 0.3 < from_nothing.predicted_iou <= 1.2


def test_a_box_finds_the_instrument_in_it(from_nothing: Refinement, truth: np.ndarray) -> None:
    from_nothing.set_box(box_of(truth))
    assert iou(from_nothing.mask, truth) > 0.6
    assert from_nothing.box == box_of(truth) and from_nothing.clicks == ()


def test_a_negative_click_takes_away_what_does_not_belong(
    demo_model: SurgicalSAM, embedding: np.ndarray, truth: np.ndarray
) -> None:
    blob = np.zeros(SIZE, bool)
    free = middle(~truth)
    blob[int(free[0]) - 30 : int(free[0]) + 30, int(free[1]) - 30 : int(free[1]) + 30] = True
    blob &= ~truth
    refinement = Refinement(demo_model, embedding, truth | blob)
    refinement.add_click(Click(*middle(blob), False))
    assert (refinement.mask & blob).sum() < 0.5 * blob.sum()
    assert iou(refinement.mask, truth) > 0.85


def test_a_positive_click_adds_what_was_missing(demo_model: SurgicalSAM, embedding: np.ndarray, truth: np.ndarray) -> None:
    missing = truth.copy()
    missing[:, : int(middle(truth)[1]) - 20] = False
    refinement = Refinement(demo_model, embedding, truth & ~missing)
    refinement.add_click(Click(*middle(missing), True))
    assert (refinement.mask & missing).sum() > 0.5 * missing.sum()


def test_what_the_decoder_agrees_with_stays_as_it_is_to_the_pixel(
    demo_model: SurgicalSAM, embedding: np.ndarray, truth: np.ndarray
) -> None:
    fringed = truth.copy()
    fringed[::2] &= distance_transform_edt(truth)[::2] > 2  # finer than the decoder can see
    row, column = middle(truth)
    refinement = Refinement(demo_model, embedding, fringed)
    refinement.add_click(Click(row, column, True))
    rows, columns = np.indices(SIZE)
    far = np.hypot(rows - row, columns - column) > 0.25 * SIZE[1]
    assert (fringed & far).any()
    np.testing.assert_array_equal(refinement.mask[far], fringed[far])


@pytest.mark.parametrize("is_positive", [True, False])
def test_every_clicked_pixel_ends_up_as_asked(
    demo_model: SurgicalSAM, embedding: np.ndarray, truth: np.ndarray, is_positive: bool
) -> None:
    rng = np.random.default_rng(0)
    refinement = Refinement(demo_model, embedding, truth)
    places = [
        (0.0, 0.0),
        (SIZE[0] - 1.0, SIZE[1] - 1.0),
        *(tuple(rng.uniform(0, (SIZE[0] - 1, SIZE[1] - 1))) for _ in range(6)),
    ]
    for row, column in places:
        refinement.add_click(Click(row, column, is_positive))
    mask = refinement.mask
    assert [mask[round(row), round(column)] for row, column in places] == [is_positive] * len(places)


def test_of_two_clicks_on_one_place_the_later_counts(from_nothing: Refinement, truth: np.ndarray) -> None:
    row, column = middle(truth)
    for is_positive in (True, False):
        from_nothing.add_click(Click(row, column, is_positive))
        assert from_nothing.mask[int(row), int(column)] == is_positive


def test_taking_back_a_prompt_returns_to_the_mask_before_it(from_nothing: Refinement, truth: np.ndarray) -> None:
    from_nothing.set_box(box_of(truth))
    boxed, quality = from_nothing.mask, from_nothing.predicted_iou
    from_nothing.add_click(Click(*middle(~truth), True))
    assert not np.array_equal(from_nothing.mask, boxed)
    from_nothing.remove_last()
    np.testing.assert_array_equal(from_nothing.mask, boxed)
    assert from_nothing.predicted_iou == quality
    from_nothing.remove_last()
    assert from_nothing.box is None and not from_nothing.mask.any()
    from_nothing.remove_last()
    assert not from_nothing.mask.any()


def test_a_box_drawn_after_a_click_is_taken_back_first(from_nothing: Refinement, truth: np.ndarray) -> None:
    click = Click(*middle(truth), True)
    from_nothing.add_click(click)
    clicked = from_nothing.mask
    from_nothing.set_box(box_of(truth))
    from_nothing.remove_last()
    assert from_nothing.box is None and from_nothing.clicks == (click,)
    np.testing.assert_array_equal(from_nothing.mask, clicked)


def test_a_box_taken_away_leaves_the_clicks(from_nothing: Refinement, truth: np.ndarray) -> None:
    click = Click(*middle(truth), True)
    from_nothing.add_click(click)
    clicked = from_nothing.mask
    from_nothing.set_box(Box(0, 0, 40, 40))
    from_nothing.set_box(box_of(truth))
    assert from_nothing.box == box_of(truth)
    from_nothing.set_box(None)
    assert from_nothing.box is None and from_nothing.clicks == (click,)
    np.testing.assert_array_equal(from_nothing.mask, clicked)


def test_without_prompts_the_mask_is_the_one_given(
    demo_model: SurgicalSAM, embedding: np.ndarray, truth: np.ndarray
) -> None:
    for given in (truth, np.zeros(SIZE, bool)):
        refinement = Refinement(demo_model, embedding, given)
        np.testing.assert_array_equal(refinement.mask, given)
        assert refinement.clicks == () and refinement.box is None


def test_the_given_mask_and_the_preview_are_nobody_elses(
    demo_model: SurgicalSAM, embedding: np.ndarray, truth: np.ndarray
) -> None:
    given = truth.copy()
    refinement = Refinement(demo_model, embedding, given)
    given[:] = False
    refinement.mask[:] = False
    np.testing.assert_array_equal(refinement.mask, truth)


def test_a_tall_frame_is_refined_in_its_own_pixels(demo_model: SurgicalSAM) -> None:
    frame = PhantomScene(300_004, (400, 200)).frame(0)
    truth = frame.labels == np.bincount(frame.labels[frame.labels > 0]).argmax()
    refinement = Refinement(demo_model, demo_model.embed([frame.image])[0], np.zeros(truth.shape, bool))
    refinement.add_click(Click(*middle(truth), True))
    assert refinement.mask.shape == (400, 200)
    assert iou(refinement.mask, truth) > 0.4


def test_a_checkpoint_without_a_click_decoder_is_refused(embedding: np.ndarray) -> None:
    model = load_checkpoint(demo_checkpoint(), device="cpu")
    model.sam_mask_decoder = None
    with pytest.raises(CheckpointError, match="Choose a checkpoint that includes it"):
        Refinement(model, embedding, np.zeros(SIZE, bool))
