"""Undo and redo of actions, snapshots, and the owner of a project."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, tzinfo
from pathlib import Path

import numpy as np
import pytest

from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.instruments import ENDOVIS2018, ClassSet, InstrumentClass
from surgicalsam_napari.model.surgical_sam import FramePrediction
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.store.disk.action import append, line_offsets, read_line
from surgicalsam_napari.store.provenance import TABLES
from surgicalsam_napari.video import VideoReader, write_video

BIPOLAR, PROGRASP = 1, 2


@pytest.fixture
def project(clip: Path) -> Iterator[Project]:
    with Project.create(Project.default_folder(clip), VideoReader(clip), ENDOVIS2018) as new_project:
        yield new_project


def predicted(project: Project, class_id: int, rows: slice) -> FramePrediction:
    label_map = np.zeros(project.labels.shape[1:], np.uint8)
    label_map[rows] = class_id
    score = np.array([0.9], np.float32)
    return FramePrediction((class_id,), label_map, score, score, np.array([True]), np.zeros(1, np.float32))


def state(project: Project) -> tuple:
    """Everything that an undo must restore."""
    labels = project.labels
    tables = [labels.table(name) for name in TABLES]
    painted = [labels.painted(index).tobytes() for index in range(len(labels))]
    return labels[:].tobytes(), tuple(painted), tuple(table.tobytes() for table in tables)


def predict(project: Project, frames: range, rows: slice, class_id: int = BIPOLAR) -> None:
    with project.history.action("Segment") as action:
        for index in frames:
            project.labels.write_prediction(index, predicted(project, class_id, rows), 1, action=action)


def test_an_action_is_undone_and_redone_after_a_restart(project: Project, clip: Path) -> None:
    project.labels[2, 0:9, 0:9] = PROGRASP
    before = state(project)
    predict(project, range(6), slice(0, 20))
    after = state(project)
    assert after != before
    with Project.open(project.folder) as again:
        undone = again.history.undo()
        assert undone is not None
        assert undone.frame_indices == tuple(range(6))
        assert state(again) == before
        assert again.history.undo() is None
    with Project.open(project.folder) as again:
        assert again.history.to_redo is not None
        again.history.redo()
        assert state(again) == after
        again.history.undo()
        assert state(again) == before


def test_the_last_action_is_undone_first(project: Project) -> None:
    states = [state(project)]
    for rows in (slice(0, 10), slice(5, 30), slice(20, 40)):
        predict(project, range(3), rows)
        states.append(state(project))
    for expected in reversed(states[:-1]):
        project.history.undo()
        assert state(project) == expected
    for expected in states[1:]:
        project.history.redo()
        assert state(project) == expected


def test_undo_keeps_a_frame_that_was_painted_later(project: Project) -> None:
    predict(project, range(4), slice(0, 20))
    project.labels[1, 30:40, 30:40] = PROGRASP
    project.labels.verify(2)
    undone = project.history.undo()
    assert undone is not None
    assert undone.frame_indices == (0, 3)
    assert undone.kept == (1, 2)
    assert np.all(project.labels[1, 30:40, 30:40] == PROGRASP)
    assert project.labels[2].any()
    assert not project.labels[0].any()


def test_a_new_action_forgets_undone_actions(project: Project) -> None:
    predict(project, range(2), slice(0, 20))
    project.history.undo()
    predict(project, range(2), slice(0, 30))
    assert project.history.redo() is None
    assert len(project.history.entries()) == 1


def test_an_action_that_wrote_nothing_leaves_no_entry(project: Project) -> None:
    with project.history.action("Nothing"):
        pass
    assert project.history.entries() == []
    assert project.history.undo() is None


def test_undo_works_after_classes_were_added(project: Project) -> None:
    before = project.labels[:]
    predict(project, range(2), slice(0, 20))
    many = tuple(InstrumentClass(8 + extra, f"Tool {extra}", "#123456") for extra in range(3))
    project.extend_classes(ClassSet("more", (*ENDOVIS2018, *many)))
    undone = project.history.undo()
    assert undone is not None
    assert undone.kept == ()
    np.testing.assert_array_equal(project.labels[:], before)


def test_an_action_interrupted_by_a_kill_can_be_undone(project: Project, clip: Path) -> None:
    code = """
