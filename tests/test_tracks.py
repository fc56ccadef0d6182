"""Who is who: numbers of instances beside the labels, and the table of tracks, with undo, snapshots and damage."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from surgicalsam_napari.editing import clear_class
from surgicalsam_napari.errors import ProjectError, UnreachableError
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.surgical_sam import FramePrediction
from surgicalsam_napari.store import Project, Provenance, Span, Track, TrackTable, ViewerLabels
from surgicalsam_napari.store.backup import backing_up, restoring
from surgicalsam_napari.store.checking import checking
from surgicalsam_napari.store.disk.merging import followed_numbers
from surgicalsam_napari.video import VideoReader

DRIVER, GRASPER = 3, 2
LEFT, RIGHT = (slice(10, 40), slice(10, 40)), (slice(10, 40), slice(80, 110))
TABLE = TrackTable((Track(1, DRIVER, (Span(0, 9, 1),)), Track(2, DRIVER, (Span(0, 9, 2),))))


@pytest.fixture
def project(clip: Path) -> Iterator[Project]:
    """Two needle drivers in the frames 0 to 9, linked as two tracks."""
    with Project.create(Project.default_folder(clip), VideoReader(clip), ENDOVIS2018) as new_project:
        with new_project.action("Segment and link", 10) as action:
            for frame in range(10):
                new_project.labels.write_prediction(frame, prediction(two_drivers()), 1, action=action)
                new_project.tracks.write_numbers(frame, numbers_of_two(), action=action)
            new_project.tracks.write_table(TABLE, action=action)
        yield new_project


def two_drivers() -> np.ndarray:
    labels = np.zeros((96, 128), np.uint8)
    labels[LEFT] = labels[RIGHT] = DRIVER
    return labels


def numbers_of_two() -> np.ndarray:
    numbers = np.zeros((96, 128), np.uint8)
    numbers[LEFT], numbers[RIGHT] = 1, 2
    return numbers


def prediction(label_map: np.ndarray, class_ids: tuple[int, ...] = (DRIVER,)) -> FramePrediction:
    score = np.full(len(class_ids), 0.9, np.float32)
    return FramePrediction(class_ids, label_map, score, score, np.ones(len(class_ids), bool), np.zeros_like(score))


def test_numbers_follow_a_stroke_in_the_same_write(project: Project) -> None:
    project.labels[4, 10:20, 40:45] = DRIVER  # grows the left one
    project.labels[4, 30:40, 80:110] = 0  # cuts the right one
    project.labels[4, 70:80, 10:20] = DRIVER  # touches none
    numbers = project.tracks.numbers(4)
    assert (numbers[10:20, 40:45] == 1).all() and not numbers[30:40, 80:110].any() and not numbers[70:80, 10:20].any()
    assert (numbers[20:30, 80:110] == 2).all()
    assert not project.tracks.is_linked(4) and project.tracks.is_linked(5)
    np.testing.assert_array_equal(project.tracks.numbers(5), numbers_of_two())


def test_undo_of_an_action_brings_back_labels_numbers_and_table(project: Project) -> None:
    undone = project.history.undo()
    assert undone is not None and undone.frame_indices == tuple(range(10)) and undone.has_tracks
    assert not project.tracks.table.tracks and not project.tracks.numbers(3).any() and not project.labels[3].any()
    with Project.open(project.folder) as again:
        again.history.redo()
        assert again.tracks.table == TABLE and again.tracks.is_linked(3)


def test_an_edit_of_the_table_is_an_action(project: Project) -> None:
    project.tracks.edit("Swap", TABLE.swapped(1, 2, 5))
    assert project.tracks.table.at(7, 1) == project.tracks.table.by_id(2)
    with Project.open(project.folder) as again:
        assert again.history.to_undo is not None
        assert (again.history.to_undo.name, again.history.to_undo.frame_count) == ("Swap", 0)
        undone = again.history.undo()
        assert undone is not None and undone.frame_indices == () == undone.kept and undone.has_tracks
        assert again.tracks.table == TABLE
        again.history.redo()
        assert again.tracks.table == TABLE.swapped(1, 2, 5)


def test_linking_again_keeps_what_a_person_said() -> None:
    """A person joined 1 and 3, and split 2 at frame 6; linking finds them otherwise, with other numbers."""
    linked = TrackTable(
        (Track(1, DRIVER, (Span(0, 3, 1),)), Track(2, DRIVER, (Span(0, 9, 2),)), Track(3, DRIVER, (Span(5, 9, 1),)))
    )
    said = linked.joined(1, 3).split(2, 6)
    found = (Track(0, DRIVER, (Span(0, 3, 7),)), Track(0, DRIVER, (Span(0, 9, 8),)), Track(0, DRIVER, (Span(4, 12, 9),)))
    words = {1: (Span(0, 3, 7), Span(5, 9, 9)), 2: (Span(0, 5, 8),), 3: (Span(6, 9, 8),)}
    again = said.with_linked(found, range(13), words)
    assert [track.id for track in again.tracks] == [1, 2, 3]
    assert again.by_id(1).spans == (Span(0, 3, 7), Span(4, 12, 9))  # also the frames beside what was said
    assert again.by_id(2).spans == (Span(0, 5, 8),) and again.by_id(3).spans == (Span(6, 9, 8),)
    assert {track.made_by for track in again.tracks} == {"person"}


def test_linking_some_frames_again_leaves_the_others(project: Project) -> None:
    found = (Track(0, DRIVER, (Span(4, 6, 3),)), Track(2, DRIVER, (Span(4, 6, 4),)))
    again = TABLE.with_linked(found, range(4, 7), {})
    assert again.by_id(1).spans == (Span(0, 3, 1), Span(7, 9, 1))
    assert again.by_id(2).spans == (Span(0, 3, 2), Span(4, 6, 4), Span(7, 9, 2)) and again.by_id(3).spans == (Span(4, 6, 3),)


# ---- the numbers


def test_a_stroke_that_is_undone_in_the_viewer_leaves_no_trace_in_the_numbers(project: Project) -> None:
    layer = ViewerLabels(project.labels)
    before = layer[4, 10:40, 10:40].copy()
    layer[4, 10:40, 10:40] = GRASPER  # a region of another class leaves its instance
    assert not project.tracks.numbers(4)[LEFT].any()
    layer[4, 0:9, 0:9] = DRIVER
    layer[4, 0:9, 0:9] = np.zeros((9, 9), np.uint8)  # as undo does
    layer[4, 10:40, 10:40] = before
    np.testing.assert_array_equal(project.tracks.numbers(4), numbers_of_two())
    assert project.tracks.table == TABLE


def test_an_undo_does_not_bring_back_numbers_from_before_the_frame_was_linked_again(project: Project) -> None:
    layer = ViewerLabels(project.labels)
    before = layer[4, 10:40, 10:40].copy()
    layer[4, 10:40, 10:40] = 0
    project.tracks.write_numbers(4, numbers_of_two() * 3)  # linked again: the right one is 6 now
    layer[4, 10:40, 10:40] = before
    assert not project.tracks.numbers(4)[LEFT].any() and (project.tracks.numbers(4)[RIGHT] == 6).all()


def test_a_region_recoloured_in_one_frame_joins_the_touching_instance_of_its_class_or_none(project: Project) -> None:
    project.labels[4, 10:40, 40:60] = GRASPER
    with project.history.action("Link") as action:
        numbers = project.tracks.numbers(4).copy()
        numbers[10:40, 40:60] = 3
        project.tracks.write_numbers(4, numbers, action=action)
        project.tracks.write_table(TABLE.with_new(GRASPER, [Span(4, 4, 3)], made_by="linked"), action=action)
    table = project.tracks.table
    project.labels[4, 10:40, 10:40] = GRASPER  # touches the grasper
    project.labels[5, 10:40, 10:40] = GRASPER  # touches none
    assert (project.tracks.numbers(4)[LEFT] == 3).all() and not project.tracks.numbers(5)[LEFT].any()
    assert project.tracks.table == table  # strokes change no table: track 1 goes on before and after
    assert project.tracks.table.by_id(1).number_at(6) == 1


def test_predictions_imports_and_range_edits_take_the_numbers_along(project: Project) -> None:
    shifted = np.roll(two_drivers(), 5, axis=1)
    project.labels.write_prediction(2, prediction(shifted), 1)
    np.testing.assert_array_equal(project.tracks.numbers(2), np.roll(numbers_of_two(), 5, axis=1))
    project.labels.write_import(3, shifted, [DRIVER])
    np.testing.assert_array_equal(project.tracks.numbers(3), np.roll(numbers_of_two(), 5, axis=1))
    project.labels.reset_frame(3)
    assert not project.tracks.numbers(3).any()
    list(clear_class(project, DRIVER, [2]))
    assert not (project.folder / "instances" / "c.2.0.0").exists()  # a frame without instances has no file


def test_new_pixels_take_the_number_that_they_touch_most() -> None:
    before, after = np.zeros((10, 20), np.uint8), np.zeros((10, 20), np.uint8)
    numbers = np.zeros((10, 20), np.uint8)
    before[0:3, 0:5] = before[0:8, 9:14] = after[0:3, 0:5] = after[0:8, 9:14] = DRIVER
    numbers[0:3, 0:5], numbers[0:8, 9:14] = 1, 2
    after[0:8, 5:9] = DRIVER  # between the two: touches the second on eight rows
    after[0:3, 16:18] = GRASPER
    followed = followed_numbers(before, after, numbers)
    assert (followed[0:8, 5:9] == 2).all() and (followed[0:3, 0:5] == 1).all() and not followed[0:3, 16:18].any()
    assert followed_numbers(after, after, followed) is followed


def test_more_than_255_instances_in_a_frame_are_refused_with_the_remedy(project: Project) -> None:
    labels = np.zeros((96, 128), np.uint8)
    labels[::4, ::4] = DRIVER  # 768 specks
    project.labels.write_edit(6, labels)
    numbers = np.cumsum(labels.ravel() > 0).reshape(labels.shape) * (labels > 0)
    before = project.tracks.numbers(6)
    with pytest.raises(ProjectError, match=r"at most 255 instances, frame 6 has the number 768\. Remove specks"):
        project.tracks.write_numbers(6, numbers)
    np.testing.assert_array_equal(project.tracks.numbers(6), before)


def test_predictions_are_relabelled_with_their_instances_except_what_a_person_painted(project: Project) -> None:
    project.labels[4, 10:15, 10:40] = 0
    project.labels[4, 10:15, 10:40] = DRIVER  # painted, and again of the left one
    wanted = np.where(project.tracks.numbers(4) == 1, GRASPER, project.labels[4])
    with project.history.action("Vote") as action:
        assert project.labels.relabel_predictions(4, wanted, action=action) == 25 * 30
    assert (project.labels[4][10:15, 10:40] == DRIVER).all() and (project.labels[4][15:40, 10:40] == GRASPER).all()
    assert project.labels.provenance(4, GRASPER) == Provenance.PREDICTED
    assert (project.tracks.numbers(4)[LEFT] == 1).all() and not project.labels.painted(4)[15:40].any()
    project.history.undo()
    assert (project.labels[4][LEFT] == DRIVER).all()


# ---- the project around them


def make_old(project: Project) -> None:
    """Close a project, and take away what an earlier version did not write."""
    project.close()
    for name in ("instances", "checksums"):
        shutil.rmtree(project.folder / name)
    for name in ("tracks.json", "files.json"):
        (project.folder / name).unlink()
    manifest = json.loads((project.folder / "project.json").read_text())
    del manifest["has_checksums"], manifest["has_file_records"]
    (project.folder / "project.json").write_text(json.dumps(manifest))


def test_a_project_from_before_opens_and_gets_its_instances(project: Project) -> None:
    make_old(project)
    with Project.open(project.folder) as again:
        assert not again.tracks.table.tracks and not again.tracks.numbers(3).any() and not again.tracks.is_linked(3)
        again.labels[3, 0:5, 0:5] = GRASPER
        again.tracks.write_numbers(4, numbers_of_two())
        assert (again.tracks.numbers(4)[RIGHT] == 2).all()
        assert list(checking(again))[-1].found[0].path.name == "tracks.json"  # numbers that nothing explains
        again.tracks.edit("Link", TABLE)
        assert not list(checking(again))[-1].found and again.tracks.is_linked(4)


def test_a_read_only_project_from_before_has_no_instances(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    make_old(project)
    monkeypatch.setattr(os, "access", lambda *_arguments: False)
    with Project.open(project.folder) as again:
        assert not again.writable and not again.tracks.numbers(3).any() and not again.tracks.is_linked(3)
        assert not list(checking(again))[-1].found and not (project.folder / "instances").exists()


def test_a_read_only_project_shows_its_tracks_and_refuses_edits(project: Project) -> None:
    project.labels.set_read_only("somebody else has it open")
    with pytest.raises(ProjectError, match="somebody else has it open"):
        project.tracks.edit("Swap", TABLE.swapped(1, 2, 5))
    with pytest.raises(ProjectError, match="somebody else has it open"):
        project.tracks.write_numbers(3, numbers_of_two() * 2)
    assert project.tracks.table == TABLE and project.tracks.is_linked(3)


def test_while_the_folder_is_away_a_window_shows_what_was_read_last(project: Project) -> None:
    project.labels.unsaved.is_watched = True
    assert project.tracks.table == TABLE and project.tracks.numbers(3).any()
    away = project.folder.rename(project.folder.with_name("away"))
    assert project.tracks.table == TABLE
    np.testing.assert_array_equal(project.tracks.numbers(3), numbers_of_two())
    project.labels.unsaved.is_watched = False
    with pytest.raises(UnreachableError):
        _ = project.tracks.table
    with pytest.raises(UnreachableError):
        project.tracks.numbers(3)
    away.rename(project.folder)
    assert project.tracks.is_linked(3)


def test_a_snapshot_keeps_who_is_who(project: Project) -> None:
    snapshot = project.snapshots.create("good")
    project.tracks.edit("Swap", TABLE.swapped(1, 2, 5))
    project.labels[4, 10:40, 10:40] = 0
    project.snapshots.restore(snapshot)
    assert project.tracks.table == TABLE and project.tracks.is_linked(4)
    project.history.undo()
    assert project.tracks.table == TABLE.swapped(1, 2, 5) and not project.tracks.numbers(4)[LEFT].any()
    (snapshot.folder / "tracks.json").unlink()
    with pytest.raises(ProjectError, match="missing or changed"):
        project.snapshots.restore(snapshot)
    assert [damage.path for damage in list(checking(project))[-1].found] == [snapshot.folder / "tracks.json"]


def test_a_backup_has_the_instances_and_the_tracks(project: Project, tmp_path: Path) -> None:
    list(backing_up(project, tmp_path / "backup.zip"))
    list(restoring(tmp_path / "backup.zip", tmp_path / "again.surgicalsam"))
    with Project.open(tmp_path / "again.surgicalsam", video=VideoReader(project.manifest.video_path)) as again:
        assert again.tracks.table == TABLE and again.tracks.is_linked(3)


def test_a_change_of_numbers_and_of_the_table_is_announced(project: Project) -> None:
    seen: list[int | None] = []
    project.tracks.changed.connect(seen.append)
    project.labels[4, 10:15, 10:40] = 0
    project.tracks.edit("Swap", TABLE.swapped(1, 2, 5))
    project.labels[11, 0:5, 0:5] = GRASPER  # no numbers there
    project.history.undo()
    assert seen == [4, None, None]


def test_numbers_without_a_table_after_an_undo_are_no_damage(project: Project) -> None:
    with project.action("Link", 1) as action:
        project.tracks.write_numbers(4, numbers_of_two(), action=action)
        project.tracks.write_table(TABLE, action=action)
    project.labels[4, 0:3, 0:3] = GRASPER  # so the numbers of this frame stay
    project.history.undo()
    assert not project.tracks.table.tracks
    assert [damage.path.name for damage in list(checking(project))[-1].found] == []
    project.history.redo()
    assert project.tracks.table == TABLE


def test_the_table_of_another_project_is_noticed(project: Project) -> None:
    project.tracks.edit("Link", TABLE)
    (project.folder / "tracks.json").write_bytes(TABLE.without(TABLE.tracks[0].id).to_bytes())
    assert [damage.path.name for damage in list(checking(project))[-1].found] == ["tracks.json"]
