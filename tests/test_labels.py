"""The label store: pixels of a person stay, whatever is predicted, undone or killed."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from surgicalsam_napari import files
from surgicalsam_napari.errors import ClassSetError, DiskSpaceError, ProjectError
from surgicalsam_napari.instruments import ENDOVIS2018, ClassSet, InstrumentClass
from surgicalsam_napari.store import LabelStore, Provenance, ViewerLabels
from surgicalsam_napari.store.project_classes import ProjectClasses

SHAPE = (6, 32, 48)


def open_labels(folder: Path, shape: tuple[int, int, int] = SHAPE) -> LabelStore:
    if not (folder / "labels").exists():
        LabelStore.create(folder, shape, ENDOVIS2018)
    return LabelStore(folder, shape, ENDOVIS2018)


@pytest.fixture
def labels(tmp_path: Path) -> Iterator[LabelStore]:
    store = open_labels(tmp_path)
    yield store
    store.close()


def box(rows: slice, columns: slice, class_id: int, size: tuple[int, int] = SHAPE[1:]) -> np.ndarray:
    label_map = np.zeros(size, np.uint8)
    label_map[rows, columns] = class_id
    return label_map


def predicted(label_map: np.ndarray, *class_ids: int, iou: float | list[float] = 0.9) -> Any:
    """A FramePrediction of these classes; a class is present if it is in the label map."""
    present = np.array([bool(np.any(label_map == class_id)) for class_id in class_ids])
    return SimpleNamespace(
        class_ids=class_ids,
        label_map=label_map,
        predicted_iou=np.broadcast_to(np.float32(iou), len(class_ids)),
        presence=present.astype(np.float32),
        present=present,
        contested=np.zeros(len(class_ids), np.float32),
    )


LEFT, RIGHT, TOP = slice(0, 24), slice(24, 48), slice(0, 16)
ALL = slice(None)


# ---- edits by a person


def test_painting_marks_the_class_written_and_the_one_overwritten(labels: LabelStore) -> None:
    labels.write_prediction(2, predicted(box(ALL, LEFT, 1), 1, 2))
    labels[2, 0:4, 0:4] = 3
    assert labels.provenance(2, 3) == Provenance.EDITED
    assert labels.provenance(2, 1) == Provenance.EDITED
    assert labels.provenance(2, 2) == Provenance.ABSENT
    assert np.count_nonzero(labels.painted(2)) == 16


def test_only_pixels_that_change_are_painted_when_a_viewer_writes_back_a_box(labels: LabelStore) -> None:
    labels.write_prediction(0, predicted(box(ALL, LEFT, 1) | box(ALL, RIGHT, 2), 1, 2))
    region = labels[0:1, 0:10, 20:30]
    region[0, 5, 5] = 3  # was 2
    labels[0:1, 0:10, 20:30] = region
    assert np.argwhere(labels.painted(0)).tolist() == [[5, 25]]
    assert labels.is_edited(0, 2)
    assert labels.is_edited(0, 3)
    assert not labels.is_edited(0, 1)


def test_prediction_keeps_painted_pixels_also_those_painted_as_background(labels: LabelStore) -> None:
    labels.write_prediction(1, predicted(box(TOP, ALL, 1), 1))
    labels[1, 0:4, 0:4] = 0
    labels[1, 30, 40] = 5
    labels.write_prediction(1, predicted(np.full(SHAPE[1:], 2, np.uint8), 1, 2, 5))
    expected = np.full(SHAPE[1:], 2)
    expected[0:4, 0:4] = 0
    expected[30, 40] = 5
    np.testing.assert_array_equal(labels[1], expected)
    assert labels.is_edited(1, 1)
    assert labels.is_edited(1, 5)
    assert labels.provenance(1, 2) == Provenance.PREDICTED


def test_background_set_on_an_empty_frame_stays_background(labels: LabelStore) -> None:
    labels[4, TOP, :] = 0
    labels.write_prediction(4, predicted(np.full(SHAPE[1:], 7, np.uint8), 7))
    assert not labels[4, TOP].any()
    assert np.all(labels[4, 16:] == 7)


def test_an_edited_class_keeps_its_provenance_when_it_is_predicted_again(labels: LabelStore) -> None:
    labels[0, 0, 0] = 1
    assert labels.write_prediction(0, predicted(box(ALL, RIGHT, 1), 1, iou=0.5), checkpoint=3)
    assert labels.is_edited(0, 1)
    assert labels.predicted_iou(0, 1) == 0.5
    assert labels.prediction_checkpoint(0, 1) == 3
    labels.write_prediction(0, predicted(np.zeros(SHAPE[1:], np.uint8), 1))
    assert labels.is_edited(0, 1)
    assert np.argwhere(labels[0]).tolist() == [[0, 0]]


def test_a_verified_class_is_neither_changed_nor_covered(labels: LabelStore) -> None:
    labels.write_prediction(3, predicted(box(ALL, LEFT, 1), 1, iou=0.1))
    labels.verify(3, [1])
    assert not labels.write_prediction(3, predicted(box(ALL, RIGHT, 1), 1, iou=0.9), checkpoint=2)
    labels.write_prediction(3, predicted(np.full(SHAPE[1:], 2, np.uint8), 1, 2, iou=0.99))
    np.testing.assert_array_equal(labels[3], box(ALL, LEFT, 1) | box(ALL, RIGHT, 2))
    assert labels.provenance(3, 1) == Provenance.VERIFIED
    assert labels.predicted_iou(3, 1) == pytest.approx(0.1)
    assert labels.prediction_checkpoint(3, 1) == 0


def test_verifying_all_classes_confirms_absence_too(labels: LabelStore) -> None:
    labels.verify(3)
    assert set(labels.provenance_table()[3]) == {Provenance.VERIFIED}
    assert not labels.write_prediction(3, predicted(box(ALL, LEFT, 1), *ENDOVIS2018.ids))
    assert not labels[3].any()


def test_a_verified_class_is_locked_until_it_is_unlocked(labels: LabelStore) -> None:
    labels[3, 0:4, 0:4] = 2
    labels.verify(3, [2])
    refused: list[int] = []
    labels.refused.connect(refused.append)
    labels[3, 2:6, 0:4] = 5
    assert refused == [3]
    assert np.all(labels[3, 0:4, 0:4] == 2)
    assert np.all(labels[3, 4:6, 0:4] == 5)
    assert labels.provenance(3, 2) == Provenance.VERIFIED
    labels[3, 10, 10] = 2
    assert labels[3, 10, 10] == 0
    labels.unlock(3, [2])
    assert labels.is_edited(3, 2)
    labels[3, 10, 10] = 2
    assert labels[3, 10, 10] == 2


def test_a_verified_frame_is_locked_with_its_background(labels: LabelStore) -> None:
    labels.verify(3)
    labels[3, 1, 1] = 4
    assert labels.write_edit(3, box(ALL, LEFT, 1)) == 0
    assert not labels[3].any()
    assert labels.locked_class_ids(3) == list(ENDOVIS2018.ids)
    labels.unlock(3)
    assert not labels.provenance_table().any()


def test_unlocked_predictions_are_predictions_again(labels: LabelStore) -> None:
    labels.write_prediction(2, predicted(box(ALL, LEFT, 1), 1, 2))
    labels.verify(2)
    labels.unlock(2)
    assert labels.provenance(2, 1) == Provenance.PREDICTED
    assert labels.provenance(2, 2) == Provenance.ABSENT
    assert labels.provenance(2, 3) == Provenance.EMPTY


def test_unlocking_marks_only_the_classes_as_edited_that_a_person_edited(labels: LabelStore) -> None:
    labels.write_prediction(2, predicted(box(ALL, LEFT, 1) | box(ALL, RIGHT, 4), 1, 2, 4))
    labels[2, 0:4, 0:4] = 3  # 3 gains pixels, and 1 loses them
    before = labels.provenance_table()[2].tolist()
    for _ in range(2):
        labels.verify(2, [3, 4])
        labels.verify(2)
        labels.unlock(2)
        assert labels.provenance_table()[2].tolist() == before


def test_classes_verified_by_an_earlier_version_are_unlocked_as_their_pixels_show(
    tmp_path: Path, labels: LabelStore
) -> None:
    labels.write_prediction(2, predicted(box(ALL, LEFT, 1), 1, 2))
    labels[2, 0:4, 0:4] = 3
    labels.verify(2)
    labels.close()
    shutil.rmtree(tmp_path / "before_verified")
    shutil.rmtree(tmp_path / "checksums")  # that version had none, either
    again = LabelStore(tmp_path, SHAPE, ENDOVIS2018, has_checksums=False)
    again.unlock(2)
    kinds = Provenance.PREDICTED, Provenance.ABSENT, Provenance.EDITED, Provenance.EMPTY
    assert tuple(again.provenance_table()[2, :4]) == kinds
    again.close()


def test_pixels_that_a_person_confirmed_count_as_painted_although_they_do_not_change(labels: LabelStore) -> None:
    labels.write_prediction(2, predicted(box(ALL, LEFT, 1), 1))
    assert labels.write_edit(2, labels[2], decided=labels[2] == 1) == 0
    assert labels.is_edited(2, 1)
    labels.write_prediction(2, predicted(box(ALL, RIGHT, 1), 1))
    assert np.all(labels[2] == 1)


def test_painting_with_an_unknown_label_changes_nothing(labels: LabelStore) -> None:
    with pytest.raises(ClassSetError, match="has the label 9; its classes are 1 Bipolar Forceps"):
        labels[0, 0:3, 0:3] = 9
    with pytest.raises(ClassSetError, match="label -1"):
        labels[0, 0, 0] = -1
    with pytest.raises(ClassSetError, match="whole numbers"):
        labels[0, 0, 0] = 1.5
    assert not labels[0].any()
    assert not labels.provenance_table().any()


def test_edited_signals_the_changed_frames(labels: LabelStore) -> None:
    emitted: list[int] = []
    labels.edited.connect(emitted.append)
    labels[1:3, 0, 0] = 2
    labels[1:3, 0:1, 0:1] = np.full((2, 1, 1), 2)  # no change
    labels.write_prediction(5, predicted(box(ALL, LEFT, 1), 1))
    labels.write_edit(4, box(ALL, LEFT, 1))
    assert emitted == [1, 2, 4]


def predict_in_background(labels: LabelStore, class_id: int = 1, frame_index: int = 0) -> None:
    prediction = predicted(box(ALL, ALL, class_id), class_id)
    worker = threading.Thread(target=labels.write_prediction, args=(frame_index, prediction))
    worker.start()
    worker.join()


BETWEEN: dict[str, Callable[[ViewerLabels], Any]] = {
    "nothing": lambda viewer: None,
    "more than a second": lambda viewer: time.sleep(1.2),
    "display of the same frame": lambda viewer: [viewer[0], np.asarray(viewer[0:1]), viewer[0, 2, 2]],
    "display of another frame": lambda viewer: viewer[3],
    "an edit without the viewer": lambda viewer: viewer.store.write_edit(4, box(ALL, LEFT, 1)),
    "display in another thread": lambda viewer: in_thread(lambda: viewer[0]),
}


def in_thread(action: Callable[[], Any]) -> None:
    thread = threading.Thread(target=action)
    thread.start()
    thread.join()


@pytest.mark.parametrize("between", BETWEEN)
def test_a_prediction_between_read_and_write_of_a_viewer_is_kept(labels: LabelStore, between: str) -> None:
    viewer = ViewerLabels(labels)
    region = viewer[0:1, 0:8, 0:8]
    BETWEEN[between](viewer)
    predict_in_background(labels)
    BETWEEN[between](viewer)
    region[0, 2, 2] = 6
    viewer[0:1, 0:8, 0:8] = region
    expected = np.ones(SHAPE[1:])
    expected[2, 2] = 6
    np.testing.assert_array_equal(labels[0], expected)
    assert np.count_nonzero(labels.painted(0)) == 1


def test_a_viewer_may_write_back_a_part_of_what_it_read(labels: LabelStore) -> None:
    viewer = ViewerLabels(labels)
    frame = viewer[0]
    predict_in_background(labels)
    part = np.expand_dims(frame[4:12, 6:20], 0)  # as napari's fill does
    part[0, 0, 0] = 6
    viewer[0:1, 4:12, 6:20] = part
    assert labels[0, 4, 6] == 6
    assert np.count_nonzero(labels[0] == 1) == frame.size - 1
    assert np.count_nonzero(labels.painted(0)) == 1


def test_a_viewer_may_write_back_a_region_of_several_frames(labels: LabelStore) -> None:
    viewer = ViewerLabels(labels)
    regions = viewer[0:3, 0:8, 0:8]
    predict_in_background(labels, frame_index=1)
    regions[:, 2, 2] = 6
    viewer[0:3, 0:8, 0:8] = regions
    assert [int(labels[t, 2, 2]) for t in range(4)] == [6, 6, 6, 0]
    assert [int(labels[t, 3, 3]) for t in range(4)] == [0, 1, 0, 0]


def test_two_viewers_keep_the_strokes_of_each_other(labels: LabelStore) -> None:
    first, second = ViewerLabels(labels), ViewerLabels(labels)
    seen_by_first, seen_by_second = first[0:1, 0:8, 0:8], second[0:1, 0:8, 0:8]
    seen_by_first[0, 2, 2] = 6
    first[0:1, 0:8, 0:8] = seen_by_first
    seen_by_second[0, 5, 5] = 3
    second[0:1, 0:8, 0:8] = seen_by_second
    assert labels[0, 2, 2] == 6
    assert labels[0, 5, 5] == 3
    assert np.count_nonzero(labels.painted(0)) == 2


def test_assigning_a_region_read_before_a_stroke_removes_the_stroke(labels: LabelStore) -> None:
    for array in (labels, ViewerLabels(labels)):
        kept = array[0]
        array[0, 2:5, 2:5] = 6
        array[0] = kept
        assert not labels[0].any()


def test_a_region_read_and_assigned_without_a_viewer_is_set_as_in_a_numpy_array(labels: LabelStore) -> None:
    kept = labels[0]
    predict_in_background(labels)
    labels[0] = kept
    assert not labels[0].any()
    assert labels.painted(0).all()


def test_a_copy_of_a_region_that_a_viewer_read_is_set_as_in_a_numpy_array(labels: LabelStore) -> None:
    viewer = ViewerLabels(labels)
    kept = viewer[0].copy()
    predict_in_background(labels)
    viewer[0] = kept
    assert not labels[0].any()


def test_a_viewer_remembers_only_the_regions_it_keeps(labels: LabelStore) -> None:
    viewer = ViewerLabels(labels)
    kept = [viewer[0], viewer[0:2]]
    for frame_index in range(6):
        viewer[frame_index, 0:8]
    assert len(viewer._regions_read) == 2
    kept.clear()
    assert not viewer._regions_read


@pytest.mark.parametrize("brush", [1, 5])
def test_undo_and_redo_change_only_the_stroke_although_a_prediction_came_later(labels: LabelStore, brush: int) -> None:
    layer = pytest.importorskip("napari.layers").Labels(ViewerLabels(labels))
    layer.brush_size = brush
    layer.paint((0, 20, 20), 3)
    stroke = labels.painted(0)
    predict_in_background(labels)
    layer.undo()
    np.testing.assert_array_equal(labels[0], np.where(stroke, 0, 1))
    predict_in_background(labels, 2)
    layer.redo()
    np.testing.assert_array_equal(labels[0][stroke], 3)
    assert not np.any(labels[0][~stroke] == 3)
    layer.data_setitem((np.array([0, 0]), np.array([2, 3]), np.array([4, 5])), 6)
    predict_in_background(labels, 4)
    layer.undo()
    assert labels[0, 2, 4] != 6
    assert labels[0, 3, 5] != 6
    layer.redo()
    assert labels[0, 2, 4] == labels[0, 3, 5] == 6
    np.testing.assert_array_equal(labels[0][stroke], 3)
    assert np.count_nonzero(labels.painted(0)) == np.count_nonzero(stroke) + 2


def test_napari_paints_fills_erases_and_undoes_through_the_store(labels: LabelStore) -> None:
    layers = pytest.importorskip("napari.layers")
    labels.write_prediction(0, predicted(box(TOP, ALL, 1), 1))
    before = labels[0]
    layer = layers.Labels(ViewerLabels(labels))
    layer.brush_size = 4

    layer.paint((0, 20, 20), 3)
    assert labels[0, 20, 20] == 3
    painted = labels.painted(0)
    assert 4 <= np.count_nonzero(painted) <= 25
    assert labels.is_edited(0, 3)
    assert not labels.is_edited(0, 1)

    layer.undo()
    np.testing.assert_array_equal(labels[0], before)
    assert not labels.is_edited(0, 3)
    assert not labels.painted(0).any()
    layer.redo()
    assert labels[0, 20, 20] == 3
    assert labels.is_edited(0, 3)
    np.testing.assert_array_equal(labels.painted(0), painted)

    layer.fill((0, 0, 0), 4)
    assert np.all(labels[0, TOP] == 4)
    assert labels.is_edited(0, 1)
    layer.paint((0, 8, 8), 0)
    assert labels[0, 8, 8] == 0
    layer.data_setitem((np.array([0, 1]), np.array([30, 31]), np.array([40, 41])), 5)
    assert labels.is_edited(1, 5)
    final = labels[0]
    labels.write_prediction(0, predicted(np.full(SHAPE[1:], 7, np.uint8), 1, 3, 4, 5, 7))
    mask = labels.painted(0)
    np.testing.assert_array_equal(labels[0][mask], final[mask])
    assert np.all(labels[0][~mask] == 7)


def contents(folder: Path) -> dict[str, bytes]:
    """All that is stored about the labels, by file; files that hold only fill values are left out."""
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("c.*")}
    return {name: content for name, content in files.items() if name.startswith(("labels/", "painted/")) or any(content)}


@pytest.mark.parametrize("is_predicted", [False, True])
def test_a_stroke_and_its_undo_leave_the_frame_as_it_was_also_on_disk(
    tmp_path: Path, labels: LabelStore, is_predicted: bool
) -> None:
    if is_predicted:
        labels.write_prediction(0, predicted(box(TOP, ALL, 1), 1, 2))
    before = contents(tmp_path)
    layer = pytest.importorskip("napari.layers").Labels(ViewerLabels(labels))
    layer.brush_size = 5
    with layer.block_history():  # a drag over the border of the prediction
        for row in range(10, 24, 2):
            layer.paint((0, row, 20), 3)
    layer.fill((0, 0, 0), 5)
    layer.paint((0, 16, 20), 0)
    painted = contents(tmp_path)
    for _ in range(3):
        layer.undo()
    assert contents(tmp_path) == before
    for _ in range(3):
        layer.redo()
    assert contents(tmp_path) == painted
    for _ in range(3):
        layer.undo()
    labels.close()
    again = open_labels(tmp_path)
    assert not np.isin(again.provenance_table(), [Provenance.EDITED, Provenance.VERIFIED]).any()
    assert not again.painted(0).any()
    again.close()


def test_undo_of_a_stroke_keeps_what_a_person_did_before_it(labels: LabelStore) -> None:
    layer = pytest.importorskip("napari.layers").Labels(ViewerLabels(labels))
    layer.brush_size = 5
    layer.paint((0, 10, 10), 3)
    first = labels[0]
    layer.paint((0, 10, 13), 3)
    layer.undo()
    np.testing.assert_array_equal(labels[0], first)
    assert labels.is_edited(0, 3)
    np.testing.assert_array_equal(labels.painted(0), first == 3)


def test_undo_of_a_stroke_leaves_a_later_edit_of_the_frame_edited(labels: LabelStore) -> None:
    layer = pytest.importorskip("napari.layers").Labels(ViewerLabels(labels))
    layer.paint((0, 10, 10), 3)
    labels[0, 25:30, 25:30] = 3
    layer.undo()
    assert labels[0, 10, 10] == 0
    assert labels.is_edited(0, 3)
    assert labels.painted(0)[25:30, 25:30].all()


def test_a_stroke_is_undone_completely_after_a_class_was_added(labels: LabelStore) -> None:
    layer = pytest.importorskip("napari.layers").Labels(ViewerLabels(labels))
    layer.paint((0, 10, 10), 3)
    more = ProjectClasses.of(ClassSet("more", (*ENDOVIS2018, InstrumentClass(8, "Swab", "#ffffff"))))
    labels.add_columns(more)
    labels.use_classes(more)
    layer.undo()
    assert not labels.provenance_table().any()
    assert not labels.painted(0).any()


def test_a_class_predicted_after_a_stroke_is_a_prediction_when_the_stroke_is_undone(labels: LabelStore) -> None:
    layer = pytest.importorskip("napari.layers").Labels(ViewerLabels(labels))
    layer.paint((0, 10, 10), 3)
    labels.write_prediction(0, predicted(box(slice(20, 30), ALL, 3), 3, 4))
    layer.undo()
    assert labels.provenance(0, 3) == Provenance.PREDICTED
    assert labels.provenance(0, 4) == Provenance.ABSENT
    assert not labels.painted(0).any()


# ---- predictions


def test_prediction_replaces_only_the_prompted_classes(labels: LabelStore) -> None:
    labels.write_prediction(0, predicted(box(TOP, LEFT, 1) | box(TOP, RIGHT, 2), 1, 2))
    assert labels.write_prediction(0, predicted(box(slice(20, 30), ALL, 2), 2))
    np.testing.assert_array_equal(labels[0], box(TOP, LEFT, 1) | box(slice(20, 30), ALL, 2))
    assert not labels.write_prediction(0, predicted(box(slice(20, 30), ALL, 2), 2))
    labels.write_prediction(0, predicted(box(TOP, LEFT, 0), 1))
    assert labels.provenance(0, 1) == Provenance.ABSENT
    assert 1 not in labels[0]


@pytest.mark.parametrize(
    ("first_iou", "second_iou", "first", "second", "on_top"),
    [(0.9, 0.5, 1, 2, 1), (0.5, 0.9, 1, 2, 2), (0.5, 0.5, 1, 2, 2), (0.5, 0.5, 2, 1, 2)],
)
def test_overlap_goes_to_the_higher_predicted_iou_then_to_the_higher_class_id(
    labels: LabelStore, first_iou: float, second_iou: float, first: int, second: int, on_top: int
) -> None:
    labels.write_prediction(0, predicted(box(ALL, slice(0, 30), first), first, iou=first_iou))
    labels.write_prediction(0, predicted(box(ALL, slice(20, 48), second), second, iou=second_iou))
    assert np.all(labels[0, :, 20:30] == on_top)
    assert np.all(labels[0, :, :20] == first)
    assert np.all(labels[0, :, 30:] == second)


def test_prediction_of_a_wrong_size_or_class_is_refused(labels: LabelStore) -> None:
    with pytest.raises(ProjectError, match="32 x 48"):
        labels.write_prediction(0, predicted(np.ones((8, 8), np.uint8), 1))
    with pytest.raises(ClassSetError, match="No class has the id 9"):
        labels.write_prediction(0, predicted(box(ALL, LEFT, 9), 9))
    with pytest.raises(ProjectError, match="frames 0 to 5; got 6"):
        labels.write_prediction(6, predicted(box(ALL, LEFT, 1), 1))


# ---- array-like


KEYS = [
    2,
    -1,
    np.int64(3),
    (2, 5),
    (2, slice(3, 9), slice(None, None, 3)),
    (slice(1, 4), 5),
    (slice(4, 1, -1), slice(30, 2, -2), slice(0, 9)),
    ...,
    (..., 7),
    (1, ...),
    (1, 2, 3),
    (np.array([0, 2, 2]), np.array([1, 30, 4]), np.array([9, 8, 47])),
    ([0, 3],),
    (slice(0, 3), np.array([1, 5]), np.array([2, 3])),
    (4, np.array([1, 5]), slice(0, 4)),
    np.arange(SHAPE[0]) % 2 == 0,
    slice(3, 3),
]


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_indexing_reads_and_writes_as_numpy_does(labels: LabelStore, key: Any) -> None:
    random_labels = np.random.default_rng(0).integers(0, 8, SHAPE).astype(np.uint8)
    labels[:] = random_labels
    np.testing.assert_array_equal(labels[key], random_labels[key])
    assert np.shape(labels[key]) == np.shape(random_labels[key])
    random_labels[key] = new = (7 - random_labels[key]).astype(np.uint8)
    labels[key] = new
    np.testing.assert_array_equal(np.asarray(labels), random_labels)
    random_labels[key] = 4
    labels[key] = 4
    np.testing.assert_array_equal(labels[:], random_labels)
    assert np.all(np.concatenate([labels.painted(t)[None] for t in range(6)])[key])


def test_indexing_outside_the_video_fails_as_numpy_does(labels: LabelStore) -> None:
    for key in (6, (0, 32), (0, 0, -49), (0, 0, 0, 0)):
        with pytest.raises(IndexError):
            labels[key]
        with pytest.raises(IndexError):
            labels[key] = 1
    with pytest.raises(ValueError, match="broadcast"):
        labels[0, 0:2, 0:2] = np.ones((3, 3), np.uint8)
    assert len(list(labels)) == len(labels) == 6


def test_writing_to_a_read_region_does_not_change_the_store(labels: LabelStore) -> None:
    labels[0, 0, 0] = 1
    for key in (0, slice(0, 1), (0, slice(0, 4))):
        region = labels[key]
        region[...] = 5
    assert np.count_nonzero(labels[0]) == 1


def test_a_long_video_does_not_become_an_array_by_accident(tmp_path: Path) -> None:
    labels = open_labels(tmp_path, (100_000, 1080, 1920))
    with pytest.raises(ProjectError, match=r"207 GB"):
        np.asarray(labels)
    labels[99_999, 5, 5] = 1
    assert labels.provenance_table().shape == (100_000, 7)
    assert sum(f.stat().st_blocks * 512 for f in tmp_path.rglob("*") if f.is_file()) < 140_000
    labels.close()


def test_a_stroke_on_a_1080p_frame_takes_a_few_milliseconds(tmp_path: Path) -> None:
    labels = open_labels(tmp_path, (10, 1080, 1920))
    labels.write_prediction(3, predicted(box(slice(200, 700), slice(300, 900), 1, (1080, 1920)), 1))
    used = []
    for step in range(15):
        start = time.thread_time()  # not wall-clock time: other tests may be running
        key = (slice(3, 4), slice(400, 440), slice(600 + step, 640 + step))
        region = labels[key]
        region[...] = 2 + step % 2
        labels[key] = region
        used.append(time.thread_time() - start)
    assert np.median(used) < 0.010
    labels.close()


# ---- on disk


def test_reopening_restores_labels_tables_and_painted_pixels(tmp_path: Path, labels: LabelStore) -> None:
    frame_index: Any = np.int64(1)  # as from a numpy array
    labels.write_prediction(frame_index, predicted(box(ALL, LEFT, 1), 1, 2, iou=[0.7, 0.2]), checkpoint=2)
    labels[1, 0:3, 0:3] = 4
    labels.verify(2, [6])
    labels.close()
    again = open_labels(tmp_path)
    np.testing.assert_array_equal(again[:], labels[:])
    np.testing.assert_array_equal(again.provenance_table(), labels.provenance_table())
    np.testing.assert_array_equal(again.painted(1), labels.painted(1))
    assert again.predicted_iou(1, 1) == pytest.approx(0.7)
    assert (again.presence(1, 1), again.presence(1, 2)) == (1, 0)
    assert np.isnan(again.presence(1, 3))
    assert again.prediction_checkpoint(1, 2) == 2
    again.close()


def test_zarr_reads_what_the_store_wrote(tmp_path: Path, labels: LabelStore) -> None:
    import zarr

    labels.write_prediction(1, predicted(box(ALL, LEFT, 3), 3, 4, iou=0.7))
    labels[4, 3:6, 3:6] = 2
    names = ("labels", "painted", "provenance", "predicted_iou")
    arrays = {name: zarr.open_array(tmp_path / name, mode="r") for name in names}
    np.testing.assert_array_equal(arrays["labels"][:], labels[:])
    np.testing.assert_array_equal(arrays["painted"][4], labels.painted(4))
    np.testing.assert_array_equal(arrays["provenance"][:], labels.provenance_table())
    iou = arrays["predicted_iou"][:]
    assert iou[1, 2] == pytest.approx(0.7)
    assert np.count_nonzero(~np.isnan(iou)) == 2
    assert arrays["labels"].attrs["classes"][2]["name"] == "Large Needle Driver"
    assert "edited" in str(arrays["provenance"].attrs["flag_meanings"])
    assert arrays["labels"].metadata.dimension_names == ("frame", "y", "x")


def test_empty_and_absent_frames_need_no_disk_space(tmp_path: Path, labels: LabelStore) -> None:
    labels.write_prediction(0, predicted(np.zeros(SHAPE[1:], np.uint8), *ENDOVIS2018.ids))
    labels[1:4, 0:2, 0:2] = np.zeros((3, 2, 2), np.uint8)
    assert [path.name for path in (tmp_path / "labels").iterdir()] == ["zarr.json"]
    assert [path.name for path in (tmp_path / "painted").iterdir()] == ["zarr.json"]


def test_two_stores_on_one_folder_see_the_same_edits(tmp_path: Path, labels: LabelStore) -> None:
    other = open_labels(tmp_path)
    labels[0, 0:4, 0:4] = 1
    assert other[0, 0, 0] == 1
    other[0, 2, 2] = 2
    assert labels[0, 2, 2] == 2
    labels.write_prediction(0, predicted(np.full(SHAPE[1:], 3, np.uint8), 1, 2, 3))
    assert np.count_nonzero(other[0] == 3) == 32 * 48 - 16
    other.close()


def test_threads_may_paint_and_predict_at_once(labels: LabelStore) -> None:
    failures: list[BaseException] = []

    def predict() -> None:
        try:
            for step in range(40):
                labels.write_prediction(0, predicted(np.full(SHAPE[1:], 1 + step % 2, np.uint8), 1, 2))
        except BaseException as error:
            failures.append(error)

    worker = threading.Thread(target=predict)
    worker.start()
    for row in range(SHAPE[1]):
        region = labels[0:1, row : row + 1, 0:10]
        region[:] = 7
        labels[0:1, row : row + 1, 0:10] = region
    worker.join()
    assert not failures
    expected = np.zeros(SHAPE[1:], bool)
    expected[:, :10] = True
    np.testing.assert_array_equal(labels.painted(0), expected)
    assert np.all(labels[0, :, :10] == 7)
    assert len(np.unique(labels[0, :, 10:])) == 1


# ---- bad input


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


@pytest.mark.parametrize("damage", [truncate, Path.unlink, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("array", ["labels", "painted"])
def test_error_names_a_damaged_edited_frame_and_other_frames_stay_readable(
    tmp_path: Path, labels: LabelStore, array: str, damage: Callable[[Path], Any]
) -> None:
    labels[2:4, 5:9, 5:9] = 3
    labels.close()
    damage(tmp_path / array / "c.2.0.0")
    again = open_labels(tmp_path)
    with pytest.raises(ProjectError, match=r"Frame 2 should have its .*reset_frame\(2\); the other frames are intact"):
        again.write_prediction(2, predicted(box(ALL, LEFT, 1), 1))
    with pytest.raises(ProjectError, match="Frame 2 "):
        again[2, 0, 0] = 1
    assert again.is_edited(2, 3)
    assert np.count_nonzero(again[3] == 3) == 16
    again.reset_frame(2)
    assert not again[2].any()
    assert again.provenance(2, 3) == Provenance.EMPTY
    again.close()


def test_damaged_prediction_is_replaced_by_segmenting_again(tmp_path: Path, labels: LabelStore) -> None:
    labels.write_prediction(2, predicted(box(ALL, LEFT, 1) | box(ALL, RIGHT, 2), 1, 2))
    truncate(tmp_path / "labels" / "c.2.0.0")
    with pytest.raises(ProjectError, match=r"Segment frame 2 again; the other frames are intact\.$"):
        labels[2]
    assert labels.write_prediction(2, predicted(box(TOP, LEFT, 1), 1))
    np.testing.assert_array_equal(labels[2], box(TOP, LEFT, 1))
    assert labels.provenance(2, 2) == Provenance.EMPTY


def test_error_about_a_damaged_table_names_its_frames(tmp_path: Path, labels: LabelStore) -> None:
    labels[2, 0, 0] = 1
    truncate(tmp_path / "provenance" / "c.0.0")
    with pytest.raises(ProjectError, match="provenance of frames 0 to 5 is damaged"):
        labels.provenance_table()
    with pytest.raises(ProjectError, match="provenance of frames 0 to 5 is damaged"):
        labels[3, 0, 0] = 2
    assert np.count_nonzero(labels[2]) == 1


@pytest.mark.parametrize(
    ("number", "error", "message"),
    [
        (errno.ENOSPC, DiskSpaceError, "Nothing was changed: free some space"),
        (errno.EROFS, ProjectError, "read-only"),
        (errno.EIO, ProjectError, "check the disk"),
    ],
)
@pytest.mark.parametrize("after", [0, 1, 2])
def test_failed_write_changes_nothing(
    tmp_path: Path,
    labels: LabelStore,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    error: type[Exception],
    message: str,
    after: int,
) -> None:
    labels.write_prediction(1, predicted(box(ALL, LEFT, 1), 1))
    labels[1, 0:3, 0:3] = 2
    before, table, painted = labels[1], labels.provenance_table(), labels.painted(1)
    writes = iter(range(100))

    def failing(descriptor: int, data: bytes) -> None:
        if next(writes) >= after:
            os.write(descriptor, bytes(data)[:7])
            raise OSError(number, os.strerror(number))
        os.write(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_all", failing)
        with pytest.raises(error, match=message):
            labels[1, 10:20, 10:20] = 5
        with pytest.raises(error, match=message):
            next(writes)
            labels.write_prediction(1, predicted(box(ALL, RIGHT, 3), 1, 3))
    for store in (labels, open_labels(tmp_path)):
        np.testing.assert_array_equal(store[1], before)
        np.testing.assert_array_equal(store.provenance_table(), table)
        np.testing.assert_array_equal(store.painted(1), painted)
    assert not list((tmp_path / ".partial").iterdir())
    labels[1, 10:20, 10:20] = 5
    assert labels[1, 15, 15] == 5


# ---- killed at any moment


def whole_state(labels: LabelStore, frame_index: int = 0) -> tuple:
    columns = [labels.provenance_table()[frame_index].tolist()]
    columns += [[read(frame_index, c) for c in ENDOVIS2018.ids] for read in (labels.predicted_iou, labels.presence)]
    return labels[frame_index].tobytes(), labels.painted(frame_index).tobytes(), repr(columns)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("what", ["edit", "prediction", "verification", "reset", "import"])
def test_killed_before_any_single_file_operation_a_frame_is_old_or_new(tmp_path: Path, what: str) -> None:
    actions: dict[str, Callable[[LabelStore], Any]] = {
        "edit": lambda store: store.__setitem__((0, slice(5, 20), slice(5, 20)), 6),
        "prediction": lambda store: store.write_prediction(0, predicted(box(TOP, ALL, 1), 1, 2, 3, iou=0.3)),
        "verification": lambda store: store.verify(0),
        "reset": lambda store: store.reset_frame(0),
        "import": lambda store: store.write_import(0, box(TOP, ALL, 1), [1, 2]),
    }
    seen = set()
    for operation in range(100):
        folder = tmp_path / str(operation)
        folder.mkdir()
        labels = open_labels(folder)
        labels.write_prediction(0, predicted(box(ALL, LEFT, 1) | box(ALL, RIGHT, 2), 1, 2, iou=0.8))
        labels[0, 0:10, 20:30] = 5
        old = whole_state(labels)
        labels.close()
        finished = run_until(operation, lambda folder=folder: actions[what](open_labels(folder)))
        labels = open_labels(folder)
        state = whole_state(labels)
        assert not (folder / "pending.json").exists()
        assert not list((folder / ".partial").iterdir())
        labels.close()
        seen.add(state)
        if finished:
            break
        seen.add(old)
        assert len(seen) <= 2
    assert finished
    assert operation >= 5
    assert seen == {old, state} != {old}


def run_until(operation: int, action: Callable[[], Any]) -> bool:
    """Run `action` in a forked process that dies at the given file operation; a write is half done. True if it finished."""
    child = os.fork()
    if child == 0:
        operations_left = iter(range(operation, -1, -1))

        def dying(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                if next(operations_left) == 0:
                    if function is os.write:
                        function(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                    os._exit(9)
                return function(*arguments, **options)

            return call

        try:
            for module, name in ((os, "write"), (os, "replace"), (Path, "unlink"), (Path, "mkdir")):
                setattr(module, name, dying(getattr(module, name)))
            action()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


KILLED = """
import random, sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from surgicalsam_napari.instruments import ENDOVIS2018, ClassSet, InstrumentClass
from surgicalsam_napari.store.labels.label_store import LabelStore

