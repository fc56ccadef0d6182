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
from surgicalsam_napari.store import Project
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


@pytest.mark.slow
@pytest.mark.parametrize(("format", "polygons", "tool"), READ_BY)
def test_the_real_tool_reads_the_same_pixels(
    project: Project, python: str, tmp_path: Path, format: str, polygons: bool, tool: str
) -> None:
    out = tmp_path / "out"
    for _ in export_frames(project, [2, 5, 7], out, format, polygons=polygons and format != "yolo"):
        pass
    read = subprocess.run([python, READER, tool, out, tmp_path / "read.npz"], capture_output=True, text=True)
    assert read.returncode == 0, read.stderr[-3000:]
    with np.load(tmp_path / "read.npz") as arrays:
        ids = np.array([0, *(ENDOVIS2018.by_name(name).id for name in arrays["names"])], np.uint8)
        label_maps = {name: ids[arrays[name]] for name in arrays.files if name != "names"}
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
