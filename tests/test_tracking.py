"""Linking of instances over time, the vote on their classes, and smoothing: alone, in a project, and by the command line."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surgicalsam_napari.cli import main
from surgicalsam_napari.inference.segment import SegmentReport
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.digest import checkpoint_record
from surgicalsam_napari.model.surgical_sam import FramePrediction
from surgicalsam_napari.phantom import PhantomScene
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.tracking.class_vote import Vote, voted_classes
from surgicalsam_napari.tracking.link_instances import frames_to_link, link_instances
from surgicalsam_napari.tracking.linking import LabelledFrame, LinkedFrame, LinkedTrack, Linking, link_frames
from surgicalsam_napari.tracking.looks import Look
from surgicalsam_napari.tracking.predict_and_fill import predict_and_fill
from surgicalsam_napari.tracking.segment_video import segment_whole_video
from surgicalsam_napari.tracking.smooth_masks import smooth_masks
from surgicalsam_napari.tracking.stitching import stitched
from surgicalsam_napari.tracking.track import is_vote_due, may_vote, track
from surgicalsam_napari.tracking.tracklets import Stretch
from surgicalsam_napari.tracking.vote_classes import vote_classes
from surgicalsam_napari.video import VideoReader, write_video

DRIVER, GRASPER, SCISSORS = 3, 2, 6
SIZE = 96, 160
FRAMES = 36
LEFT, RIGHT = 1, 2


def textures() -> tuple[np.ndarray, ...]:
    """A background, and the skins of two rods."""
    rng = np.random.default_rng(3)
    grain = np.repeat(np.repeat(rng.integers(0, 60, (3, 24, 80, 1)), 4, 1), 2, 2)
    return tuple((base + noise[:96, :160]).astype(np.uint8) for base, noise in zip((90, 150, 180), grain, strict=True))


def depth_at(index: int) -> int:
    """How far both rods reach into the picture."""
    return int(90 - 60 * abs(index - FRAMES / 2) / (FRAMES / 2))


def truth(index: int) -> np.ndarray:
    """(H, W) uint8: a rod from the left and one from the right, which pass over one another and part again."""
    depth = depth_at(index)
    numbers = np.zeros(SIZE, np.uint8)
    numbers[36:50, :depth] = LEFT
    numbers[46:60, 160 - depth :] = RIGHT
    return numbers


def pictures() -> list[np.ndarray]:
    background, *skins = textures()
    frames = []
    for index in range(FRAMES):
        picture, numbers = np.repeat(background[..., :1], 3, 2), truth(index)
        for number, skin in zip((LEFT, RIGHT), skins, strict=True):
            moved = np.roll(skin, depth_at(index) if number == LEFT else -depth_at(index), 1)
            picture[numbers == number] = np.repeat(moved[..., :1], 3, 2)[numbers == number]
        frames.append(picture)
    return frames


PICTURES = pictures()
LABELS = [np.where(truth(index) > 0, DRIVER, 0).astype(np.uint8) for index in range(FRAMES)]


def linked(
    labels: list[np.ndarray], images: list[np.ndarray] = PICTURES
) -> tuple[list[np.ndarray], tuple[LinkedTrack, ...]]:
    """(H, W) ids of tracks, from 1, of each frame, and the tracks."""
    maps: list[np.ndarray] = []
    run = link_frames(LabelledFrame(index, *pair) for index, pair in enumerate(zip(images, labels, strict=True)))
    while True:
        try:
            frame = next(run)
        except StopIteration as stop:
            tracks: tuple[LinkedTrack, ...] = stop.value
            break
        maps.append(frame.numbers(labels[frame.index]).astype(int))
    ids = [np.zeros(labels[0].shape, int) for _ in maps]
    for track_id, found in enumerate(tracks, start=1):
        for first, last, number in found.spans:
            for index in range(first, last + 1):
                ids[index][maps[index] == number] = track_id
    return ids, tracks


def owner(ids: np.ndarray, number: int, index: int) -> int:
    """The track that has most pixels of an instrument."""
    return int(np.bincount(ids[truth(index) == number]).argmax())


def done(run: Generator[Any, None, Any]) -> Any:
    while True:
        try:
            next(run)
        except StopIteration as stop:
            return stop.value


# ---- linking alone


def test_two_instruments_of_one_class_keep_their_tracks_through_a_crossing() -> None:
    ids, tracks = linked(LABELS)
    assert len(tracks) == 2
    for number in (LEFT, RIGHT):
        assert len({owner(ids[index], number, index) for index in range(FRAMES)}) == 1
    assert owner(ids[0], LEFT, 0) != owner(ids[0], RIGHT, 0)


def test_a_wrong_class_does_not_break_a_track() -> None:
    labels = [labels.copy() for labels in LABELS]
    for index in (5, 6, 17, 30):
        labels[index][truth(index) == LEFT] = GRASPER
    ids, tracks = linked(labels)
    assert len(tracks) == 2 and {found.class_id for found in tracks} == {DRIVER}
    assert len({owner(ids[index], LEFT, index) for index in range(FRAMES)}) == 1


def test_an_instrument_that_returns_where_it_left_is_the_same_track() -> None:
    labels = [labels.copy() for labels in LABELS]
    images = [image.copy() for image in PICTURES]
    background = np.repeat(textures()[0][..., :1], 3, 2)
    for index in range(4, 16):
        is_left = truth(index) == LEFT
        labels[index][is_left] = 0
        images[index][is_left] = background[is_left]
    ids, tracks = linked(labels, images)
    assert len(tracks) == 2
    assert owner(ids[2], LEFT, 2) == owner(ids[25], LEFT, 25)


def test_an_instrument_that_returns_with_its_jaws_first_is_the_same_track() -> None:
    scene = PhantomScene(7000, (128, 160), 250, alike=2)
    frames = [scene.frame(index) for index in range(0, 250, 3)]
    ids, tracks = linked([frame.labels for frame in frames], [frame.image for frame in frames])
    assert len(tracks) == 2
    for number in (1, 2):
        seen = [index for index, frame in enumerate(frames) if np.count_nonzero(frame.instances == number) > 100]
        assert len(seen) < len(frames)  # it leaves and returns
        assert len({int(np.bincount(ids[index][frames[index].instances == number]).argmax()) for index in seen}) == 1


def test_an_instrument_that_moves_fast_over_another_keeps_its_pixels() -> None:
    scene = PhantomScene(1_300_009, (256, 320), 250, alike=2)
    frames = [scene.frame(index) for index in range(82, 123)]
    ids, _ = linked([frame.labels for frame in frames], [frame.image for frame in frames])
    for number in (1, 2):
        known = int(np.bincount(ids[28][frames[28].instances == number]).argmax())
        for found, frame in zip(ids[28:], frames[28:], strict=True):  # the second one is in the picture
            assert (found[frame.instances == number] == known).mean() > 0.85


def test_what_enters_where_an_instrument_of_its_class_left_is_that_one_whatever_it_looks_like() -> None:
    def look(row: float, direction: float, colour: int) -> Look:
        return Look(np.eye(24, dtype=np.float32)[colour], np.array([0.0, row]), direction)

    gone = Stretch(1, 0, 50, look(0.4, 0.1, 0), look(0.4, 0.1, 0), dict.fromkeys(range(51), DRIVER))
    frames = dict.fromkeys(range(80, 120), DRIVER)
    back, other = (Stretch(key, 80, 119, *[look(row, 1.4, 20)] * 2, frames) for key, row in ((2, 0.5), (3, 0.7)))
    assert [[one.key for one in group] for group in stitched([gone, back])] == [[1, 2]]
    assert [[one.key for one in group] for group in stitched([gone, other])] == [[1], [3]]


def test_every_track_ends_at_a_cut() -> None:
    other = np.random.default_rng(0).integers(0, 255, (*SIZE, 3)).astype(np.uint8)
    images = [*PICTURES[:6], *[other] * 6]
    _, tracks = linked(LABELS[:6] + LABELS[:6], images)
    assert sorted((found.spans[0][0], found.spans[-1][1]) for found in tracks) == [(0, 5), (0, 5), (6, 11), (6, 11)]


def test_more_than_255_instances_leave_the_smallest_without_a_number() -> None:
    labels = np.zeros((288, 320), np.uint8)
    for row in range(16):
        for column in range(17):
            side = 9 if row else 7
            labels[row * 18 : row * 18 + side, column * 18 : column * 18 + side] = DRIVER
    image = np.repeat(np.random.default_rng(0).integers(0, 255, (*labels.shape, 1)), 3, 2).astype(np.uint8)
    [frame] = list(link_frames([LabelledFrame(0, image, labels)]))
    assert frame.without_number == 17
    numbers = frame.numbers(labels)
    assert numbers.max() == 255 and np.count_nonzero(numbers[:18]) < np.count_nonzero(labels[:18])
    assert (numbers[18:] > 0)[labels[18:] > 0].all()


@pytest.mark.parametrize("delay", [0, 6, 500])
def test_a_number_is_one_track_in_a_frame_among_scattered_regions(delay: int) -> None:
    rng = np.random.default_rng(0)
    image = np.repeat(rng.integers(0, 255, (*SIZE, 1)), 3, 2).astype(np.uint8)
    linking, blobs = Linking(SIZE, delay), np.zeros((0, 3), int)
    frames: list[LinkedFrame] = []
    for index in range(50):
        new = rng.integers((0, 0, index + 1), (SIZE[0] - 8, SIZE[1] - 8, index + 15), (6, 3))
        blobs = np.concatenate([blobs[blobs[:, 2] > index], new])
        blobs[:, :2] = np.clip(blobs[:, :2] + rng.integers(-2, 3, (len(blobs), 2)), 0, 150)
        labels = np.zeros(SIZE, np.uint8)
        for row, column, _ in blobs:
            labels[row : row + 6, column : column + 8] = DRIVER
        frames += linking.add(LabelledFrame(index, image, labels))
    frames += linking.rest()
    tracks = linking.tracks()
    assert len(frames) == 50
    for frame in frames:
        claimed = [number for found in tracks for first, last, number in found.spans if first <= frame.index <= last]
        assert len(claimed) == len(set(claimed))
        assert set(np.unique(frame.coarse_numbers)) <= {0, *claimed}


# ---- the vote alone


def test_the_vote_puts_random_wrong_classes_right_and_keeps_a_lasting_change() -> None:
    rng = np.random.default_rng(0)
    votes = {index: Vote(DRIVER if rng.random() > 0.4 else GRASPER, 0.8) for index in range(100)}
    assert set(voted_classes(votes).values()) == {DRIVER}
    changes = {index: Vote(DRIVER if index < 200 else GRASPER, 0.8) for index in range(400)}
    assert voted_classes(changes) == {index: vote.class_id for index, vote in changes.items()}


def test_what_a_person_said_outweighs_all_other_frames() -> None:
    votes = {index: Vote(GRASPER, 1.0) for index in range(50)} | {20: Vote(DRIVER, 0.1, is_certain=True)}
    assert set(voted_classes(votes).values()) == {DRIVER}


# ---- in a project


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """Two needle drivers that cross; predictions, of which some frames have the wrong class, a hole in time, and a speck."""
    video = write_video(tmp_path / "crossing.mp4", PICTURES, 25.0) or tmp_path / "crossing.mp4"
    with Project.create(tmp_path / "crossing.surgicalsam", VideoReader(video), ENDOVIS2018) as new_project:
        with new_project.action("Segment", FRAMES) as action:
            for index in range(FRAMES):
                new_project.labels.write_prediction(index, predicted(index), 1, action=action)
        yield new_project


def predicted(index: int) -> FramePrediction:
    labels = LABELS[index].copy()
    if index in (4, 12, 13, 27):
        labels[truth(index) == LEFT] = GRASPER
    if index in (8, 9):
        labels[truth(index) == RIGHT] = 0
    if index == 22:
        labels[5:15, 70:80] = SCISSORS
    class_ids = (DRIVER, GRASPER, SCISSORS)
    present = np.array([(labels == class_id).any() for class_id in class_ids])
    score = np.where(present, 0.9, 0.1).astype(np.float32)
    return FramePrediction(class_ids, labels, score, score, present, np.zeros(3, np.float32))


def accuracy(project: Project, index: int) -> float:
    return float((project.labels[index] == LABELS[index]).mean())


def test_a_vote_puts_right_fills_and_removes_and_one_undo_takes_it_back(project: Project) -> None:
    before = [project.labels[index].copy() for index in range(FRAMES)]
    outcome = done(track(project, range(FRAMES)))
    assert {index for index, _ in outcome.voted.relabelled} == {4, 12, 13, 27}
    assert {index for index, _ in outcome.voted.filled} == {8, 9}
    assert outcome.voted.removed == ((22, SCISSORS),)
    assert min(accuracy(project, index) for index in range(FRAMES)) > 0.99
    assert len(project.tracks.table.tracks) == 2 and all(map(project.tracks.is_linked, range(FRAMES)))
    voted = project.labels.table("voted").any(axis=1)
    assert np.flatnonzero(voted).tolist() == [4, 8, 9, 12, 13, 22, 27]
    project.history.undo()
    assert all(np.array_equal(project.labels[index], before[index]) for index in range(FRAMES))
    assert not project.tracks.table.tracks and not project.labels.table("voted").any()


def test_the_vote_changes_nothing_that_a_person_painted_or_verified(project: Project) -> None:
    project.labels[12, 36:40, :10] = GRASPER
    project.labels.verify(13)
    painted, verified = project.labels[12].copy(), project.labels[13].copy()
    outcome = done(vote_classes(project, range(FRAMES)))
    assert np.array_equal(project.labels[12], painted) and np.array_equal(project.labels[13], verified)
    assert {index for index, _ in outcome.left} <= {12, 13}
    assert project.labels.provenance(12, GRASPER) == Provenance.EDITED


def test_clean_labels_stay(project: Project) -> None:
    done(track(project, range(FRAMES)))
    assert done(vote_classes(project, range(FRAMES))).changed == 0


@pytest.fixture
def segmented_again(project: Project, tiny_model, monkeypatch: pytest.MonkeyPatch) -> Project:
    """As `project`; the model predicts what is in it already."""

    def segment(project, model, class_ids, frames, *, action):
        checkpoint = project.record_checkpoint(checkpoint_record(model))
        for done, index in enumerate(frames, start=1):
            project.labels.write_prediction(index, predicted(index), checkpoint, action=action)
            yield SegmentReport(index, done, len(frames), predicted(index), True)

    monkeypatch.setattr("surgicalsam_napari.tracking.segment_video.segment_frames", segment)
    project.record_checkpoint(checkpoint_record(tiny_model) | {"digest": "f" * 64})  # which predicted them before
    return project


NAMES = [ENDOVIS2018.by_id(class_id).name for class_id in (DRIVER, GRASPER, SCISSORS)]


def test_segmenting_a_video_and_its_vote_are_one_action(segmented_again: Project, tiny_model) -> None:
    project = segmented_again
    before = [project.labels[index].copy() for index in range(FRAMES)]
    outcome = done(segment_whole_video(project, tiny_model, NAMES))
    assert outcome.segmented == FRAMES and outcome.vote.changed == 7
    assert outcome.frames_with_class[NAMES[1]] == 0  # counted after the vote
    assert min(accuracy(project, index) for index in range(FRAMES)) > 0.99
    project.history.undo()
    assert all(np.array_equal(project.labels[index], before[index]) for index in range(FRAMES))
    assert not project.tracks.table.tracks


def test_without_the_switch_there_is_no_vote(segmented_again: Project, tiny_model) -> None:
    outcome = done(segment_whole_video(segmented_again, tiny_model, NAMES, vote=False))
    assert outcome.vote is None and not segmented_again.tracks.table.tracks


@pytest.mark.parametrize("steps", [FRAMES - 1, FRAMES + 5])
def test_a_stopped_run_votes_on_the_whole_video_when_it_goes_on(segmented_again: Project, tiny_model, steps: int) -> None:
    run = segment_whole_video(segmented_again, tiny_model, NAMES)
    for _ in range(steps):  # in the last frame, or in its vote
        next(run)
    run.close()
    outcome = done(segment_whole_video(segmented_again, tiny_model, NAMES))
    assert outcome.segmented == max(FRAMES - steps, 0) and outcome.vote.changed == 7
    assert list(segment_whole_video(segmented_again, tiny_model, NAMES)) == []  # nothing is left to do


def test_a_read_only_project_in_which_all_is_done_owes_no_vote(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_vote_due(project, range(FRAMES))
    monkeypatch.setattr(project, "writable", False)
    assert not is_vote_due(project, range(FRAMES))


@pytest.mark.parametrize("voting_frames", [None, ()])
def test_predicting_again_with_a_learned_model_votes_in_the_same_action(
    project: Project, tiny_model, monkeypatch: pytest.MonkeyPatch, voting_frames: tuple[int, ...] | None
) -> None:
    """Frame 20 is corrected: its class is certain, and it votes, too."""
    project.labels.verify(20)
    verified, frames = project.labels[20].copy(), [index for index in range(FRAMES) if index != 20]

    def predict(project, model, frame_indices, *, forgets_others, action):
        for done, index in enumerate(frame_indices, start=1):
            project.labels.write_prediction(index, predicted(index), 2, action=action)
            yield SegmentReport(index, done, len(frame_indices), predicted(index), True)

    monkeypatch.setattr("surgicalsam_napari.tracking.predict_and_fill.predict_again", predict)
    outcome = done(predict_and_fill(project, tiny_model, frames, voting_frames=voting_frames))
    assert (outcome is None) == (voting_frames == ())
    assert (min(accuracy(project, index) for index in frames) > 0.99) == (voting_frames is None)
    assert np.array_equal(project.labels[20], verified)
    assert project.history.to_undo.name == "Predict 35 frames again"


def test_parts_do_not_vote(segmented_again: Project) -> None:
    segmented_again.change_classes(lambda present: present.part_added("Shaft"))
    parts = segmented_again.open_parts()
    assert may_vote(segmented_again, range(FRAMES)) and not may_vote(parts, range(FRAMES))


def test_linking_again_keeps_what_a_person_joined_and_goes_on_where_it_stopped(project: Project) -> None:
    run = link_instances(project, range(FRAMES))
    done(run)
    first = project.tracks.table
    right = first.at(0, int(project.tracks.numbers(0)[50, 150]))
    assert right is not None
    project.tracks.edit("Split", first.split(right.id, 20))
    done(link_instances(project, range(FRAMES)))
    table = project.tracks.table
    ids = [table.at(index, int(project.tracks.numbers(index)[50, 150])) for index in (10, 30)]
    assert ids[0] is not None and ids[1] is not None and ids[0].id != ids[1].id


def test_linking_continues_the_tracks_of_the_frames_before(project: Project) -> None:
    done(link_instances(project, range(8)))
    known = {found.id for found in project.tracks.table.tracks}
    assert frames_to_link(project, range(FRAMES)) == list(range(8, FRAMES))
    done(link_instances(project, range(10, FRAMES)))
    done(link_instances(project, range(8, 10)))
    left = {project.tracks.table.at(index, int(project.tracks.numbers(index)[40, 5])) for index in (0, 9, 20)}
    assert {found.id for found in left if found is not None} <= known and len(left) == 1


@pytest.mark.parametrize("steps", [20, FRAMES + 10])
def test_a_run_that_is_closed_keeps_the_frames_that_it_read(project: Project, steps: int) -> None:
    run = link_instances(project, range(FRAMES))
    for _ in range(steps):
        next(run)
    run.close()
    rest = frames_to_link(project, range(FRAMES))
    assert rest == list(range(steps, FRAMES))
    known = {found.id for found in project.tracks.table.of_class(DRIVER)}
    assert len(known) == 2
    if rest:
        done(link_instances(project, rest))
    assert frames_to_link(project, range(FRAMES)) == []
    assert {found.id for found in project.tracks.table.of_class(DRIVER)} == known


def test_smoothing_fills_a_notch_that_only_one_frame_has(project: Project) -> None:
    done(track(project, range(FRAMES)))
    notched = project.labels[30].copy()
    notched[36:38, 10:20] = 0
    project.labels.relabel_predictions(30, notched)
    outcome = done(smooth_masks(project, range(28, 33)))
    assert 30 in outcome.changed
    assert (project.labels[30][36:38, 10:20] == DRIVER).mean() > 0.9


def test_the_command_line_tracks_a_project(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.close()
    assert main(["track", str(project.folder), "--no-vote", "--json"]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert record["frames"] == FRAMES and record["relabelled"] is None and record["tracks"] >= 2
    assert main(["track", str(project.folder), "--frames", "0:20"]) == 0
    assert "put right" in capsys.readouterr().out
