"""The frames that most need review come first, each with a reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from surgicalsam_napari.errors import ClassSetError
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.review import Evidence, MaskJumps, ReviewQueue, Status, cell_suspicion, frame_suspicion
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import LabelStore, Project, Provenance

FRAMES, CLASSES = 60, len(ENDOVIS2018)
BIPOLAR, PROGRASP, DRIVER = 0, 1, 2  # columns
SIZE = (32, 48)


class Tables:
    """A project with a clear, unmoving prediction of Bipolar Forceps in every frame; other classes are clearly absent."""

    def __init__(self) -> None:
        shape = (FRAMES, CLASSES)
        self.labels = np.zeros((FRAMES, *SIZE), np.uint8)
        self.labels[:, 4:24, 4:24] = 1
        self.by_name = {
            "provenance": np.full(shape, Provenance.ABSENT, np.uint8),
            "predicted_iou": np.full(shape, 0.05, np.float32),
            "presence": np.full(shape, 0.01, np.float32),
            "contested": np.zeros(shape, np.float32),
            "predicted_by": np.ones(shape, np.uint16),
        }
        self.predict(slice(None), BIPOLAR)

    def predict(self, frames: slice | int, column: int, *, iou: float = 0.95, presence: float = 0.99) -> None:
        self.by_name["provenance"][frames, column] = Provenance.PREDICTED
        self.by_name["predicted_iou"][frames, column] = iou
        self.by_name["presence"][frames, column] = presence

    def mark(self, frames: slice | int, column: int | slice, provenance: Provenance = Provenance.VERIFIED) -> None:
        self.by_name["provenance"][frames, column] = provenance

    def table(self, name: str) -> np.ndarray:
        return self.by_name[name].copy()

    def row(self, name: str, frame_index: int) -> np.ndarray:
        return self.by_name[name][frame_index].copy()

    def jumps(self) -> MaskJumps:
        jumps = MaskJumps(self.labels, FRAMES, ENDOVIS2018.ids)
        for _frame in jumps.fill():
            pass
        return jumps

    def evidence(self) -> Evidence:
        return Evidence.of(self, self.jumps())

    def queue(self, **options: int) -> ReviewQueue:
        return ReviewQueue(self.evidence(), ENDOVIS2018, **options)


@pytest.fixture
def tables() -> Tables:
    return Tables()


def frames_of(queue: ReviewQueue) -> list[int]:
    """All frames of the queue, in its order."""
    frames = []
    while (frame := queue.next()) is not None:
        frames.append(frame)
    return frames


# ---- jumps


def test_an_unmoved_mask_overlaps_fully_and_a_moved_mask_partly(tables):
    tables.labels[30:] = np.roll(tables.labels[0], 8, axis=1)  # 20 wide: 12 shared, union 28
    overlaps = tables.jumps().overlaps()
    assert np.isnan(overlaps[0]).all()
    assert overlaps[29, BIPOLAR] == 1
    assert overlaps[30, BIPOLAR] == pytest.approx(12 / 28)


def test_a_class_that_appears_or_disappears_has_no_overlap(tables):
    tables.labels[30] = 0
    overlaps = tables.jumps().overlaps()
    assert overlaps[[29, 30, 31, 32], BIPOLAR].tolist() == [1, 0, 0, 1]
    assert overlaps[30, PROGRASP] == 1  # in neither frame


def test_areas_are_shares_of_the_frame(tables):
    assert tables.jumps().areas()[5, BIPOLAR] == pytest.approx(400 / (32 * 48))


def test_only_changed_frames_are_compared_again(tables):
    jumps = tables.jumps()
    tables.labels[30] = 0
    jumps.invalidate(30)
    assert jumps.left == 2
    assert np.isnan(jumps.overlaps()[30]).all()
    assert list(jumps.fill()) == [30, 31]
    assert jumps.overlaps()[[30, 31, 32], BIPOLAR].tolist() == [0, 0, 1]


def test_comparing_starts_at_the_given_frame_and_includes_all(tables):
    jumps = MaskJumps(tables.labels, FRAMES, ENDOVIS2018.ids)
    assert list(jumps.fill(start=50)) == [*range(50, 60), *range(50)]
    assert np.array_equal(jumps.overlaps(), tables.jumps().overlaps(), equal_nan=True)


def test_a_frame_that_changes_during_the_comparison_is_compared_again(tables):
    jumps = MaskJumps(tables.labels, FRAMES, ENDOVIS2018.ids)
    for frame in jumps.fill():
        if frame == 30 and tables.labels[30].any():
            tables.labels[30] = 0
            jumps.invalidate(30)
    assert np.array_equal(jumps.overlaps(), tables.jumps().overlaps(), equal_nan=True)


def test_only_a_damaged_frame_is_unknown(tmp_path):
    LabelStore.create(tmp_path, (6, *SIZE), ENDOVIS2018)
    labels = LabelStore(tmp_path, (6, *SIZE), ENDOVIS2018)
    for frame in range(6):
        labels[frame, 4:24, 4:24] = 1
    labels.close()
    (tmp_path / "labels" / "c.3.0.0").write_bytes(b"not a chunk")
    labels = LabelStore(tmp_path, (6, *SIZE), ENDOVIS2018)
    jumps = MaskJumps(labels, 6, ENDOVIS2018.ids)
    assert len(list(jumps.fill())) == 6
    assert np.isnan(jumps.overlaps()[:, BIPOLAR]).tolist() == [True, False, False, True, True, False]
    labels.close()


# ---- suspicion


@pytest.mark.parametrize("with_jumps", [True, False])
def test_every_sign_makes_a_class_more_suspicious(tables, with_jumps):
    tables.predict(10, BIPOLAR, iou=0.6)
    tables.predict(20, BIPOLAR, presence=0.55)
    tables.by_name["contested"][30, BIPOLAR] = 0.5
    tables.by_name["presence"][40, PROGRASP] = 0.45
    suspicion = cell_suspicion(Evidence.of(tables, tables.jumps() if with_jumps else None))
    usual = suspicion[0, [BIPOLAR, PROGRASP]]
    assert (suspicion[[10, 20, 30], BIPOLAR] > usual[0]).all()
    assert suspicion[40, PROGRASP] > usual[1]
    assert suspicion.max() == suspicion[10, BIPOLAR]


def test_a_mask_that_jumps_is_suspicious_once_masks_are_compared(tables):
    tables.labels[30] = np.roll(tables.labels[0], 20, axis=1)
    assert np.ptp(cell_suspicion(Evidence.of(tables))[:, BIPOLAR]) == 0
    suspicion = cell_suspicion(tables.evidence())[:, BIPOLAR]
    assert set(np.flatnonzero(suspicion > suspicion[0])) == {29, 30, 31}


def test_masks_are_not_compared_with_unsegmented_frames(tables):
    tables.mark(slice(1, None, 2), slice(None), Provenance.EMPTY)
    tables.labels[1::2] = 0
    suspicion = cell_suspicion(tables.evidence())
    assert not suspicion[1::2].any()
    assert np.array_equal(suspicion[::2], cell_suspicion(Evidence.of(tables))[::2])


def test_a_class_missing_between_frames_with_it_is_suspicious_without_masks(tables):
    tables.mark(30, BIPOLAR, Provenance.ABSENT)
    tables.predict(40, PROGRASP)
    suspicion = cell_suspicion(Evidence.of(tables))
    assert suspicion[30, BIPOLAR] > 2 * suspicion[30, PROGRASP]
    assert suspicion[40, PROGRASP] > suspicion[40, BIPOLAR]


@pytest.mark.parametrize("provenance", [Provenance.EDITED, Provenance.VERIFIED, Provenance.EMPTY])
def test_edited_verified_and_empty_frames_are_not_suspicious(tables, provenance):
    tables.predict(slice(None), BIPOLAR, iou=0.2)
    tables.mark(10, slice(None), provenance)
    evidence = tables.evidence()
    suspicion = cell_suspicion(evidence)
    assert not suspicion[10].any()
    assert frame_suspicion(evidence, suspicion)[10] == 0
    assert frame_suspicion(evidence, suspicion)[11] > 0.5


def test_the_presence_threshold_is_estimated_from_the_tables(tables):
    tables.predict(10, PROGRASP, presence=0.91)
    tables.by_name["presence"][20:25, PROGRASP] = 0.89
    tables.predict(30, PROGRASP, presence=0.2)  # a propagation may write such a value
    assert tables.evidence().threshold[10, PROGRASP] == pytest.approx(0.9, abs=0.002)


def test_each_checkpoint_has_its_own_presence_threshold(tables):
    for frames, checkpoint, threshold in ((slice(0, 30), 1, 0.9), (slice(30, 60), 2, 0.3)):
        tables.by_name["predicted_by"][frames] = checkpoint
        tables.by_name["presence"][frames, PROGRASP] = threshold - 0.02
        tables.predict(frames, DRIVER, presence=threshold + 0.02)
    assert tables.evidence().threshold[[10, 40], PROGRASP] == pytest.approx([0.9, 0.3], abs=0.002)


# ---- the queue


def test_the_worst_frames_come_first(tables):
    for frame, iou in ((5, 0.5), (30, 0.1), (50, 0.3)):
        tables.predict(frame, BIPOLAR, iou=iou)
    assert frames_of(tables.queue()) == [30, 50, 5]


def test_a_video_without_suspicious_frames_has_an_empty_queue(tables):
    queue = tables.queue()
    assert (queue.remaining, queue.next(), queue.previous()) == (0, None, None)


def test_frames_near_a_reviewed_frame_come_later(tables):
    for frame, iou in ((20, 0.1), (21, 0.12), (22, 0.14), (50, 0.4)):
        tables.predict(frame, BIPOLAR, iou=iou)
    assert frames_of(tables.queue()) == [20, 50, 21, 22]
    assert frames_of(tables.queue(near=0)) == [20, 21, 22, 50]


def test_the_number_of_remaining_frames_counts_down(tables):
    for frame in (5, 30, 50):
        tables.predict(frame, BIPOLAR, iou=0.3)
    queue = tables.queue()
    left = [queue.remaining]
    while queue.next() is not None:
        left.append(queue.remaining)
    assert left == [3, 2, 1, 0]


def test_previous_goes_back_through_the_history_and_next_forward_again(tables):
    for frame, iou in ((5, 0.5), (30, 0.1), (50, 0.3)):
        tables.predict(frame, BIPOLAR, iou=iou)
    queue = tables.queue()
    assert [queue.next(), queue.next()] == [30, 50]
    assert queue.previous() == 30
    assert queue.previous() is None
    assert [queue.next(), queue.next(), queue.next()] == [50, 5, None]


def test_a_frame_reached_without_the_queue_counts_as_reviewed(tables):
    for frame, iou in ((20, 0.1), (50, 0.3)):
        tables.predict(frame, BIPOLAR, iou=iou)
    queue = tables.queue()
    assert queue.next(after=20) == 50
    assert queue.next(after=50) is None
    assert queue.previous() == 20


def test_restart_forgets_the_reviewed_frames(tables):
    tables.predict(20, BIPOLAR, iou=0.1)
    queue = tables.queue()
    assert frames_of(queue) == [20]
    queue.restart()
    assert frames_of(queue) == [20]


def test_a_filter_by_class_excludes_other_classes(tables):
    tables.predict(10, PROGRASP, iou=0.1)
    tables.predict(40, DRIVER, iou=0.3)
    queue = tables.queue()
    queue.filter([3])
    assert (queue.remaining, queue.next(), queue.next()) == (1, 40, None)
    queue.filter()
    assert queue.next() == 10


def test_a_reviewed_frame_comes_again_for_a_class_that_was_filtered_out(tables):
    tables.predict(10, PROGRASP, iou=0.1)
    tables.predict(10, DRIVER, iou=0.2)
    queue = tables.queue()
    queue.filter([2])
    assert frames_of(queue) == [10]
    queue.filter([3])
    assert frames_of(queue) == [10]


def test_a_filter_by_an_unknown_class_is_refused(tables):
    with pytest.raises(ClassSetError, match="got 99"):
        tables.queue().filter([99])


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (Status.PREDICTED, {5, 19, 20, 21, 22}),
        (Status.NEARLY_PRESENT, {35}),
        (Status.CONTESTED, {50}),
        (Status.JUMPED, {19, 20, 21, 22}),
    ],
)
def test_a_filter_by_status_excludes_other_frames(tables, status, expected):
    tables.predict(5, BIPOLAR, iou=0.3)
    tables.predict(slice(20, 22), BIPOLAR, iou=0.6)
    tables.labels[20:22] = np.roll(tables.labels[0], 20, axis=1)
    tables.by_name["presence"][35, PROGRASP] = 0.48
    tables.by_name["contested"][50, BIPOLAR] = 0.2
    queue = tables.queue()
    queue.filter(status=status)
    assert set(frames_of(queue)) == expected


def test_a_queue_of_predicted_classes_excludes_absent_ones(tables):
    tables.mark(30, BIPOLAR, Provenance.ABSENT)
    tables.by_name["presence"][30, BIPOLAR] = 0.3
    queue = ReviewQueue(Evidence.of(tables), ENDOVIS2018)
    assert queue.remaining == 1
    queue.filter(status=Status.PREDICTED)
    assert queue.remaining == 0


# ---- reasons


def test_reasons_are_readable_for_the_user(tables):
    tables.predict(5, BIPOLAR, iou=0.41)
    tables.by_name["contested"][15, BIPOLAR] = 0.34
    tables.predict(25, PROGRASP, presence=0.52, iou=0.9)
    tables.labels[25, 26:30, 30:44] = 2
    tables.labels[42:] = np.roll(tables.labels[0], 20, axis=1)
    queue = tables.queue()
    assert queue.reason(5) == "Bipolar Forceps: low confidence, 0.41"
    assert queue.reason(15) == "Bipolar Forceps: another class also claims 34 % of the mask"
    assert queue.reason(25) == "Prograsp Forceps: not in frame 24"
    assert queue.suspect(25) == 2
    assert queue.reason(41) == "Bipolar Forceps: mask differs from frame 42"
    assert queue.reason(42) == "Bipolar Forceps: mask differs from frame 41"


def test_before_masks_are_compared_reasons_come_from_the_tables(tables):
    tables.predict(slice(5, 17), PROGRASP)
    tables.predict(11, PROGRASP, presence=0.52)
    tables.mark(30, BIPOLAR, Provenance.ABSENT)
    tables.by_name["presence"][50, DRIVER] = 0.45
    queue = ReviewQueue(Evidence.of(tables), ENDOVIS2018)
    assert queue.reason(5) in (
        "Prograsp Forceps: barely found (presence 0.52)",
        "Prograsp Forceps: in few of the nearby frames",
    )
    assert queue.reason(30) == "Bipolar Forceps: missing here, but in nearby frames"
    queue.filter(status=Status.NEARLY_PRESENT)
    assert queue.reason(50) == "Large Needle Driver: may be missing (presence 0.45)"


def test_a_verified_frame_has_no_reason(tables):
    tables.mark(5, slice(None))
    assert tables.queue().reason(5) == ""


# ---- changes


@pytest.fixture
def project(clip: Path) -> Iterator[Project]:
    """Twelve frames with manual predictions: one class in the first eleven, poor in frame 3 and poorer in frame 9."""
    with Session(ENDOVIS2018) as session:
        project = session.open(clip)
        for frame in range(11):
            predict(project, frame, {3: 0.3, 9: 0.1}.get(frame, 0.95))
        yield project


def predict(project: Project, frame_index: int, iou: float) -> None:
    from surgicalsam_napari.model.surgical_sam import FramePrediction

    label_map = np.zeros(project.labels.shape[1:], np.uint8)
    label_map[20:60, 20:60] = 1
    one = np.ones(1, np.float32)
    prediction = FramePrediction((1,), label_map, iou * one, 0.99 * one, one.astype(bool), 0 * one)
    project.labels.write_prediction(frame_index, prediction, checkpoint=1)


@pytest.mark.parametrize("frames", [[9], None])
def test_a_frame_leaves_the_queue_when_it_is_verified(project, frames):
    queue = ReviewQueue.of(project)
    assert queue.remaining == 2
    project.labels.verify(9)
    queue.refresh(frames)
    assert frames_of(queue) == [3]


def test_a_frame_leaves_the_queue_when_it_is_painted(project):
    queue = ReviewQueue.of(project)
    project.labels[9, 30:50, 30:70] = 1
    queue.refresh([9])
    assert frames_of(queue) == [3]


@pytest.mark.parametrize("frames", [[9], None])
def test_a_reviewed_frame_comes_again_after_a_new_prediction(project, frames):
    queue = ReviewQueue.of(project)
    assert frames_of(queue) == [9, 3]
    predict(project, 9, 0.2)
    queue.refresh(frames)
    assert frames_of(queue) == [9]


def test_refreshing_some_frames_gives_the_same_as_refreshing_all(project):
    jumps = MaskJumps(project.labels, len(project.labels), project.classes.ids)
    queue = ReviewQueue.of(project, jumps)
    for _frame in jumps.fill():
        pass
    queue.refresh(range(len(project.labels)))
    project.labels[5, :, :80] = 1
    project.labels.verify(7)
    predict(project, 11, 0.6)
    for frame in (5, 7, 11):
        jumps.invalidate(frame)
    for _frame in jumps.fill():
        pass
    queue.refresh([5, 7, 11])
    assert np.allclose(queue.priority(), ReviewQueue.of(project, jumps).priority())


def test_real_predictions_are_ranked_and_explained(clip, tiny_checkpoint):
    with Session(ENDOVIS2018) as session:
        session.load_checkpoint(tiny_checkpoint)
        project = session.open(clip)
        for _report in session.segment(session.trained_class_ids(), range(12)):
            pass
        jumps = MaskJumps(project.labels, 12, project.classes.ids)
        for _frame in jumps.fill():
            pass
        queue = ReviewQueue.of(project, jumps)
        priority = queue.priority()
        frames = frames_of(queue)
        assert frames[0] == priority.argmax()
        assert len(set(frames)) == len(frames) > 1
        assert all(": " in queue.reason(frame) for frame in frames)
