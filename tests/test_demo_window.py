"""The demo as `make demo` runs it without a display: a real window, real buttons, written files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("qtpy.QtWidgets")

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.video import VideoReader
from surgicalsam_napari.widgets import demo
from surgicalsam_napari.widgets.main_widget import MainWidget


@pytest.fixture
def clip(phantom_clip: Path, tmp_path: Path) -> Path:
    """A clip with its exact masks beside it."""
    shutil.copytree(phantom_clip.parent, tmp_path / "demo")
    return tmp_path / "demo" / phantom_clip.name


def dock_widget(viewer) -> MainWidget:
    dock = MainWidget(viewer)
    viewer.window.add_dock_widget(dock, name="SurgicalSAM")
    return dock


def test_the_demo_writes_screenshot_overlay_and_project(make_napari_viewer, clip, monkeypatch, capsys, bundled_tiny):
    monkeypatch.setattr(demo.napari, "Viewer", lambda **_: make_napari_viewer())
    monkeypatch.setattr(demo, "dock_plugin", dock_widget)
    output = clip.parent
    demo.run_demo_window(clip, output)

    assert np.asarray(Image.open(output / "window.png")).std() > 1
    with VideoReader(output / "overlay.mp4") as overlay:
        assert overlay.shape[0] == 12
    with Project.open(clip.with_suffix(".surgicalsam")) as project:
        assert (project.labels.provenance_table() != Provenance.EMPTY).all()
    printed = capsys.readouterr().out
    assert all(name in printed for name in ENDOVIS2018.names)
    assert "mean of the classes shown" in printed


def test_busiest_frame_shows_the_most_classes():
    truth = np.zeros((3, 8, 8), np.uint8)
    truth[1, :6] = 3
    truth[2, 0, 0], truth[2, 1, 1] = 1, 2
    assert demo.busiest_frame(truth) == 2
    assert demo.busiest_frame(None) == 0


def test_the_chosen_class_is_the_largest_in_view():
    label_map = np.zeros((4, 4), np.uint8)
    assert demo.largest_class(label_map) is None
    label_map[0], label_map[1, :2] = 5, 2
    assert demo.largest_class(label_map) == 5


def test_iou_of_exact_labels_is_100(clip, capsys):
    with Project.create(Project.default_folder(clip), VideoReader(clip), ENDOVIS2018) as project:
        truth = demo.read_exact_masks(clip)
        project.labels[:] = truth
        demo.print_iou_table(project, truth)
    assert "mean of the classes shown    100.0" in capsys.readouterr().out
