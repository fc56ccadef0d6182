"""Corrections of regions, classes and ranges of frames."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from surgicalsam_napari.editing import (
    EditOutcome,
    EditReport,
    clear_class,
    edit_frames,
    fill_class_holes,
    fill_from_previous,
    follow_region,
    grow_class,
    keep_largest_region,
    reassign_region,
    region_at,
    shrink_class,
    smooth_class,
    swap_classes,
    unlock_frames,
    verify_frames,
)
from surgicalsam_napari.editing.operations import (
    clear,
    fill,
    fill_holes,
    grow,
    keep_largest,
    reassign,
    shrink,
    smooth,
    swap,
)
from surgicalsam_napari.errors import ClassSetError, ProjectError
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.surgical_sam import FramePrediction
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.video import VideoReader

BIPOLAR, PROGRASP, DRIVER = 1, 2, 3
FRAMES = range(3, 8)


def drawn(*rows: str) -> np.ndarray:
    """A label map from digits; a dot is background."""
    return np.array([[0 if pixel == "." else int(pixel) for pixel in row] for row in rows], np.uint8)


def same(label_map: np.ndarray, *rows: str) -> bool:
    return label_map.dtype == np.uint8 and np.array_equal(label_map, drawn(*rows))


def moving(row: int, column: int, class_id: int, size: tuple[int, int] = (12, 30)) -> np.ndarray:
    """A label map with a square of 6 x 6."""
    label_map = np.zeros(size, np.uint8)
    label_map[row : row + 6, column : column + 6] = class_id
    return label_map


# ---- one region


def test_a_region_connects_pixels_at_corners_and_ends_at_another_class() -> None:
    label_map = drawn("11..", "..1.", "...2", "1...")
    assert same(region_at(label_map, 0, 0).astype(np.uint8), "11..", "..1.", "....", "....")


@pytest.mark.parametrize(
    ("row", "column", "message"), [(0, 2, "is background"), (0, 4, "got row 0, column 4"), (-1, 0, "row -1")]
)
def test_a_region_needs_a_pixel_of_an_instrument(row: int, column: int, message: str) -> None:
    with pytest.raises(ProjectError, match=message):
        region_at(drawn("11..", "...."), row, column)


def test_a_region_of_any_class_is_followed_forward_and_backward() -> None:
    maps = [moving(3, 2 + index, 1 + index % 2) for index in range(8)]
    followed = dict(follow_region(maps, 4, region_at(maps[4], 5, 8), range(1, 7)))
    assert list(followed) == [5, 6, 3, 2, 1]
    assert all(np.array_equal(region, maps[index] > 0) for index, region in followed.items())


def test_a_region_can_be_followed_in_one_class_only() -> None:
    maps = [moving(3, 2, class_id) for class_id in (1, 1, 2, 1)]
    assert [index for index, _ in follow_region(maps, 0, maps[0] > 0, range(1, 4), class_ids=(1,))] == [1]


def test_following_ends_if_the_overlap_is_too_small() -> None:
    maps = [moving(3, column, 1) for column in (2, 4, 7, 8)]  # IoU 24 of 48, then 18 of 54
    assert [index for index, _ in follow_region(maps, 0, maps[0] > 0, range(1, 4))] == [1]
    assert [index for index, _ in follow_region(maps, 0, maps[0] > 0, range(1, 4), smallest_overlap=0.3)] == [1, 2, 3]


def test_following_reads_a_frame_only_when_it_is_needed() -> None:
    class Read(list):
        asked: list[int]

        def __getitem__(self, index: Any) -> Any:
            self.asked.append(index)
            return super().__getitem__(index)

    maps = Read([moving(3, 2, 1) for _ in range(6)])
    maps.asked = []
    steps = follow_region(maps, 2, moving(3, 2, 1) > 0, range(6))
    assert maps.asked == []
    next(steps)
    assert maps.asked == [3]


def test_an_instrument_with_two_classes_is_followed_as_one() -> None:
    halves = moving(3, 2, 1)
    halves[:, 5:][halves[:, 5:] > 0] = 2
    ((_, region),) = follow_region([moving(3, 2, 1), halves], 0, moving(3, 2, 1) > 0, [1])
    assert np.array_equal(region, halves > 0)


def test_a_touching_instrument_of_the_same_class_is_not_included() -> None:
    touching = moving(3, 2, 1) | moving(3, 8, 1)
    touching[3, 14] = 1
    assert not list(follow_region([moving(3, 2, 1), touching], 0, moving(3, 2, 1) > 0, [1]))


def test_an_instrument_of_another_class_in_front_is_not_included() -> None:
    behind = moving(2, 2, 1) | moving(2, 8, 1)
    covered = behind.copy()
    covered[3:7, 5:9] = 2
    moved = behind.copy()
    moved[3:7, 7:11] = 2
    ((_, region),) = follow_region([covered, moved], 0, covered == 1, [1])
    assert np.array_equal(region, moved == 1)


# ---- one frame


def test_reassigning_changes_the_given_pixels() -> None:
    label_map = drawn("112", "11.")
    where = drawn("1.1", "..1") > 0
    assert same(reassign(label_map, where, 3), "313", "113")
    assert same(reassign(label_map, where, 0), ".1.", "11.")


def test_swapping_exchanges_only_two_classes() -> None:
    label_map = drawn("1123", "1.23")
    assert same(swap(label_map, 1, 2), "2213", "2.13")
    assert same(swap(label_map, 1, 2, where=drawn("1111", "....") > 0), "2213", "1.23")


def test_filling_replaces_the_mask_and_keeps_other_classes() -> None:
    assert same(fill(drawn("1..22", "1...."), drawn(".111.", ".33.."), 1), ".1122", ".....")


def test_clearing_removes_one_class() -> None:
    label_map = drawn("1122", "11..")
    assert same(clear(label_map, 1), "..22", "....")
    assert same(clear(label_map, 1, where=drawn("1.1.", "....") > 0), ".122", "11..")


def test_the_largest_region_and_other_classes_stay() -> None:
    label_map = drawn("11..1", "..1..", "22..1", "2...1")
    assert same(keep_largest(label_map, 1), "11...", "..1..", "22...", "2....")


def test_holes_are_background_that_a_class_surrounds() -> None:
    label_map = drawn(
        "1111.1",
        "1..111",
        "12.1.1",
        "1111.1",
        "1..111",
    )
    assert same(
        fill_holes(label_map, 1),
        "1111.1",  # open to the upper border
        "111111",
        "121111",  # another class does not change
        "111111",
        "1..111",  # open to the lower border
    )


def test_smoothing_removes_specks_fills_gaps_and_keeps_straight_outlines() -> None:
    label_map = np.zeros((40, 60), np.uint8)
    label_map[10:30, :40] = 1  # a shaft that comes in from the left
    expected = label_map.copy()
    label_map[5, 5] = 1
    label_map[20, 20] = 0
    smoothed = smooth(label_map, 1, 2)
    corners = np.zeros(label_map.shape, bool)
    corners[10:13, 37:40] = corners[27:30, 37:40] = True
    assert np.array_equal(smoothed[~corners], expected[~corners])
    assert smoothed[10, 39] == 0


def test_growing_changes_only_background_within_the_radius() -> None:
    label_map = drawn(".......", "...12..", "...12..", ".......")
    assert same(grow(label_map, 1, 1), "...1...", "..112..", "..112..", "...1...")
    assert np.array_equal(grow(label_map, 1, 3) == 2, label_map == 2)


def test_growing_a_pixel_gives_a_disk() -> None:
    label_map = np.zeros((21, 21), np.uint8)
    label_map[10, 10] = 1
    rows, columns = np.ogrid[:21, :21]
    assert np.array_equal(grow(label_map, 1, 4) > 0, (rows - 10) ** 2 + (columns - 10) ** 2 <= 16)


def test_shrinking_keeps_pixels_at_the_border_of_the_frame() -> None:
    label_map = drawn("11111.", "11111.", "11111.", "222...")
    assert same(shrink(label_map, 1, 1), "1111..", "1111..", "......", "222...")
    assert same(shrink(drawn("11", "11"), 1, 1), "11", "11")


def test_shrinking_can_remove_a_class() -> None:
    assert same(shrink(drawn("...", ".1.", "..."), 1, 1), "...", "...", "...")


@pytest.mark.parametrize("operation", [smooth, grow, shrink])
def test_a_radius_below_one_is_refused(operation: Callable[..., np.ndarray]) -> None:
    with pytest.raises(ProjectError, match="got 0"):
        operation(drawn("1"), 1, 0)


ON_ONE_CLASS = [
    partial(clear, class_id=5),
    partial(keep_largest, class_id=5),
    partial(fill_holes, class_id=5),
    partial(smooth, class_id=5, radius=2),
    partial(grow, class_id=5, radius=2),
    partial(shrink, class_id=5, radius=2),
]


@pytest.mark.parametrize("operation", ON_ONE_CLASS, ids=lambda operation: operation.func.__name__)
def test_an_absent_class_changes_nothing(operation: Callable[..., np.ndarray]) -> None:
    label_map = drawn("1122", "..22")
    assert np.array_equal(operation(label_map), label_map)


@pytest.mark.parametrize("operation", ON_ONE_CLASS, ids=lambda operation: operation.func.__name__)
def test_other_classes_and_the_input_do_not_change(operation: Callable[..., np.ndarray]) -> None:
    noise = np.random.default_rng(3).integers(0, 4, (12, 16)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
    label_map = np.array([0, 5, 2, 5], np.uint8)[noise]
    given = label_map.copy()
    edited = operation(label_map)
    assert not np.array_equal(edited, given)
    assert np.array_equal(edited == 2, given == 2)
    assert np.array_equal(label_map, given)


# ---- a range of frames in a project


@pytest.fixture
def project(clip: Path, phantom_clip: Path) -> Iterator[Project]:
    """The phantom clip with its true labels as predictions of Bipolar Forceps, Prograsp Forceps and the others."""
    with Project.create(Project.default_folder(clip), VideoReader(clip), ENDOVIS2018) as made:
        paths = sorted(phantom_clip.with_name(phantom_clip.stem + "_labels").glob("frame*.png"))
        for frame_index, path in enumerate(paths):
            predict(made, frame_index, np.asarray(Image.open(path)))
        yield made


@pytest.fixture
def squares(clip: Path) -> Iterator[Project]:
    """A square of Bipolar Forceps that moves by one pixel per frame, and a fixed square of the needle driver."""
    with Project.create(Project.default_folder(clip), VideoReader(clip), ENDOVIS2018) as made:
        for frame_index in range(12):
            size = made.labels.shape[1:]
            predict(made, frame_index, moving(20, 10 + frame_index, BIPOLAR, size) | moving(60, 60, DRIVER, size))
        yield made


def predict(project: Project, frame_index: int, label_map: np.ndarray) -> None:
    ids = project.classes.ids
    score = np.full(len(ids), 0.9, np.float32)
    present = np.isin(ids, label_map)
    project.labels.write_prediction(frame_index, FramePrediction(ids, label_map, score, score, present, 0 * score), 1)


def run(edits: Generator[EditReport, None, EditOutcome]) -> tuple[list[EditReport], EditOutcome]:
    reports = []
    while True:
        try:
            reports.append(next(edits))
        except StopIteration as end:
            return reports, end.value


def state(project: Project) -> tuple[bytes, ...]:
    """All stored labels and tables, as bytes."""
    labels = project.labels
    tables = [labels.table(name) for name in ("provenance", "predicted_iou", "presence", "contested", "predicted_by")]
    painted = [labels.painted(frame_index) for frame_index in range(len(labels))]
    return tuple(array.tobytes() for array in (labels[:], *painted, *tables))


def test_a_region_gets_its_class_in_all_requested_frames(squares: Project) -> None:
    before = squares.labels[:]
    reports, outcome = run(reassign_region(squares, 5, 22, 17, PROGRASP, FRAMES))
    assert [report.frame_index for report in reports] == [5, 6, 7, 4, 3]
    assert [(report.done, report.total) for report in reports] == [(done, 5) for done in range(1, 6)]
    assert all(report.changed_pixels == 36 for report in reports)
    assert outcome == EditOutcome(changed=(5, 6, 7, 4, 3))
    for frame_index in range(12):
        expected = PROGRASP if frame_index in FRAMES else BIPOLAR
        assert np.array_equal(squares.labels[frame_index] == expected, before[frame_index] == BIPOLAR)
    assert np.array_equal(squares.labels[:] == DRIVER, before == DRIVER)


def test_a_lost_region_is_reported(squares: Project) -> None:
    size = squares.labels.shape[1:]
    predict(squares, 6, moving(60, 60, DRIVER, size))
    reports, outcome = run(reassign_region(squares, 4, 22, 16, PROGRASP, range(12)))
    assert outcome == EditOutcome(changed=(4, 5, 3, 2, 1, 0), lost=(6,))
    assert reports[-1].done == reports[-1].total == 12
    assert np.all(squares.labels[7:] != PROGRASP)


def test_a_flickering_class_is_fixed_and_the_next_prediction_keeps_the_fix(squares: Project) -> None:
    size = squares.labels.shape[1:]
    for frame_index in (4, 6):
        predict(squares, frame_index, moving(20, 10 + frame_index, PROGRASP, size))
    _, outcome = run(reassign_region(squares, 5, 22, 17, PROGRASP, FRAMES))
    assert sorted(outcome.changed) == [3, 5, 7]
    predict(squares, 4, moving(20, 14, BIPOLAR, size))
    assert np.count_nonzero(squares.labels[4] == PROGRASP) == 36


def test_a_region_can_be_made_background(squares: Project) -> None:
    run(reassign_region(squares, 5, 62, 62, 0, (6,)))
    assert [np.any(squares.labels[index] == DRIVER) for index in (4, 5, 6, 7)] == [True, False, False, True]
    assert squares.history.to_undo.name == "Change a region to background in frames 5 to 6"


def test_a_click_on_background_adds_no_action(squares: Project) -> None:
    with pytest.raises(ProjectError, match="Click on an instrument"):
        run(reassign_region(squares, 5, 0, 0, PROGRASP, FRAMES))
    assert squares.history.to_undo is None


def test_classes_are_swapped_in_a_range(squares: Project) -> None:
    before = squares.labels[:]
    _, outcome = run(swap_classes(squares, BIPOLAR, DRIVER, FRAMES))
    assert outcome.changed == tuple(FRAMES)
    assert np.array_equal(squares.labels[3:8] == BIPOLAR, before[3:8] == DRIVER)
    assert np.array_equal(squares.labels[3:8] == DRIVER, before[3:8] == BIPOLAR)
    assert np.array_equal(squares.labels[8:], before[8:])
    assert squares.history.to_undo.name == "Swap Bipolar Forceps and Large Needle Driver in frames 3 to 7"


def test_a_range_is_filled_from_the_previous_frame(squares: Project) -> None:
    mask = squares.labels[2] == BIPOLAR
    run(fill_from_previous(squares, BIPOLAR, (5, 3, 4)))
    for frame_index in (3, 4, 5):
        assert np.array_equal(squares.labels[frame_index] == BIPOLAR, mask)
        assert np.all(squares.labels.painted(frame_index)[mask])
    assert not np.array_equal(squares.labels[6] == BIPOLAR, mask)


def test_filling_continues_from_a_verified_frame(squares: Project) -> None:
    run(verify_frames(squares, [4], [BIPOLAR]))
    verified = squares.labels[4]
    _, outcome = run(fill_from_previous(squares, BIPOLAR, range(3, 7)))
    assert outcome == EditOutcome(changed=(3, 5, 6), locked=(4,))
    assert np.array_equal(squares.labels[6] == BIPOLAR, verified == BIPOLAR)


def test_frames_are_filled_from_later_ones_at_a_distance(squares: Project) -> None:
    mask = squares.labels[10] == BIPOLAR
    reports, _ = run(fill_from_previous(squares, BIPOLAR, (0, 5), distance=-5))
    assert [report.frame_index for report in reports] == [5, 0]
    assert np.array_equal(squares.labels[0] == BIPOLAR, mask)


@pytest.mark.parametrize(
    ("class_id", "frame", "message"), [(PROGRASP, 3, "must be in frame 2"), (BIPOLAR, 0, "Frame 0 has no")]
)
def test_filling_without_a_source_changes_nothing(squares: Project, class_id: int, frame: int, message: str) -> None:
    before = state(squares)
    with pytest.raises(ProjectError, match=message):
        run(fill_from_previous(squares, class_id, [frame]))
    assert state(squares) == before


def test_an_edit_may_change_painted_pixels(squares: Project) -> None:
    squares.labels[4, 0:5, 0:5] = PROGRASP
    run(clear_class(squares, PROGRASP, [4]))
    assert not np.any(squares.labels[4] == PROGRASP)
    assert squares.labels.provenance(4, PROGRASP) == Provenance.EDITED


def test_changed_pixels_count_as_painted_and_the_next_prediction_keeps_them(squares: Project) -> None:
    label_map = squares.labels[4]
    run(clear_class(squares, BIPOLAR, [4]))
    assert np.array_equal(squares.labels.painted(4), label_map == BIPOLAR)
    predict(squares, 4, label_map)
    assert not np.any(squares.labels[4] == BIPOLAR)
    assert squares.labels.provenance(4, DRIVER) == Provenance.PREDICTED


def test_verified_classes_do_not_change_and_are_counted(squares: Project) -> None:
    refused: list[int] = []
    squares.labels.refused.connect(refused.append)
    run(verify_frames(squares, (4, 6), [BIPOLAR]))
    before = squares.labels[:]
    reports, outcome = run(swap_classes(squares, BIPOLAR, DRIVER, FRAMES))
    assert outcome == EditOutcome(changed=(3, 5, 7), locked=(4, 6))
    assert [report.frame_index for report in reports if report.is_locked] == [4, 6]
    for frame_index in (4, 6):
        assert np.array_equal(squares.labels[frame_index], before[frame_index])
        assert not np.any(squares.labels.painted(frame_index))
    assert refused == []


def test_a_region_is_not_reassigned_to_a_verified_class(squares: Project) -> None:
    run(verify_frames(squares, [6], [PROGRASP]))  # verified as absent
    _, outcome = run(reassign_region(squares, 5, 22, 17, PROGRASP, FRAMES))
    assert outcome.locked == (6,)
    assert sorted(outcome.changed) == [3, 4, 5, 7]


def test_an_edit_of_another_class_is_not_blocked_by_a_verified_class(squares: Project) -> None:
    run(verify_frames(squares, FRAMES, [BIPOLAR]))
    _, outcome = run(clear_class(squares, DRIVER, FRAMES))
    assert outcome == EditOutcome(changed=tuple(FRAMES))


def test_only_unverified_classes_of_a_frame_change(squares: Project) -> None:
    refused: list[int] = []
    squares.labels.refused.connect(refused.append)
    run(verify_frames(squares, [4], [BIPOLAR]))
    before = squares.labels[4]
    reports, outcome = run(edit_frames(squares, "Clear all", [4], np.zeros_like))
    assert outcome == EditOutcome(changed=(4,), locked=(4,))
    assert reports[0].changed_pixels == 36
    assert np.array_equal(squares.labels[4], np.where(before == BIPOLAR, before, 0))
    assert refused == []


def test_frames_are_verified_and_unlocked_as_one_action(squares: Project) -> None:
    before = state(squares)
    _, outcome = run(verify_frames(squares, FRAMES))
    assert outcome.changed == tuple(FRAMES)
    assert np.all(squares.labels.provenance_table()[3:8] == Provenance.VERIFIED)
    assert squares.history.to_undo.name == "Verify all in frames 3 to 7"
    assert run(verify_frames(squares, range(2, 4)))[1].changed == (2,)
    _, outcome = run(unlock_frames(squares, range(12), [BIPOLAR]))
    assert outcome.changed == (2, *FRAMES)
    assert np.all(squares.labels.provenance_table()[:, BIPOLAR - 1] == Provenance.PREDICTED)
    for _ in range(3):
        squares.history.undo()
    assert state(squares) == before


ACTIONS: dict[str, Callable[[Project], Any]] = {
    "reassign": lambda project: reassign_region(project, 5, *pixel_of(project, 5, 4), PROGRASP, FRAMES),
    "swap": lambda project: swap_classes(project, 4, 3, FRAMES),
    "fill": lambda project: fill_from_previous(project, 4, FRAMES),
    "clear": lambda project: clear_class(project, 4, FRAMES),
    "largest": lambda project: keep_largest_region(project, 4, FRAMES),
    "holes": lambda project: fill_class_holes(project, 4, FRAMES),
    "smooth": lambda project: smooth_class(project, 4, FRAMES, 2),
    "grow": lambda project: grow_class(project, 4, FRAMES, 2),
    "shrink": lambda project: shrink_class(project, 4, FRAMES, 2),
    "custom": lambda project: edit_frames(project, "Flip", FRAMES, lambda label_map: label_map[:, ::-1]),
}


def pixel_of(project: Project, frame_index: int, class_id: int) -> tuple[int, int]:
    row, column = np.argwhere(project.labels[frame_index] == class_id)[20]
    return int(row), int(column)


@pytest.mark.parametrize("name", ACTIONS)
def test_undo_restores_exactly_the_previous_state(project: Project, name: str) -> None:
    for frame_index in FRAMES:  # so that each action changes something
        row, column = pixel_of(project, frame_index, 4)
        project.labels[frame_index, 0:2, 0:2] = 4
        project.labels[frame_index, row + 2, column] = 0
        project.labels[frame_index, 90:96, 0:5] = 4
        project.labels[frame_index, 92:94, 2] = 0
    before = state(project)
    _, outcome = run(ACTIONS[name](project))
    assert set(outcome.changed) == set(FRAMES)
    after = state(project)
    assert after != before
    project.history.undo()
    assert state(project) == before
    project.history.redo()
    assert state(project) == after


def test_frames_edited_before_an_early_close_stay_edited_as_one_action(squares: Project) -> None:
    before = state(squares)
    edits = clear_class(squares, BIPOLAR, FRAMES)
    next(edits), next(edits)
    edits.close()
    assert [np.any(squares.labels[index] == BIPOLAR) for index in (3, 4, 5)] == [False, False, True]
    assert squares.history.to_undo.frame_count == 2
    squares.history.undo()
    assert state(squares) == before


def test_an_edit_without_changes_adds_no_action(squares: Project) -> None:
    reports, outcome = run(clear_class(squares, PROGRASP, FRAMES))
    assert [report.changed_pixels for report in reports] == [0] * 5
    assert outcome == EditOutcome()
    assert squares.history.to_undo is None


def test_a_stroke_between_two_frames_of_an_edit_is_kept(squares: Project) -> None:
    edits = swap_classes(squares, BIPOLAR, DRIVER, (3, 4))
    next(edits)
    squares.labels[4, 0:3, 0:3] = PROGRASP
    run(edits)
    assert np.all(squares.labels[4, 0:3, 0:3] == PROGRASP)
    assert squares.labels[4, 62, 62] == BIPOLAR


@pytest.mark.parametrize(
    ("start", "error", "message"),
    [
        (lambda project: clear_class(project, BIPOLAR, []), ProjectError, "at least one frame"),
        (lambda project: clear_class(project, BIPOLAR, [3, 12]), ProjectError, "frames 0 to 11; got 12"),
        (lambda project: clear_class(project, 9, [3]), ClassSetError, "No class has the id 9"),
        (lambda project: swap_classes(project, BIPOLAR, BIPOLAR, [3]), ClassSetError, "two different classes"),
        (lambda project: reassign_region(project, 3, 22, 15, 9), ClassSetError, "No class has the id 9"),
        (lambda project: verify_frames(project, [3], [9]), ClassSetError, "No class has the id 9"),
    ],
    ids=["no frame", "frame", "class", "swap", "reassign", "verify"],
)
def test_an_invalid_edit_is_refused_before_anything_changes(
    squares: Project, start: Callable[[Project], Any], error: type[Exception], message: str
) -> None:
    before = state(squares)
    with pytest.raises(error, match=message):
        run(start(squares))
    assert state(squares) == before


def test_an_action_names_its_frames(squares: Project) -> None:
    for frames, text in (((4,), "frame 4"), ((5, 4, 6), "frames 4 to 6"), ((0, 2, 8), "3 frames from 0 to 8")):
        run(grow_class(squares, BIPOLAR, frames, 1))
        assert squares.history.to_undo.name == f"Grow Bipolar Forceps in {text}"