import os, signal, sys, numpy as np
sys.path.insert(0, sys.argv[2])
from test_history import predicted
from surgicalsam_napari.store import Project
project = Project.open(sys.argv[1])
with project.history.action("Segment") as action:
    for index in range(8):
        project.labels.write_prediction(index, predicted(project, 1, slice(0, 20)), action=action)
        if index == 4:
            os.kill(os.getpid(), signal.SIGKILL)
"""
    before = state(project)
    folder = str(Path(__file__).parent)
    subprocess.run([sys.executable, "-c", code, str(project.folder), folder], timeout=120, check=False)
    with Project.open(project.folder) as again:
        assert [entry.frame_count for entry in again.history.entries()] == [5]
        again.history.undo()
        assert state(again) == before


def test_a_record_without_a_count_is_read_only_when_it_has_grown(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    unwrapped = Path.open

    def noting(path: Path, mode: str = "r", *arguments: object, **options: object) -> object:
        if path.suffix == ".undo" and mode == "rb":
            read.append(path.name)
        return unwrapped(path, mode, *arguments, **options)  # type: ignore[call-overload]

    with project.history.action("Segment") as action:  # an open record has no count, as after a kill
        for frames in (range(3), range(3, 5)):
            for index in frames:
                project.labels.write_prediction(index, predicted(project, BIPOLAR, slice(5, 9)), 1, action=action)
            monkeypatch.setattr(Path, "open", noting)
            assert [project.history.entries()[0].frame_count for _ in range(3)] == 3 * [frames.stop]
            monkeypatch.undo()
    assert len(read) == 2  # once, and again after it has grown


def test_a_failed_action_is_undone_frame_by_frame(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    count, size = 40, (256, 256)
    write_video(tmp_path / "clip.mp4", [rng.integers(0, 255, (*size, 3), np.uint8)] * count)
    with Project.create(tmp_path / "clip.surgicalsam", VideoReader(tmp_path / "clip.mp4"), ENDOVIS2018) as project:
        for index in range(count):
            project.labels[index] = rng.integers(0, 8, size, np.uint8)
        before = state(project)
        with pytest.raises(ValueError, match="gives up"), project.history.action("Import", all_or_none=True) as action:
            for index in range(count):
                project.labels.write_edit(index, np.zeros(size, np.uint8), action=action)
            record = sum(path.stat().st_size for path in (project.folder / "history").glob("*.undo"))
            tracemalloc.start()
            raise ValueError("gives up")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert state(project) == before
        assert peak < record / 2  # the record is never in memory completely


def test_a_damaged_history_raises_an_error_and_changes_nothing(project: Project) -> None:
    predict(project, range(2), slice(0, 20))
    file = next((project.folder / "history").glob("*.undo"))
    file.write_bytes(b"no json\n" * 2)
    after = state(project)
    with pytest.raises(ProjectError, match="cannot be undone: return to"):
        project.history.undo()
    assert state(project) == after


# ---- snapshots


def test_a_snapshot_is_restored_and_the_restore_undone(project: Project) -> None:
    project.labels[2, 0:9, 0:9] = PROGRASP
    project.labels.verify(3)
    then = state(project)
    snapshot = project.snapshots.create("first round")
    predict(project, range(6), slice(0, 20))
    project.labels[2, 4:20, 4:20] = BIPOLAR
    project.labels.unlock(3)
    now = state(project)
    with Project.open(project.folder) as again:
        assert [kept.name for kept in again.snapshots.entries()] == ["first round"]
        again.snapshots.restore(snapshot)
        assert state(again) == then
        again.history.undo()
        assert state(again) == now


def test_a_snapshot_is_restored_after_classes_were_added(project: Project) -> None:
    project.labels[2, 0:9, 0:9] = PROGRASP
    then = project.labels[:]
    snapshot = project.snapshots.create("before the new class")
    project.extend_classes(ClassSet("more", (*ENDOVIS2018, InstrumentClass(8, "Vessel Sealer", "#123456"))))
    project.labels[2, 0:9, 0:9] = 8
    project.snapshots.restore(snapshot)
    np.testing.assert_array_equal(project.labels[:], then)
    assert project.labels.provenance(2, 8) == Provenance.EMPTY


def test_restoring_an_unchanged_state_is_no_action(project: Project) -> None:
    project.labels[2, 0:9, 0:9] = PROGRASP
    project.snapshots.restore(project.snapshots.create("now"))
    assert project.history.entries() == []


def test_a_snapshot_without_hard_links_works_too(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    project.labels[2, 0:9, 0:9] = PROGRASP
    then = state(project)
    snapshot = project.snapshots.create("copied")
    project.labels[2, 4:20, 4:20] = BIPOLAR
    project.snapshots.restore(snapshot)
    assert state(project) == then


def test_only_an_action_on_a_share_of_the_video_makes_a_snapshot_first(tmp_path: Path) -> None:
    def counted_after(frame_count: int, project: Project) -> int:
        with project.action("Segment", frame_count) as action:
            project.labels.write_prediction(1, predicted(project, BIPOLAR, slice(0, 4)), 1, action=action)
        return len(project.snapshots.entries())

    write_video(tmp_path / "clip.mp4", [np.zeros((16, 16, 3), np.uint8)] * 3000)
    with Project.create(tmp_path / "clip.surgicalsam", VideoReader(tmp_path / "clip.mp4"), ENDOVIS2018) as project:
        project.labels[0, 0:4, 0:4] = PROGRASP
        assert [counted_after(frame_count, project) for frame_count in (20, 29, 30, 3000)] == [0, 0, 1, 2]


def test_only_the_last_automatic_snapshots_are_kept(project: Project) -> None:
    assert project.snapshots.create_before("anything") is None
    project.labels[2, 0:9, 0:9] = PROGRASP
    mine = project.snapshots.create("mine")
    for number in range(13):
        project.snapshots.create_before(f"run {number}")
    names = [snapshot.name for snapshot in project.snapshots.entries()]
    assert names == ["mine", *(f"Before: run {number}" for number in range(3, 13))]
    project.snapshots.remove(mine)
    assert "mine" not in [snapshot.name for snapshot in project.snapshots.entries()]
    with pytest.raises(ProjectError, match="needs a name"):
        project.snapshots.create("  ")


def test_snapshots_stay_in_order_if_the_clock_is_set_back(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    class StandingClock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime(2026, 1, 1, tzinfo=tz)

    project.labels[2, 0:9, 0:9] = PROGRASP
    project.snapshots.create("today")
    monkeypatch.setattr("surgicalsam_napari.store.snapshots.datetime", StandingClock)
    for number in range(13):
        project.snapshots.create_before(f"run {number}")
    names = [snapshot.name for snapshot in project.snapshots.entries()]
    assert names == ["today", *(f"Before: run {number}" for number in range(3, 13))]


# ---- one window at a time


def test_a_second_window_is_read_only_and_knows_the_owner_of_the_project(project: Project) -> None:
    assert project.claim() is None
    with Project.open(project.folder) as second:
        owner = second.claim()
        assert owner is not None
        assert owner.process == os.getpid()
        with pytest.raises(ProjectError, match=r"open for editing by .*Close it there"):
            second.labels[0, 0, 0] = 1
        with pytest.raises(ProjectError, match="open for editing"):
            second.record_checkpoint({"digest": "new"})
        with pytest.raises(ProjectError, match="Segment was not written"):
            predict(second, range(2), slice(0, 20))
        assert not (project.folder / "history").exists()
        project.labels[0, 0, 0] = 1
        assert second.labels[0, 0, 0] == 1
    project.close()
    with Project.open(project.folder) as third:
        assert third.claim() is None
        third.labels[0, 0, 0] = 2


def test_the_claim_of_a_killed_window_is_taken_over(project: Project) -> None:
    code = """