folder, shape, k = Path(sys.argv[1]), (3, 120, 160), int(sys.argv[2])
labels = LabelStore(folder, shape, ENDOVIS2018)
print("ready", flush=True)
while True:
    k += 1
    class_id = k % 3 + 1
    present = np.arange(1, 4) == class_id
    label_map = np.full(shape[1:], class_id, np.uint8)
    iou = np.full(3, k, np.float32)
    labels.write_prediction(k % 3, SimpleNamespace(
        class_ids=(1, 2, 3), label_map=label_map, predicted_iou=iou, presence=iou, present=present, contested=0 * iou))
    y, x = random.randrange(100), random.randrange(140)
    key = (slice(k % 2, k % 2 + 1), slice(y, y + 6), slice(x, x + 6))
    region = labels[key]
    region[:] = 7
    labels[key] = region
"""


def test_after_any_kill_pixels_of_a_person_are_marked_as_painted(tmp_path: Path) -> None:
    open_labels(tmp_path, (3, 120, 160)).close()
    painted_before = np.zeros((3, 120, 160), bool)
    for rounds in range(3):
        command = [sys.executable, "-c", KILLED, str(tmp_path), str(1000 * rounds)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            time.sleep(random.uniform(0.05, 0.3))
            child.kill()
        labels = open_labels(tmp_path, (3, 120, 160))
        for frame_index in range(3):
            painted_before[frame_index] = check_state_is_whole(labels, frame_index, painted_before[frame_index])
        labels.close()
    assert painted_before.any()


def check_state_is_whole(labels: LabelStore, frame_index: int, painted_before: np.ndarray) -> np.ndarray:
    frame, painted = labels[frame_index], labels.painted(frame_index)
    assert np.all(painted >= painted_before)
    np.testing.assert_array_equal(frame == 7, painted)
    assert labels.is_edited(frame_index, 7) == painted.any()
    predicted_ids = np.unique(frame[~painted]).tolist()
    ious = {labels.predicted_iou(frame_index, class_id) for class_id in (1, 2, 3)}
    if predicted_ids != [0] and predicted_ids:
        (class_id,), (k,) = predicted_ids, ious
        assert class_id == k % 3 + 1
        assert labels.provenance(frame_index, class_id) in (Provenance.PREDICTED, Provenance.EDITED)
        assert labels.presence(frame_index, class_id) == k
    return painted


# ---- imports


def test_an_imported_frame_counts_as_painted_and_its_classes_as_edited(labels: LabelStore) -> None:
    labels.write_prediction(2, predicted(box(ALL, RIGHT, 2), 1, 2))
    assert labels.write_import(2, box(TOP, LEFT, 1), [1, 2]) == 0
    np.testing.assert_array_equal(labels[2], box(TOP, LEFT, 1))
    assert labels.painted(2).all()
    assert labels.is_edited(2, 1)
    assert labels.is_edited(2, 2)
    assert labels.provenance(2, 3) == Provenance.EMPTY
    assert not labels.write_prediction(2, predicted(np.full(SHAPE[1:], 2, np.uint8), 1, 2, iou=1.0))


def test_an_import_keeps_painted_pixels_and_verified_classes(labels: LabelStore) -> None:
    labels[0, 0:2, 0:10] = 4
    labels.write_prediction(0, predicted(box(slice(20, 32), ALL, 2), 2))
    labels.verify(0, [2])
    imported = np.ones(SHAPE[1:], np.uint8)
    imported[10:12] = 2
    assert labels.write_import(0, imported, [1, 2]) == 2 * 10 + 12 * 48 + 2 * 48
    expected = np.ones(SHAPE[1:], np.uint8)
    expected[10:12] = 0  # verified as not class 2
    expected[20:32] = 2
    expected[0:2, 0:10] = 4
    np.testing.assert_array_equal(labels[0], expected)
    assert labels.provenance(0, 2) == Provenance.VERIFIED
    assert labels.is_edited(0, 4)


def test_predictions_of_classes_that_an_import_does_not_annotate_stay_predictions(labels: LabelStore) -> None:
    labels.write_prediction(1, predicted(box(TOP, ALL, 5), 5))
    labels.write_import(1, box(ALL, LEFT, 1), [1])
    np.testing.assert_array_equal(labels[1], np.where(box(ALL, LEFT, 1) > 0, 1, box(TOP, ALL, 5)))
    assert labels.provenance(1, 5) == Provenance.PREDICTED
    np.testing.assert_array_equal(labels.painted(1), ~(box(TOP, RIGHT, 1) > 0))


def test_an_import_of_a_wrong_size_or_class_is_refused(labels: LabelStore) -> None:
    with pytest.raises(ProjectError, match="32 x 48"):
        labels.write_import(0, np.ones((8, 8), np.uint8), [1])
    with pytest.raises(ClassSetError, match="label 3"):
        labels.write_import(0, box(ALL, LEFT, 3), [1, 2])
    assert labels.write_import(0, box(ALL, LEFT, 0), []) == 0
    assert not labels.provenance_table().any()
    assert not labels.painted(0).any()
