"""Tables of a whole video in bins: important frames stay visible."""

from __future__ import annotations

import numpy as np
import pytest

from surgicalsam_napari.review.overview import NOT_PREDICTED, QUALITY_LEVELS, Overview, binned_marks, quality_level
from surgicalsam_napari.store import Provenance

FRAMES, CLASSES = 1000, 3
EDGES = np.array([0, 250, 600, 1000])
BEST, WORST = QUALITY_LEVELS - 1, 0


@pytest.fixture
def tables() -> tuple[np.ndarray, np.ndarray]:
    """Every class is predicted in every frame, with high quality."""
    shape = (FRAMES, CLASSES)
    return np.full(shape, Provenance.PREDICTED, dtype=np.uint8), np.full(shape, 0.99, dtype=np.float32)


def occurring(kinds: np.ndarray) -> list[list[Provenance]]:
    return [[provenance for provenance in Provenance if kind >> provenance & 1] for kind in kinds]


@pytest.mark.parametrize("provenance", [Provenance.EDITED, Provenance.VERIFIED, Provenance.ABSENT])
def test_one_frame_among_hundreds_stays_visible(tables, provenance: Provenance) -> None:
    tables[0][420, 1] = provenance
    kinds, _ = Overview(*tables).binned(EDGES)
    only = [Provenance.PREDICTED]
    assert occurring(kinds[1]) == [only, sorted([Provenance.PREDICTED, provenance]), only]
    assert occurring(kinds[0]) == [only, only, only]


def test_a_bin_shows_its_worst_prediction(tables) -> None:
    tables[1][700, 2] = 0.3
    _, levels = Overview(*tables).binned(EDGES)
    assert levels[2].tolist() == [BEST, BEST, WORST]
    assert levels[0].tolist() == [BEST, BEST, BEST]


def test_the_quality_of_edited_labels_does_not_count(tables) -> None:
    tables[0][:, 0], tables[1][:, 0] = Provenance.EDITED, 0.1
    _, levels = Overview(*tables).binned(EDGES)
    assert levels[0].tolist() == [NOT_PREDICTED] * 3


def test_bins_of_one_frame_equal_the_tables(tables) -> None:
    tables[0][10:14, 0] = (0, 1, 3, 4)
    kinds, levels = Overview(*tables).binned(np.arange(9, 16))
    assert kinds[0].tolist() == [4, 1, 2, 8, 16, 4]
    assert levels[0].tolist() == [BEST, *[NOT_PREDICTED] * 4, BEST]


def test_changed_rows_are_binned_like_initial_rows(tables) -> None:
    rng = np.random.default_rng(0)
    overview = Overview(*tables)
    frames = [3, 599, 600, 999]
    tables[0][frames] = rng.integers(0, len(Provenance), (4, CLASSES))
    tables[1][frames] = rng.random((4, CLASSES))
    overview.update(frames, tables[0][frames], tables[1][frames])
    for actual, expected in zip(overview.binned(EDGES), Overview(*tables).binned(EDGES), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_the_tables_of_the_caller_do_not_change(tables) -> None:
    overview = Overview(*tables)
    overview.update([0], np.full((1, CLASSES), 4), np.full((1, CLASSES), 0.1))
    assert tables[0][0, 0] == Provenance.PREDICTED and tables[1][0, 0] == np.float32(0.99)


def test_quality_goes_from_half_to_one_in_even_steps() -> None:
    assert quality_level(np.array([0.0, 0.5, 0.75, 1.0])).tolist() == [WORST, WORST, QUALITY_LEVELS // 2, BEST]


def test_an_unknown_quality_is_neither_good_nor_bad() -> None:
    assert WORST < quality_level(np.array([np.nan]))[0] < BEST


def test_a_tally_has_the_counts_and_the_worst_frame(tables) -> None:
    tables[0][300:310, 0] = Provenance.VERIFIED
    tables[1][444, 0] = 0.41
    tally = Overview(*tables).tally(0, range(250, 600))
    assert tally.counts == {Provenance.PREDICTED: 340, Provenance.VERIFIED: 10}
    assert tally.lowest_frame == 444 and tally.lowest_iou == pytest.approx(0.41)


@pytest.mark.parametrize(
    ("rare", "common", "expected"),
    [
        (Provenance.EDITED, Provenance.ABSENT, 77),
        (Provenance.VERIFIED, Provenance.EMPTY, 77),
        (Provenance.ABSENT, Provenance.EMPTY, 77),
        (Provenance.EDITED, Provenance.VERIFIED, 77),
        (Provenance.PREDICTED, Provenance.EDITED, 77),
    ],
)
def test_the_frame_to_look_at_is_the_one_that_stands_out(tables, rare, common, expected) -> None:
    tables[0][:], tables[1][:] = common, np.nan
    tables[0][77] = rare
    assert Overview(*tables).frame_to_look_at(0, range(50, 100)) == expected


def test_the_highest_mark_of_a_bin_counts() -> None:
    marks = np.full(FRAMES, np.nan)
    marks[[300, 301]] = 0.2, 0.9
    np.testing.assert_array_equal(binned_marks(marks, EDGES), [np.nan, 0.9, np.nan])


def test_tables_of_different_shapes_are_refused(tables) -> None:
    with pytest.raises(ValueError, match=r"\(1000, 3\).*\(999, 3\)"):
        Overview(tables[0], tables[1][:-1])