import os, signal, sys
from surgicalsam_napari.store import Project
project = Project.open(sys.argv[1])
assert project.claim() is None
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, str(project.folder)], timeout=120, check=False)
    record = json.loads((project.folder / ".window" / "owner.json").read_text())
    assert record["process"] != os.getpid()
    assert project.claim() is None


# ---- the work log


def test_the_work_on_each_frame_is_counted(project: Project, tmp_path: Path) -> None:
    project.labels[2, 0:4, 0:4] = PROGRASP
    project.labels[2, 0:4, 2:6] = PROGRASP  # the same stroke continues
    project.labels[5, 0, 0] = BIPOLAR
    project.work_log.note_view(2, 3.5)
    project.work_log.note_view(4, 1.25)
    with Project.open(project.folder) as again:
        assert again.work_log.write_csv(tmp_path / "work.csv") == 3
    lines = (tmp_path / "work.csv").read_text().splitlines()
    assert lines == ["frame,seconds,strokes,changed_pixels,annotators", "2,3.5,1,24,", "4,1.25,0,0,", "5,0.0,1,1,"]
    with pytest.raises(ProjectError, match="cannot be written"):
        project.work_log.write_csv(tmp_path / "nowhere" / "work.csv")


# ---- projects of an earlier version


def test_opening_a_project_without_the_later_tables_adds_them(project: Project) -> None:
    project.labels[2, 0:9, 0:9] = PROGRASP
    before = project.labels[:]
    project.close()
    shutil.rmtree(project.folder / "contested")
    with Project.open(project.folder) as again:
        assert np.isnan(again.labels.table("contested")).all()
        predict(again, range(3), slice(0, 20))
        assert again.labels.table("contested")[2, 0] == 0
        again.history.undo()
        np.testing.assert_array_equal(again.labels[:], before)


