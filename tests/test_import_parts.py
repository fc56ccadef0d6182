"""Parts of a dataset in a project: matched by name, written into the labels of its parts, and exported again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from surgicalsam_napari.cli import main
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame
from surgicalsam_napari.exchange.exporting import about_instruments, export_frames
from surgicalsam_napari.exchange.import_preview import preview_lines
from surgicalsam_napari.exchange.importing import ImportCounts, check_import, import_frames, result_in_words
from surgicalsam_napari.exchange.overlaps import ClassMask
from surgicalsam_napari.exchange.parts import ENDOVIS_PARTS
from surgicalsam_napari.exchange.registry import open_dataset
from surgicalsam_napari.instruments import ENDOVIS2017, PALETTE, ClassSet, InstrumentClass
from surgicalsam_napari.store import Project
from surgicalsam_napari.video import VideoReader

SIZE = (96, 128)
FORCEPS, DRIVER = 1, 3
CLASPERS, SHAFT = 1, 2
OWN_PARTS = ClassSet("Parts", tuple(InstrumentClass(k, n, PALETTE[k]) for k, n in enumerate(("Claspers", "Shaft"), 1)))
WITH_PARTS = replace(  # the forceps have none
    ENDOVIS2017, classes=tuple(replace(c, parts=(1, 2) if c.id != FORCEPS else ()) for c in ENDOVIS2017), parts=OWN_PARTS
)


@pytest.fixture
def clip(phantom_clip: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(phantom_clip, tmp_path / "clip.mp4"))


@pytest.fixture
def project(clip: Path) -> Iterator[Project]:
    """With the parts Claspers and Shaft."""
    with Project.create(clip.with_suffix(".surgicalsam"), VideoReader(clip), WITH_PARTS) as project:
        yield project


@pytest.fixture
def without_parts(clip: Path) -> Iterator[Project]:
    with Project.create(clip.with_name("plain.surgicalsam"), VideoReader(clip), ENDOVIS2017) as project:
        yield project


def dataset() -> Dataset:
    """A needle driver of a shaft, a wrist and a clasper."""
    mask, stripes = np.zeros(SIZE, bool), np.zeros(SIZE, np.uint8)
    mask[10:22, 10:40] = True
    stripes[:, 10:20], stripes[:, 20:30], stripes[:, 30:50] = 1, 2, 3
    frame = DatasetFrame("clip", 2, "clip/frame_00002", SIZE)
    masks = [ClassMask(DRIVER, mask, 5, parts=stripes)]
    options = {"has_instances": True, "has_tracks": True, "parts": ENDOVIS_PARTS}
    return Dataset(Path("/clip"), "made", ENDOVIS2017, (frame,), lambda _frame: masks, **options)


def import_all(project: Project, dataset: Dataset) -> str:
    plan, counts = check_import(project, dataset), ImportCounts()
    for report in import_frames(project, plan):
        counts = counts.including(report)
    return result_in_words(plan, counts)


def parts_of(project: Project) -> Project:
    assert project.parts is not None
    return project.parts


def said(project: Project) -> list[str]:
    lines = preview_lines(check_import(project, dataset()), project)
    return [line.text for line in lines if line.caption == "Parts"]


def test_parts_are_matched_by_name_and_come_in_as_an_action_of_their_own(project: Project) -> None:
    assert said(project) == [
        "Shaft becomes Shaft, Clasper becomes Claspers",
        "Wrist is not a part of the project, and is left out",
        "Probe is not a part of the project, and is left out",
    ]
    import_all(project, dataset())
    parts = parts_of(project)
    # the last column is a clasper beside the instrument
    assert [int(parts.labels[2][15, column]) for column in (15, 25, 35, 45)] == [SHAFT, 0, CLASPERS, 0]
    parts.history.undo()
    assert not parts.labels[2].any() and project.labels[2].any()


def test_parts_lie_in_instruments_that_have_them(project: Project) -> None:
    project.labels[2, 10:16, 10:40] = FORCEPS  # painted by a person, so it stays
    import_all(project, dataset())
    assert (np.asarray(project.labels[2])[10:16, 10:40] == FORCEPS).all()
    shown = np.asarray(parts_of(project).labels[2])
    assert not shown[:16].any() and (shown[16:22, 10:20] == SHAFT).all()


def test_what_a_person_painted_in_the_parts_stays(project: Project) -> None:
    project.labels[2, 10:22, 10:40] = DRIVER
    parts = project.open_parts()
    parts.labels[2, 12:14, 12:18] = CLASPERS
    import_all(project, dataset())
    assert (np.asarray(parts.labels[2])[12:14, 12:18] == CLASPERS).all()
    assert parts.labels[2][20, 15] == SHAFT
    parts.history.undo()
    assert np.count_nonzero(parts.labels[2]) == 12


def test_a_project_without_parts_gets_none_and_says_what_to_do(without_parts: Project) -> None:
    (line,) = said(without_parts)
    assert "Parts (Shaft, Wrist, Clasper, Probe) are not imported" in line and "surgicalsam classes --parts" in line
    assert line in import_all(without_parts, dataset())
    assert without_parts.labels[2].any() and without_parts.parts is None


def test_the_parts_of_a_dataset_belong_to_a_project_made_for_it(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import_all(project, dataset())
    for _ in export_frames(project, [2], tmp_path / "out", "endovis2017"):
        pass
    project.close()
    assert (
        main(["import", str(tmp_path / "out"), str(tmp_path / "clip.mp4"), "--project-folder", str(tmp_path / "made")]) == 0
    )
    assert "not imported" not in capsys.readouterr().out
    with Project.open(next((tmp_path / "made").glob("*.surgicalsam"), tmp_path / "made")) as made:
        assert made.classes.parts is not None and made.classes.parts.names == OWN_PARTS.names
        assert parts_of(made).labels[2][15, 15] == SHAFT


def test_a_new_class_gets_the_parts_of_the_dataset_that_the_project_has(project: Project) -> None:
    suction = ENDOVIS2017.having([*ENDOVIS2017, InstrumentClass(8, "Suction", PALETTE[0])])
    mask = np.zeros(SIZE, bool)
    mask[10:20, 10:20] = True
    one = ClassMask(8, mask, parts=mask.astype(np.uint8))
    with_suction = replace(dataset(), classes=suction, read=lambda _frame: [one], has_instances=False, has_tracks=False)
    for _ in import_frames(project, check_import(project, with_suction, add_classes=True)):
        pass
    assert sorted(part.name for part in project.classes.parts_of(8)) == ["Claspers", "Shaft"]
    assert parts_of(project).labels[2][15, 15] == SHAFT


@pytest.mark.parametrize("format", ["endovis2017", "endovis2018"])
def test_exported_parts_come_back(project: Project, tmp_path: Path, format: str) -> None:
    import_all(project, dataset())
    parts = parts_of(project)
    before = np.array(parts.labels[2])
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


def test_an_import_that_stops_leaves_parts_as_they_were(project: Project) -> None:
    running = import_frames(project, check_import(project, dataset()))
    next(running)
    running.close()
    assert not project.open_parts().labels[2].any() and not project.labels[2].any()
