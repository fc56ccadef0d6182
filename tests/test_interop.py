"""Exports, read by the libraries of the tools that they are for: no pixel differs; and scores, compared with TrackEval's.

The libraries are in the extra `interop`. Their pins do not fit ours: they need an environment of their own, whose Python
is named by SURGICALSAM_INTEROP_PYTHON:

    python -m venv interop
    interop/bin/pip install datumaro label-studio-sdk ome-zarr pycocotools supervision tifffile trackeval
    SURGICALSAM_INTEROP_PYTHON=interop/bin/python pytest -m slow tests/test_interop.py
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from surgicalsam_napari.exchange.exporting import export_frames
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.phantom import PhantomScene
from surgicalsam_napari.store import Project, Span, TrackTable
from surgicalsam_napari.video import VideoReader
from surgicalsam_training.scoring.tracking import count_tracking, frame_overlap

READER = Path(__file__).with_name("read_by_tools.py")
SCORER = Path(__file__).with_name("score_by_trackeval.py")
MASKS, POLYGONS = False, True
READ_BY = [
    ("coco", MASKS, "pycocotools"),
    ("coco", POLYGONS, "pycocotools"),
    ("coco", MASKS, "supervision_coco"),
    ("coco", POLYGONS, "datumaro_coco"),
    ("coco", MASKS, "datumaro_coco"),
    ("yolo", POLYGONS, "supervision_yolo"),
    ("cvat-images", MASKS, "datumaro_cvat"),
    ("cvat-images", POLYGONS, "datumaro_cvat"),
    ("voc", MASKS, "datumaro_voc"),
    ("label-studio", MASKS, "label_studio"),
    ("label-studio", POLYGONS, "label_studio"),
    ("davis", MASKS, "pillow_davis"),
    ("cvat-video", POLYGONS, "datumaro_cvat_video"),
    ("tiff-stack", MASKS, "tifffile"),
    ("ome-zarr", MASKS, "ome_zarr"),
]


@pytest.fixture(scope="module")
def python() -> str:
    python = os.environ.get("SURGICALSAM_INTEROP_PYTHON", "")
    if not python:
        pytest.skip("SURGICALSAM_INTEROP_PYTHON does not name the Python of an environment with the extra interop")
    return python


@pytest.fixture(scope="module")
def project(phantom_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Smooth shapes with holes in frame 2, noise in frame 5, nothing in frame 7."""
    clip = Path(shutil.copy(phantom_clip, tmp_path_factory.mktemp("interop") / "clip_1.mp4"))
    rng = np.random.default_rng(0)
    with Project.create(clip.with_suffix(".surgicalsam"), VideoReader(clip), ENDOVIS2018) as project:
        smooth = gaussian_filter(rng.standard_normal((3, 96, 128)), (0, 4, 4)).argmax(axis=0)
        smooth[gaussian_filter(rng.standard_normal((96, 128)), 3) > 0.02] = 7
        project.labels[2] = smooth
        project.labels[5] = rng.integers(0, 8, (96, 128))
        project.labels.verify(7)
        yield project


def read_with(
    tool: str, python: str, project: Project, folder: Path, format: str, *, polygons: bool
) -> tuple[list[str], dict[str, np.ndarray]]:
    """Export three frames, and read them with a tool: names, and by frame the positions of names, from 1 on."""
    out = folder / "out"
    for _ in export_frames(project, [2, 5, 7], out, format, polygons=polygons):
        pass
    read = subprocess.run([python, READER, tool, out, folder / "read.npz"], capture_output=True, text=True)
    assert read.returncode == 0, read.stderr[-3000:]
    with np.load(folder / "read.npz") as arrays:
        return arrays["names"].tolist(), {name: arrays[name] for name in arrays.files if name != "names"}


@pytest.mark.slow
@pytest.mark.parametrize(("format", "polygons", "tool"), READ_BY)
def test_the_real_tool_reads_the_same_pixels(
    project: Project, python: str, tmp_path: Path, format: str, polygons: bool, tool: str
) -> None:
    names, frames = read_with(tool, python, project, tmp_path, format, polygons=polygons and format != "yolo")
    ids = np.array([0, *(ENDOVIS2018.by_name(name).id for name in names)], np.uint8)
    label_maps = {frame: ids[values] for frame, values in frames.items()}
    for index in (2, 5, 7):
        name = f"frame_{index:05d}"
        if index == 7 and name not in label_maps:
            continue  # some tools list no picture without labels
        assert np.count_nonzero(label_maps[name] != project.labels[index]) == 0