def test_another_process_takes_part_in_an_action_until_it_ends(project: Project) -> None:
    with Project.open(project.folder) as other:
        with project.history.action("Segment") as action:
            joined = other.history.joined(action.number)
            project.labels.write_prediction(0, predicted(project, BIPOLAR, slice(0, 9)), 1, action=action)
            other.labels.write_prediction(1, predicted(other, BIPOLAR, slice(0, 9)), 1, action=joined)
        assert [(entry.name, entry.frame_count) for entry in project.history.entries()] == [("Segment", 2)]
        with pytest.raises(ProjectError, match="has ended"):
            other.labels.write_prediction(2, predicted(other, BIPOLAR, slice(0, 9)), 1, action=joined)
        assert not project.labels[2].any()
        project.history.undo()
        assert not project.labels[:3].any()


def test_frames_that_an_action_recorded_and_did_not_write_do_not_count_as_written(project: Project) -> None:
    with project.history.action("Segment") as action:
        project.labels.write_prediction(0, predicted(project, BIPOLAR, slice(0, 9)), 1, action=action)
        position = project.history.position(action)
        project.labels.write_prediction(1, predicted(project, BIPOLAR, slice(0, 9)), 1, action=action)
        file = next((project.folder / "history").glob("*.undo"))
        before, after = read_line(file, line_offsets(file)[-1])
        append(file, replace(before, frame_index=2), after)  # as by a process killed before it wrote frame 2,
        with file.open("ab") as stream:  # during the next line
            stream.write(file.read_bytes().splitlines()[-1][:40])
        assert project.history.written(action, range(5)) == {0, 1}
        assert project.history.written(action, range(5), position) == {1}
        assert project.history.written(action, [0, 2]) == {0}
        assert project.history.position(action) == file.stat().st_size
