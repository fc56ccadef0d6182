"""napari's File > Save for the labels of a project: what `viewer.layers.save` writes, and which layers it refuses."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("qtpy.QtWidgets")

from napari.plugins import _npe2

from surgicalsam_napari.errors import ExchangeError, ProjectError
from surgicalsam_napari.exchange.registry import EXPORT_FORMATS, open_dataset
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.store import Project
from surgicalsam_napari.video import VideoReader

DRIVER, SCISSORS = 3, 4
WRITERS = {name: format.napari_command for name, format in EXPORT_FORMATS.items()}


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


@pytest.mark.parametrize(("suffix", "command"), list(WRITERS.items())[:3])
def test_a_writer_can_be_named_instead_of_an_extension(suffix, command, painted_project, viewer, tmp_path):
    viewer.layers.selection = {viewer.layers["Instruments"]}
    [written] = viewer.layers.save(str(tmp_path / "saved"), selected=True, plugin=f"surgicalsam-napari.{command}")
    assert written == str(tmp_path / f"saved.{suffix}")
    assert set(reread(written)) == {2, 7}


def test_the_save_dialog_offers_every_format(painted_project, viewer, tmp_path):
    offered, writers = _npe2.file_extensions_string_for_layers([viewer.layers["Instruments"]])
    chosen = [(title, writer) for title, writer in zip(offered.split(";;"), writers, strict=True) if "SurgicalSAM" in title]
    titles = [title for title, _ in chosen]
    assert titles[1:3] == ["SurgicalSAM folder of indexed PNG (*.indexed-png)", "SurgicalSAM COCO folder (*.coco)"]
    assert len(titles) == len(EXPORT_FORMATS)
    viewer.layers.selection = {viewer.layers["Instruments"]}
    [written] = viewer.layers.save(str(tmp_path / "saved"), selected=True, _writer=chosen[1][1])
    assert open_dataset(Path(written)).format == "indexed-png"


@pytest.mark.parametrize("suffix", ["tiff-stack", "ome-zarr"])
def test_labels_too_large_for_one_array_are_saved_frame_by_frame(suffix, painted_project, viewer, tmp_path, monkeypatch):
    monkeypatch.setattr("surgicalsam_napari.store.labels.label_array.LARGEST_WHOLE_ARRAY", 1000)
    with pytest.raises(ProjectError, match="multi-page TIFF: it is written frame by frame"):
        np.asarray(viewer.layers["Instruments"].data)
    viewer.layers.selection = {viewer.layers["Instruments"]}
    [written] = viewer.layers.save(str(tmp_path / f"saved.{suffix}"), selected=True)
    assert set(reread(written)) == {2, 7}


@pytest.mark.parametrize("suffix", ["coco", "yolo", "cvat-images", "voc", "ome-zarr"])
def test_a_saved_dataset_opens_in_napari_as_layers(suffix, painted_project, viewer, make_napari_viewer, tmp_path):
    viewer.layers.selection = {viewer.layers["Instruments"]}
    [written] = viewer.layers.save(str(tmp_path / f"saved.{suffix}"), selected=True)
    other = make_napari_viewer()
    other.open(written, plugin="surgicalsam-napari")
    labels = other.layers["clip labels"]
    assert list(labels.features["class"].dropna()) == list(ENDOVIS2018.names)
    has_pictures = "clip" in other.layers
    assert has_pictures == (suffix != "ome-zarr")
    position = 1 if has_pictures else 7  # without pictures, labels lie at their frames of the video
    np.testing.assert_array_equal(labels.data[position], painted_project.labels[7])
    with pytest.raises(ProjectError, match="only shown"):
        labels.data[position, 0, 0] = 1


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