def disturbed(rng: np.random.Generator, tracks: np.ndarray) -> np.ndarray:
    """(T, H, W) tracks with moved masks, missed and invented instances, swaps, and new ids."""
    predicted = np.roll(tracks.astype(int), tuple(rng.integers(0, 3, 2)), (1, 2))
    for index, frame in enumerate(predicted):
        if rng.random() < 0.2:
            frame[frame == rng.integers(1, 4)] = 0
        if rng.random() < 0.2:
            top, left = rng.integers(0, 40, 2)
            frame[top : top + 12, left : left + 12] = rng.integers(1, 12)
        if rng.random() < 0.1:
            predicted[index:] = np.array([0, *(rng.permutation(11) + 1)])[predicted[index:]]
        if rng.random() < 0.1:
            frame[:] = 0
    return predicted


@pytest.mark.slow
def test_scores_of_tracks_are_those_of_trackeval(python: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scenes = [PhantomScene(seed, (60, 75), 40, alike=alike) for seed, alike in ((0, 3), (1, 2), (307, 0))]
    truth = np.array([[frame.instances for frame in scene] for scene in scenes])
    predicted = np.array([disturbed(rng, tracks) for tracks in truth])
    np.savez(tmp_path / "maps.npz", truth=truth, predicted=predicted)
    process = subprocess.run([python, SCORER, tmp_path / "maps.npz"], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr[-3000:]
    theirs = json.loads(process.stdout.splitlines()[-1])
    videos = [count_tracking(map(frame_overlap, *video)) for video in zip(truth, predicted, strict=True)]
    ours = videos[0] + videos[1] + videos[2]
    assert 0.2 < ours.hota < 0.9 and 0.2 < ours.idf1 < 0.9 and ours.switches > 5
    assert ours.switches == theirs["IDSW"]
    assert ours.idf1 == pytest.approx(theirs["IDF1"], abs=1e-9)
    assert ours.hota == pytest.approx(theirs["HOTA"], abs=1e-9)
    assert ours.detection_accuracy == pytest.approx(theirs["DetA"], abs=1e-9)
    assert ours.association_accuracy == pytest.approx(theirs["AssA"], abs=1e-9)


TRACKS_READ_BY = [
    ("coco", MASKS, "tracks_coco"),
    ("cvat-video", POLYGONS, "tracks_cvat"),
    ("mots", MASKS, "tracks_mots"),
    ("mots", MASKS, "tracks_mots_text"),
    ("youtube-vis", MASKS, "tracks_youtube_vis"),
]


@pytest.fixture(scope="module")
def tracked(phantom_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Two needle drivers that change places, the second without frame 5, and a class without tracks."""
    clip = Path(shutil.copy(phantom_clip, tmp_path_factory.mktemp("tracked") / "clip_2.mp4"))
    with Project.create(clip.with_suffix(".surgicalsam"), VideoReader(clip), ENDOVIS2018) as project:
        for index, left in ((2, 10), (5, 40), (7, 70)):
            numbers = np.zeros((96, 128), np.uint8)
            numbers[10:20, left : left + 20] = 1
            if index != 5:
                numbers[40:50, 90 - left : 110 - left] = 2
            labels = np.where(numbers, 3, 0)
            labels[80:90, 5:25] = 6
            project.labels[index] = labels
            project.tracks.write_numbers(index, numbers)
        table = TrackTable()
        for number, indices in ((1, (2, 5, 7)), (2, (2, 7))):
            table = table.with_new(3, [Span(index, index, number) for index in indices])
        project.tracks.edit("Tracks", table)
        yield project


@pytest.mark.slow
@pytest.mark.parametrize(("format", "polygons", "tool"), TRACKS_READ_BY)
def test_the_real_tool_reads_the_same_tracks(
    tracked: Project, python: str, tmp_path: Path, format: str, polygons: bool, tool: str
) -> None:
    names, frames = read_with(tool, python, tracked, tmp_path, format, polygons=polygons)
    pairs = set()
    for index in (2, 5, 7):
        numbers, labels, read = tracked.tracks.numbers(index), tracked.labels[index], frames[f"frame_{index:05d}"]
        ours = {number: track.id for number, track in tracked.tracks.table.in_frame(index).items()}
        pairs |= {(labels[at], ours.get(int(numbers[at]), 0), read[at]) for at in np.ndindex(*labels.shape)}
    assert len(pairs) == len(names) + 1 == 4  # background, two drivers, and the class without tracks: one to one
    assert len({read for *_, read in pairs}) == len(pairs)
    assert all(names[read - 1].startswith(ENDOVIS2018.by_id(class_id).name) for class_id, _, read in pairs if read)
