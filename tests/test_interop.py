"""Exports, read by the libraries of the tools that they are for: no pixel differs.

The libraries are in the extra `interop`. Their pins do not fit ours: they need an environment of their own, whose Python
is named by SURGICALSAM_INTEROP_PYTHON:

    python -m venv interop && interop/bin/pip install datumaro label-studio-sdk ome-zarr pycocotools supervision tifffile
    SURGICALSAM_INTEROP_PYTHON=interop/bin/python pytest -m slow tests/test_interop.py
"""

from __future__ import annotations

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
from surgicalsam_napari.store import Project
from surgicalsam_napari.video import VideoReader

READER = Path(__file__).with_name("read_by_tools.py")
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
