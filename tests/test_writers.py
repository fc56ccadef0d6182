"""napari's File > Save for the labels of a project: what `viewer.layers.save` writes, and which layers it refuses."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("qtpy.QtWidgets")

from napari.plugins import _npe2

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.registry import open_dataset
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.store import Project
from surgicalsam_napari.video import VideoReader

DRIVER, SCISSORS = 3, 4
WRITERS = {"endovis": "write_endovis", "indexed-png": "write_indexed_png", "coco": "write_coco"}


@pytest.fixture
def project(phantom_clip: Path, tmp_path: Path) -> Iterator[Project]:
    clip = Path(shutil.copy(phantom_clip, tmp_path / "clip.mp4"))
    with Project.create(Project.default_folder(clip), VideoReader(clip), ENDOVIS2018) as project:
        yield project


@pytest.fixture
def painted_project(project: Project) -> Project:
    project.labels[2, 10:30, 10:30] = DRIVER
    project.labels[7, 40:60, 20:90] = SCISSORS
    project.labels[7, 10:20, 20:90] = DRIVER
    return project


@pytest.fixture
def viewer(make_napari_viewer, project: Project):
    """A viewer with a project opened by drag and drop; the dock is closed."""
    viewer = make_napari_viewer()
    viewer.open(project.folder, plugin="surgicalsam-napari")
    return viewer


def reread(folder: str) -> dict[int, np.ndarray]:
    dataset = open_dataset(Path(folder))
    assert dataset.classes.names == ENDOVIS2018.names
    return {frame.frame_index: dataset.label_map(frame) for frame in dataset.frames}


@pytest.mark.parametrize("suffix", WRITERS)
def test_the_extension_chooses_the_format_and_labels_reload_unchanged(suffix, painted_project, viewer, tmp_path):
    viewer.layers.selection = {viewer.layers["Instruments"]}
    [written] = viewer.layers.save(str(tmp_path / f"saved.{suffix}"), selected=True)
    assert open_dataset(Path(written)).format == suffix
    saved = reread(written)
    assert list(saved) == [2, 7]  # the frames that have labels
    for frame_index, label_map in saved.items():
        np.testing.assert_array_equal(label_map, painted_project.labels[frame_index])


@pytest.mark.parametrize(("suffix", "command"), WRITERS.items())
def test_a_writer_can_be_named_instead_of_an_extension(suffix, command, painted_project, viewer, tmp_path):
    viewer.layers.selection = {viewer.layers["Instruments"]}
    [written] = viewer.layers.save(str(tmp_path / "saved"), selected=True, plugin=f"surgicalsam-napari.{command}")
    assert written == str(tmp_path / f"saved.{suffix}")
    assert set(reread(written)) == {2, 7}


def test_the_save_dialog_offers_every_format(painted_project, viewer, tmp_path):
    offered, writers = _npe2.file_extensions_string_for_layers([viewer.layers["Instruments"]])
    chosen = [(title, writer) for title, writer in zip(offered.split(";;"), writers, strict=True) if "SurgicalSAM" in title]
    assert [title for title, _ in chosen] == [
        "SurgicalSAM EndoVis folders (*.endovis)",
        "SurgicalSAM folder of indexed PNG (*.indexed-png)",
        "SurgicalSAM COCO folder (*.coco)",
    ]
    viewer.layers.selection = {viewer.layers["Instruments"]}
    [written] = viewer.layers.save(str(tmp_path / "saved"), selected=True, _writer=chosen[1][1])
    assert open_dataset(Path(written)).format == "indexed-png"


def test_a_layer_of_another_origin_is_refused_by_name(make_napari_viewer, tmp_path):
    viewer = make_napari_viewer()
    viewer.add_labels(np.ones((3, 8, 8), np.uint8), name="cells")
    with pytest.raises(ExchangeError, match='"cells" is not a layer of a SurgicalSAM project'):
        viewer.layers.save(str(tmp_path / "saved.coco"))
    assert not (tmp_path / "saved.coco").exists()


def test_a_project_without_labels_is_not_saved(viewer, tmp_path):
    viewer.layers.selection = {viewer.layers["Instruments"]}
    with pytest.raises(ExchangeError, match="no labels yet"):
        viewer.layers.save(str(tmp_path / "saved.endovis"), selected=True)


def test_an_earlier_export_is_not_overwritten(painted_project, viewer, tmp_path):
    viewer.layers.selection = {viewer.layers["Instruments"]}
    target = tmp_path / "saved.endovis"
    viewer.layers.save(str(target), selected=True)
    before = reread(str(target))
    painted_project.labels[2] = 0
    with pytest.raises(ExchangeError, match="already contains an export"):
        viewer.layers.save(str(target), selected=True)
    np.testing.assert_array_equal(reread(str(target))[2], before[2])
