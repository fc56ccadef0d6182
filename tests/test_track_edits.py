"""A person says who is who: same as, split here, swap from here on, this track is a. Each is one action."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np
import pytest

from surgicalsam_napari.editing import (
    EditOutcome,
    change_track_class,
    same_as,
    split_here,
    swap_from_here,
    track_at,
)
from surgicalsam_napari.errors import ClassSetError, ProjectError
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.surgical_sam import FramePrediction
from surgicalsam_napari.store import Project, Provenance, Span, Track, TrackTable
from surgicalsam_napari.video import VideoReader

DRIVER, GRASPER = 3, 2
LEFT, RIGHT = (slice(10, 40), slice(10, 40)), (slice(10, 40), slice(80, 110))
IN_LEFT, IN_RIGHT = (20, 20), (20, 90)
COUNT = 12
OUT = 5  # the frame in which the left one is out of view


@pytest.fixture
def project(clip: Path) -> Iterator[Project]:
    """Two needle drivers; the left one leaves in frame 5 and is another track afterwards."""
    with Project.create(Project.default_folder(clip), VideoReader(clip), ENDOVIS2018) as new_project:
        score = np.ones(1, np.float32)
        with new_project.action("Segment and link", COUNT) as action:
            for frame in range(COUNT):
                numbers = np.zeros((96, 128), np.uint8)
                numbers[RIGHT] = 2
                numbers[LEFT] = 0 if frame == OUT else 1 if frame < OUT else 3
                labels = np.where(numbers > 0, DRIVER, 0).astype(np.uint8)
                predicted = FramePrediction((DRIVER,), labels, score, score, np.array([True]), score * 0)
                new_project.labels.write_prediction(frame, predicted, 1, action=action)
                new_project.tracks.write_numbers(frame, numbers, action=action)
            left, right, again = (Span(0, 4, 1),), (Span(0, 11, 2),), (Span(6, 11, 3),)
            tracks = (Track(1, DRIVER, left), Track(2, DRIVER, right), Track(3, DRIVER, again))
            new_project.tracks.write_table(TrackTable(tracks), action=action)
        yield new_project


def finished(steps: Generator[object, None, EditOutcome]) -> EditOutcome:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def test_same_as_joins_what_came_back_after_an_occlusion(project: Project) -> None:
    before = project.tracks.table
    track = same_as(project, (2, *IN_LEFT), (8, *IN_LEFT))
    assert (track.id, track.spans, track.made_by) == (1, (Span(0, 4, 1), Span(6, 11, 3)), "person")
    assert [each.id for each in project.tracks.table.tracks] == [1, 2]
    assert project.history.to_undo is not None
    assert project.history.to_undo.name == "Large Needle Driver 3 is Large Needle Driver 1"
    with Project.open(project.folder) as again:
        again.history.undo()
        assert again.tracks.table == before
        again.history.redo()
        assert again.tracks.table.by_id(1) == track


def test_same_as_refuses_two_instruments_of_one_frame(project: Project) -> None:
    before = project.tracks.table
    with pytest.raises(ProjectError, match=r"frame 0 shows Large Needle Driver 1 and Large Needle Driver 2.*Split one"):
        same_as(project, (2, *IN_LEFT), (5, *IN_RIGHT))
    with pytest.raises(ProjectError, match="both clicks are on the same one"):
        same_as(project, (2, *IN_LEFT), (3, *IN_LEFT))
    with pytest.raises(ProjectError, match="background"):
        same_as(project, (2, *IN_LEFT), (3, 0, 0))
    assert project.tracks.table == before and project.history.entries()[-1].name == "Segment and link"


def test_same_as_joins_tracks_whose_common_frames_have_pixels_of_one_only(project: Project) -> None:
    """A person erased the left one where the table still has it, and painted it where it was."""
    table = project.tracks.table
    project.tracks.edit("Link", table.without(3).with_new(DRIVER, [Span(3, 4, 4), Span(6, 11, 3)]))
    project.labels[3:5, 70:80, 10:20] = DRIVER
    for frame in (3, 4):
        numbers = project.tracks.numbers(frame).copy()
        numbers[70:80, 10:20] = 4
        project.tracks.write_numbers(frame, numbers)
    with pytest.raises(ProjectError, match="frame 3 shows"):
        same_as(project, (2, *IN_LEFT), (8, *IN_LEFT))
    project.labels[3:5, 70:80, 10:20] = 0
    assert same_as(project, (2, *IN_LEFT), (8, *IN_LEFT)).spans == (Span(0, 4, 1), Span(6, 11, 3))


def test_a_region_without_a_track_joins_one(project: Project) -> None:
    project.labels[OUT, 10:40, 10:40] = DRIVER  # painted: linked to nothing yet
    with pytest.raises(ProjectError, match=r"has none yet\. Link"):
        track_at(project, (OUT, *IN_LEFT))
    track = same_as(project, (OUT, *IN_LEFT), (4, *IN_LEFT))
    assert track.spans == (Span(0, 5, 1),) and (project.tracks.numbers(OUT)[LEFT] == 1).all()
    assert project.tracks.is_linked(OUT)
    project.history.undo()
    assert not project.tracks.numbers(OUT)[LEFT].any() and project.tracks.table.by_id(1).last == 4


def test_two_regions_without_a_track_become_one(project: Project) -> None:
    for frame in (1, 9):
        project.labels[frame, 70:80, 10:20] = GRASPER
    track = same_as(project, (1, 75, 15), (9, 75, 15))
    assert track.class_id == GRASPER and [span.first for span in track.spans] == [1, 9] and track.made_by == "person"
    assert track_at(project, (9, 75, 15)) == track == track_at(project, (1, 75, 15))
    with pytest.raises(ProjectError, match=r"One instrument has one class.*This track is a"):
        same_as(project, (1, 75, 15), (5, *IN_RIGHT))


def test_two_pieces_in_one_frame_are_one_instrument_if_a_person_says_so(project: Project) -> None:
    project.labels[7, 70:80, 10:20] = DRIVER
    with pytest.raises(ProjectError, match=r"frame 7 shows Large Needle Driver 3 beside the other region"):
        same_as(project, (8, *IN_LEFT), (7, 75, 15))
    track = same_as(project, (7, *IN_LEFT), (7, 75, 15))
    assert track_at(project, (7, 75, 15)) == track and track.id == 3 and project.tracks.is_linked(7)


def test_split_and_swap_are_one_action_each(project: Project) -> None:
    new = split_here(project, (4, *IN_RIGHT))
    assert (new.id, new.spans) == (4, (Span(4, 11, 2),)) and project.tracks.table.by_id(2).last == 3
    project.history.undo()
    swap_from_here(project, (8, *IN_LEFT), (8, *IN_RIGHT))
    assert track_at(project, (7, *IN_LEFT)).id == 3 and track_at(project, (8, *IN_LEFT)).id == 2
    assert project.history.to_undo is not None
    assert project.history.to_undo.name == "Swap Large Needle Driver 3 and Large Needle Driver 2 from frame 8 on"
    project.history.undo()
    assert track_at(project, (8, *IN_LEFT)).id == 3
    with pytest.raises(ProjectError, match=r"goes from frame 0 to 11, got frame 0\. Choose a frame after"):
        split_here(project, (0, *IN_RIGHT))
    with pytest.raises(ProjectError, match="two regions of one frame; got the frames 8 and 9"):
        swap_from_here(project, (8, *IN_LEFT), (9, *IN_RIGHT))


def test_the_class_of_a_whole_track_is_one_action_over_its_frames(project: Project) -> None:
    before, table = project.labels[:], project.tracks.table
    outcome = finished(change_track_class(project, 3, GRASPER))
    assert outcome.changed == tuple(range(6, 12)) and not outcome.left
    assert all((project.labels[frame][LEFT] == GRASPER).all() for frame in range(6, 12))
    assert all((project.labels[frame][RIGHT] == DRIVER).all() for frame in range(12))
    assert project.tracks.table.by_id(3).class_id == GRASPER and project.tracks.is_linked(8)
    assert project.tracks.table.title(project.tracks.table.by_id(3), project.classes) == "Prograsp Forceps 1"
    with Project.open(project.folder) as again:
        undone = again.history.undo()
        assert undone is not None and undone.frame_indices == outcome.changed and undone.has_tracks
        np.testing.assert_array_equal(again.labels[:], before)
        assert again.tracks.table == table and again.tracks.is_linked(8)


def test_a_persons_pixels_keep_their_class_unless_a_person_says_so(project: Project) -> None:
    project.labels[7, 10:12, 10:40] = 0
    project.labels[7, 10:12, 10:40] = DRIVER
    project.labels.verify(8, [DRIVER])
    outcome = finished(change_track_class(project, 3, GRASPER))
    assert outcome.left == (7, 8) and 7 in outcome.changed and 8 not in outcome.changed
    assert (project.labels[7][10:12, 10:40] == DRIVER).all() and (project.labels[7][12:40, 10:40] == GRASPER).all()
    assert (project.labels[8][LEFT] == DRIVER).all()
    outcome = finished(change_track_class(project, 3, GRASPER, include_edited=True))
    assert outcome.changed == (7, 8) and not outcome.left
    assert (project.labels[7][LEFT] == GRASPER).all() and (project.labels[8][LEFT] == GRASPER).all()
    assert project.labels.provenance(8, DRIVER) == Provenance.VERIFIED
    project.history.undo()
    assert (project.labels[8][LEFT] == DRIVER).all() and project.labels.provenance(8, DRIVER) == Provenance.VERIFIED


def test_a_frame_that_changed_since_stays_when_the_class_of_a_track_is_undone(project: Project) -> None:
    finished(change_track_class(project, 3, GRASPER))
    project.labels[9, 12:14, 12:14] = 0
    undone = project.history.undo()
    assert undone is not None and undone.kept == (9,) and undone.has_tracks
    assert (project.labels[9][20:40, 10:40] == GRASPER).all() and (project.labels[8][LEFT] == DRIVER).all()
    with pytest.raises(ClassSetError):
        next(change_track_class(project, 3, 99))
    with pytest.raises(ProjectError, match="no track 77; its tracks are 1, 2, 3"):
        next(change_track_class(project, 77, GRASPER))


def test_a_touching_pair_of_one_class_is_two_instruments(project: Project) -> None:
    project.labels[7, 10:40, 40:80] = DRIVER  # now one connected region of two numbers
    swap_from_here(project, (7, *IN_LEFT), (7, *IN_RIGHT))
    assert track_at(project, (7, *IN_LEFT)).id == 2 and track_at(project, (7, *IN_RIGHT)).id == 3
