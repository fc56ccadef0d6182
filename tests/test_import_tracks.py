"""Tracks of a dataset in a project: they come in with their ids, go out again, and leave a person's tracks alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame
from surgicalsam_napari.exchange.exporting import about_instruments, export_frames
from surgicalsam_napari.exchange.import_plan import ImportChoices
from surgicalsam_napari.exchange.import_preview import preview_lines
from surgicalsam_napari.exchange.importing import check_import, import_frames
from surgicalsam_napari.exchange.overlaps import ClassMask
from surgicalsam_napari.exchange.registry import EXPORT_FORMATS, open_dataset
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.store import Project, Span
from surgicalsam_napari.video import VideoReader

SIZE = (96, 128)  # of the clip
WITH_INSTANCES = [name for name, format in EXPORT_FORMATS.items() if format.instances]
DRIVER, SCISSORS = 3, 4


def box(top: int, left: int, size: int = 12) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[top : top + size, left : left + size] = True
    return mask


@pytest.fixture
def clip(phantom_clip: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(phantom_clip, tmp_path / "clip.mp4"))


@pytest.fixture
def project(clip: Path) -> Iterator[Project]:
    with Project.create(clip.with_suffix(".surgicalsam"), VideoReader(clip), ENDOVIS2018) as project:
        yield project


def dataset(contents: dict[int, list[ClassMask]], **options: object) -> Dataset:
    frames = tuple(DatasetFrame("clip", index, f"clip/frame_{index:05d}", SIZE) for index in contents)
    settings: dict = {"has_instances": True, "has_tracks": True, **options}
    return Dataset(Path("/clip"), "made", ENDOVIS2018, frames, lambda frame: contents[frame.frame_index], **settings)


def crossing() -> Dataset:
    """Two needle drivers change places over frames 2 to 4; track 9 is away in frame 3."""
    return dataset(
        {
            index: [ClassMask(DRIVER, box(10, 10 + 30 * step), 5)]
            + ([ClassMask(DRIVER, box(40, 70 - 30 * step), 9)] if step != 1 else [])
            for step, index in enumerate((2, 3, 4))
        }
    )


def import_all(project: Project, dataset: Dataset) -> None:
    for _ in import_frames(project, check_import(project, dataset, choices=ImportChoices())):
        pass


def track_ids(project: Project, frame_index: int) -> np.ndarray:
    """(H, W), the id of the track at each pixel."""
    numbers, ids = project.tracks.numbers(frame_index), np.zeros(256, int)
    for number, track in project.tracks.table.in_frame(frame_index).items():
        ids[number] = track.id
    return ids[numbers]


def test_imported_tracks_keep_their_ids_and_one_undo_takes_them_back(project: Project) -> None:
    source = crossing()
    import_all(project, source)
    for frame in source.frames:
        np.testing.assert_array_equal(track_ids(project, frame.frame_index), source.instances(frame))
        assert project.tracks.is_linked(frame.frame_index)
    found = [(track.id, track.class_id, track.made_by, track.first, track.last) for track in project.tracks.table.tracks]
    assert found == [(5, DRIVER, "imported", 2, 4), (9, DRIVER, "imported", 2, 4)]
    assert len(project.tracks.table.by_id(5).spans) == 1  # the same number in all frames
    assert project.tracks.table.by_id(9).number_at(3) is None
    project.history.undo()
    assert project.tracks.table.tracks == () and not project.tracks.numbers(2).any()


@pytest.mark.parametrize("format", WITH_INSTANCES)
def test_what_is_exported_and_imported_again_has_the_same_labels_and_tracks(
    project: Project, phantom_clip: Path, tmp_path: Path, format: str
) -> None:
    import_all(project, crossing())
    project.labels[4, 80:90, 100:110] = SCISSORS  # a region that is no instance yet
    for _ in export_frames(project, [2, 3, 4], tmp_path / "out", format):
        pass
    other = Path(shutil.copy(phantom_clip, tmp_path / "other.mp4"))
    with Project.create(tmp_path / "other.surgicalsam", VideoReader(other), project.classes) as copy:
        read = open_dataset(tmp_path / "out")
        import_all(copy, read)
        for index in (2, 3, 4):
            np.testing.assert_array_equal(copy.labels[index], project.labels[index])
            np.testing.assert_array_equal(track_ids(copy, index), track_ids(project, index))
    before = project.tracks.table
    import_all(project, read)  # into the project itself, they are the same tracks
    assert [track.spans for track in project.tracks.table.tracks] == [track.spans for track in before.tracks]


def test_a_persons_tracks_and_pixels_stay(project: Project) -> None:
    project.labels[2, 10:22, 10:22] = DRIVER
    numbers = np.zeros(SIZE, np.uint8)
    numbers[10:22, 10:22] = 1
    project.tracks.write_numbers(2, numbers)
    project.tracks.edit("This is one", project.tracks.table.with_new(DRIVER, [Span(2, 2, 1)]))
    project.labels[3, 0:30, 0:60] = SCISSORS
    project.labels.verify(3)
    import_all(project, crossing())
    assert set(track_ids(project, 2)[10:22, 10:22].ravel()) == {1}
    assert project.tracks.table.by_id(1).made_by == "person"
    assert set(np.unique(project.labels[3][0:30, 0:60])) == {SCISSORS}
    assert set(np.unique(track_ids(project, 2))) == {0, 1, 9}
    assert {track.id for track in project.tracks.table.tracks} == {1, 5, 9}


def test_an_id_that_the_project_has_already_becomes_a_free_one(project: Project) -> None:
    import_all(project, crossing())
    later = dataset({6: [ClassMask(DRIVER, box(10, 10), 5)]})
    plan = check_import(project, later)
    assert "5 becomes 10" in " ".join(line.text for line in preview_lines(plan, project) if line.caption == "Tracks")
    import_all(project, later)
    assert project.tracks.table.by_id(10).first == 6
    assert project.tracks.table.by_id(5).last == 4


def test_a_track_that_changes_its_class_becomes_one_track_for_each_class(project: Project) -> None:
    changing = dataset({index: [ClassMask(c, box(10, 10), 5)] for index, c in enumerate((DRIVER, DRIVER, SCISSORS))})
    lines = preview_lines(check_import(project, changing), project)
    assert any("track 5 changes its class" in line.text and "Scissors is track 6" in line.text for line in lines)
    import_all(project, changing)
    assert [(track.id, track.class_id, track.first) for track in project.tracks.table.tracks] == [
        (5, DRIVER, 0),
        (6, SCISSORS, 2),
    ]


def test_instances_of_a_frame_are_kept_apart_without_tracks(project: Project) -> None:
    masks = [ClassMask(DRIVER, box(10, 10), instance=1), ClassMask(DRIVER, box(10, 22), instance=2)]
    import_all(project, dataset({2: masks}, has_tracks=False))
    numbers = project.tracks.numbers(2)
    assert project.tracks.table.tracks == ()
    assert [len(np.unique(numbers[one.mask])) for one in masks] == [1, 1]
    assert numbers[12, 12] != numbers[12, 24]


def test_more_than_255_instances_in_a_frame_are_refused_before_anything_is_written(project: Project) -> None:
    specks = [ClassMask(DRIVER, box(2 * (n // 50), 2 * (n % 50), 1), n + 1) for n in range(256)]
    with pytest.raises(ExchangeError, match="has 256 instances, but a frame of a project holds 255") as caught:
        check_import(project, dataset({2: specks}))
    assert len(caught.value.problems) == 1
    import_all(project, dataset({2: specks[:255]}))
    assert len(project.tracks.table.tracks) == 255


def test_an_import_that_stops_leaves_tracks_as_they_were(project: Project) -> None:
    import_all(project, crossing())
    before = project.tracks.table
    frames = {index: (project.labels[index].copy(), project.tracks.numbers(index).copy()) for index in (2, 7)}
    moved = {index: [ClassMask(DRIVER, box(50, 50), 77)] for index in (2, 7, 8)}
    running = import_frames(project, check_import(project, dataset(moved)))
    next(running), next(running)
    running.close()
    assert project.tracks.table == before
    for index, (labels, numbers) in frames.items():
        np.testing.assert_array_equal(project.labels[index], labels)
        np.testing.assert_array_equal(project.tracks.numbers(index), numbers)


def test_an_export_says_what_happens_to_tracks(project: Project) -> None:
    project.labels[2, 10:22, 10:22] = DRIVER
    assert "The project has no tracks (surgicalsam track makes them)" in about_instruments(project, "youtube-vis")
    assert about_instruments(project, "yolo") == ""
    import_all(project, crossing())
    assert about_instruments(project, "coco") == ""
    assert "are not kept apart; coco, cvat-video" in about_instruments(project, "yolo")


def test_a_dataset_without_instances_leaves_tracks_to_follow_the_labels(project: Project) -> None:
    import_all(project, crossing())
    before = track_ids(project, 2)
    import_all(project, replace(crossing(), has_instances=False, has_tracks=False))
    np.testing.assert_array_equal(track_ids(project, 2), before)
