"""A project opens with the model that was last used on it; the window is real, the models are tiny."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("qtpy.QtWidgets")

from qtpy.QtCore import Qt, QThreadPool
from qtpy.QtWidgets import QFileDialog
from window import TIMEOUT, settle

from surgicalsam_napari.model.checkpoint import load_checkpoint, save_checkpoint
from surgicalsam_napari.store import Project
from surgicalsam_napari.store.manifest import MANIFEST, ModelRecord
from surgicalsam_napari.widgets.main_widget import MainWidget
from surgicalsam_napari.widgets.parts.frame_scope import THIS_FRAME


@pytest.fixture
def dock(make_napari_viewer, qtbot, clip, bundled_tiny) -> Iterator[MainWidget]:
    viewer = make_napari_viewer()
    dock = MainWidget(viewer)
    viewer.window.add_dock_widget(dock, name="SurgicalSAM")
    open_in(dock, clip, qtbot)
    yield dock
    settle(qtbot, dock)
    QThreadPool.globalInstance().waitForDone(TIMEOUT)
    dock.session.close()


@pytest.fixture
def other(phantom_clip, tmp_path) -> Path:
    return Path(shutil.copy(phantom_clip, tmp_path / "other.mp4"))


@pytest.fixture
def mine(tiny_checkpoint, tmp_path) -> Path:
    """A checkpoint of other weights than the bundled one."""
    return another(tiny_checkpoint, tmp_path / "mine.safetensors", 0.5)


def another(checkpoint: Path, path: Path, threshold: float) -> Path:
    model = load_checkpoint(checkpoint, device="cpu")
    model.presence_threshold = threshold
    return save_checkpoint(path, model, training_record={"steps": 1})


def open_in(dock: MainWidget, path: Path, qtbot) -> None:
    settle(qtbot, dock)
    dock.open(path)
    settle(qtbot, dock)


def choose(dock: MainWidget, path: Path, qtbot, monkeypatch) -> None:
    """Choose a checkpoint with the button of the Model panel."""
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_, **__: (str(path), ""))
    qtbot.mouseClick(dock.model_panel.choose_checkpoint, Qt.MouseButton.LeftButton)
    settle(qtbot, dock)


def in_use(dock: MainWidget) -> Path | None:
    return dock.model_panel.in_use.checkpoint


def test_a_project_opens_with_the_model_that_was_last_used_on_it(dock, qtbot, clip, other, mine, monkeypatch):
    choose(dock, mine, qtbot, monkeypatch)
    open_in(dock, other, qtbot)
    assert in_use(dock) == mine  # nothing was used on this one yet
    dock.model_panel.checkpoint.activated.emit(0)
    settle(qtbot, dock)
    assert in_use(dock) is None
    open_in(dock, clip, qtbot)
    assert in_use(dock) == mine and dock.session.model.presence_threshold == 0.5
    assert dock.model_panel.checkpoint.currentText() == "mine"
    assert not dock.model_panel.message.isVisibleTo(dock.model_panel)
    open_in(dock, other, qtbot)
    assert in_use(dock) is None and dock.session.model.presence_threshold == 0.0


def test_a_model_that_was_loaded_before_the_project_is_remembered_when_it_segments(
    dock, qtbot, clip, other, mine, monkeypatch
):
    choose(dock, mine, qtbot, monkeypatch)
    open_in(dock, other, qtbot)
    assert dock.session.project.manifest.model_in_use is None
    dock.segment_panel.scope.choice.setCurrentText(THIS_FRAME)
    qtbot.mouseClick(dock.segment_panel.segment, Qt.MouseButton.LeftButton)
    settle(qtbot, dock)
    assert dock.session.project.manifest.model_in_use.path == str(mine)


def test_a_missing_model_is_reported_with_a_remedy_and_the_bundled_one_is_used(
    dock, qtbot, clip, other, mine, monkeypatch, notes
):
    choose(dock, mine, qtbot, monkeypatch)
    open_in(dock, other, qtbot)
    mine.unlink()
    open_in(dock, clip, qtbot)
    panel = dock.model_panel
    assert in_use(dock) is None and panel.checkpoint.currentText().startswith("Light")
    assert str(mine) in panel.message.text() and "Put the file back" in panel.message.text()
    assert notes == ["Model: see the message in the panel"]


def test_a_model_whose_file_has_changed_is_reported(dock, qtbot, clip, other, mine, tiny_checkpoint, monkeypatch):
    choose(dock, mine, qtbot, monkeypatch)
    open_in(dock, other, qtbot)
    dock.model_panel.checkpoint.activated.emit(0)
    settle(qtbot, dock)
    another(tiny_checkpoint, mine, 0.7)
    open_in(dock, clip, qtbot)
    assert in_use(dock) == mine
    assert "has changed since it was last used on this project" in dock.model_panel.message.text()


def test_a_project_finds_its_own_model_after_it_has_moved(tmp_path, clip, tiny_checkpoint):
    folder = tmp_path / "clip.surgicalsam"
    inside = ModelRecord.of("d", "best", folder / "training/run/best.safetensors", None, folder)
    assert inside.checkpoint(tmp_path / "moved.surgicalsam") == tmp_path / "moved.surgicalsam/training/run/best.safetensors"
    outside = ModelRecord.of("d", "mine", tmp_path / "mine.safetensors", None, folder)
    assert outside.checkpoint(tmp_path / "moved.surgicalsam") == tmp_path / "mine.safetensors"
    assert ModelRecord.of("d", "light", None, None, folder).checkpoint(folder) is None


def test_a_project_of_an_earlier_version_opens(dock, qtbot, clip, other):
    manifest = Project.default_folder(clip) / MANIFEST
    record = json.loads(manifest.read_text())
    del record["model_in_use"]
    open_in(dock, other, qtbot)
    manifest.write_text(json.dumps(record))
    open_in(dock, clip, qtbot)
    assert dock.session.project.manifest.model_in_use is None and in_use(dock) is None
