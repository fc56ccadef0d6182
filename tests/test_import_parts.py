"""Parts of a dataset in a project: matched by name, written into the labels of its parts, and exported again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame
from surgicalsam_napari.exchange.exporting import about_instruments, export_frames
from surgicalsam_napari.exchange.import_preview import preview_lines
from surgicalsam_napari.exchange.importing import check_import, import_frames
from surgicalsam_napari.exchange.overlaps import ClassMask
from surgicalsam_napari.exchange.parts import ENDOVIS_PARTS
from surgicalsam_napari.exchange.registry import open_dataset
from surgicalsam_napari.instruments import ENDOVIS2017, PALETTE, ClassSet, InstrumentClass
from surgicalsam_napari.store import Project
from surgicalsam_napari.video import VideoReader

SIZE = (96, 128)
DRIVER = 3
OWN_PARTS = ClassSet("Parts", tuple(InstrumentClass(k, n, PALETTE[k]) for k, n in enumerate(("Claspers", "Shaft"), 1)))


@pytest.fixture
def project(phantom_clip: Path, tmp_path: Path) -> Iterator[Project]:
    clip = Path(shutil.copy(phantom_clip, tmp_path / "clip.mp4"))
    with Project.create(clip.with_suffix(".surgicalsam"), VideoReader(clip), ENDOVIS2017) as project:
        yield project


@pytest.fixture
def parts(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """Labels of the parts Claspers and Shaft, in place of the project's own."""
    with Project.create(tmp_path / "parts.surgicalsam", VideoReader(tmp_path / "clip.mp4"), OWN_PARTS) as parts:
        monkeypatch.setattr(Project, "parts", parts, raising=False)
        monkeypatch.setattr(Project, "open_parts", lambda _project: parts, raising=False)
        monkeypatch.setattr(ClassSet, "parts", OWN_PARTS, raising=False)
        yield parts


def dataset() -> Dataset:
    """A needle driver of a shaft, a wrist and a clasper."""
    mask, stripes = np.zeros(SIZE, bool), np.zeros(SIZE, np.uint8)
    mask[10:22, 10:40] = True
    stripes[:, 10:20], stripes[:, 20:30], stripes[:, 30:50] = 1, 2, 3
    frame = DatasetFrame("clip", 2, "clip/frame_00002", SIZE)
    masks = [ClassMask(DRIVER, mask, 5, parts=stripes)]
    options = {"has_instances": True, "has_tracks": True, "parts": ENDOVIS_PARTS}
    return Dataset(Path("/clip"), "made", ENDOVIS2017, (frame,), lambda _frame: masks, **options)


def import_all(project: Project, dataset: Dataset) -> None:
    for _ in import_frames(project, check_import(project, dataset)):
        pass


def said(project: Project) -> list[str]:
    lines = preview_lines(check_import(project, dataset()), project)
    return [line.text for line in lines if line.caption == "Parts"]


def test_parts_are_matched_by_name_and_come_in_as_an_action_of_their_own(project: Project, parts: Project) -> None:
    assert said(project) == [
        "Shaft becomes Shaft, Clasper becomes Claspers",
        "Wrist is not a part of the project, and is left out",
        "Probe is not a part of the project, and is left out",
    ]
    import_all(project, dataset())
    assert [int(parts.labels[2][15, column]) for column in (15, 25, 35, 45)] == [2, 0, 1, 0]
    parts.history.undo()
    assert not parts.labels[2].any() and project.labels[2].any()


def test_a_project_without_parts_gets_none_and_the_preview_says_so(project: Project) -> None:
    assert "are not imported: the classes of the project have no parts" in said(project)[0]
    import_all(project, dataset())
    assert project.labels[2].any()


@pytest.mark.parametrize("format", ["endovis2017", "endovis2018"])
def test_exported_parts_come_back(project: Project, parts: Project, tmp_path: Path, format: str) -> None:
    import_all(project, dataset())
    before = parts.labels[2].copy()
    for _ in export_frames(project, [2], tmp_path / "out", format):
        pass
    assert "Parts are not in it; endovis2017, endovis2018 keep them" in about_instruments(project, "coco")
    read = open_dataset(tmp_path / "out")
    assert read.parts is not None and read.parts.names == OWN_PARTS.names
    np.testing.assert_array_equal(read.parts_map(read.frames[0]), before)
    project.history.undo()
    parts.history.undo()
    import_all(project, read)
    np.testing.assert_array_equal(parts.labels[2], before)


def test_an_import_that_stops_leaves_parts_as_they_were(project: Project, parts: Project) -> None:
    running = import_frames(project, check_import(project, dataset()))
    next(running)
    running.close()
    assert not parts.labels[2].any() and not project.labels[2].any()
