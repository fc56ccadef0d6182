"""Who is who: numbers of instances beside the labels, and the table of tracks, with undo, snapshots and damage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.surgical_sam import FramePrediction
from surgicalsam_napari.store import Project, Span, Track, TrackTable
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
