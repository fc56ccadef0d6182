"""What a window remembers for the next start, and the mark that says that all is saved; in a real viewer."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("qtpy.QtWidgets")

from qtpy.QtCore import Qt, QThreadPool
from qtpy.QtWidgets import QFileDialog
from window import settle

from surgicalsam_napari.preferences import ModelChoice, read_preferences, remember
from surgicalsam_napari.store import Project
from surgicalsam_napari.widgets.main_widget import MainWidget
from surgicalsam_napari.widgets.parts.collapsible import Collapsible
from surgicalsam_napari.widgets.parts.frame_scope import EVERY_NTH
from surgicalsam_napari.widgets.source.saved_mark import NOT_YET, SAVED

DRIVER, TIMEOUT = 3, 60_000


@pytest.fixture
def start(make_napari_viewer, qtbot, bundled_tiny) -> Iterator[Callable[[], MainWidget]]:
    """Start the plugin in a new window; what was open before is closed."""
    docks: list[MainWidget] = []

    def start(*, show: bool = False) -> MainWidget:
        for dock in docks:
            dock.session.close()
        viewer = make_napari_viewer(show=show)
        viewer.window.resize(1400, 900)
        docks.append(MainWidget(viewer))
        viewer.window.add_dock_widget(docks[-1], name="SurgicalSAM")
        settle(qtbot, docks[-1])
        return docks[-1]

    yield start
    QThreadPool.globalInstance().waitForDone(TIMEOUT)
    for dock in docks:
        dock.session.close()
    docks.clear()


def open_in(dock: MainWidget, path: Path, qtbot) -> None:
    dock.open(path)
    settle(qtbot, dock)


def section(dock: MainWidget, title: str) -> Collapsible:
    return next(each for each in dock.findChildren(Collapsible) if each.title == title)


def width_of(dock: MainWidget) -> int:
    return dock.parentWidget().width()


def test_class_frames_checkpoint_tab_and_sections_come_back_at_the_next_start(start, qtbot, clip, tmp_path, tiny_checkpoint):
    own = Path(shutil.copy(tiny_checkpoint, tmp_path / "own.safetensors"))
    dock = start()
    open_in(dock, clip, qtbot)
    dock.model_panel.load(own)
    settle(qtbot, dock)
    segment = dock.segment_panel
    segment.picker.setCurrentIndex(segment.picker.findData(DRIVER))
    qtbot.mouseClick(segment.all_classes, Qt.MouseButton.LeftButton)
    segment.vote.setChecked(False)
    segment.scope.choice.setCurrentText(EVERY_NTH)
    segment.scope.step.setValue(7)
    dock.tabs.show_panel(dock.correct_panel)
    qtbot.wait(20)
    history = section(dock, "History")
    was_open = history.is_open
    qtbot.mouseClick(history.header, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(
        lambda: read_preferences().layout.open_sections.get("History", was_open) is not was_open, timeout=TIMEOUT
    )
    qtbot.waitUntil(lambda: read_preferences().model.checkpoint == own, timeout=TIMEOUT)

    again = start()
    assert again.model_panel.in_use.checkpoint == own and again.session.model is not None
    assert again.tabs.bar.tabText(again.tabs.bar.currentIndex()) == "Correct"
    assert section(again, "History").is_open is not was_open
    open_in(again, clip, qtbot)
    segment = again.segment_panel
    assert segment.picker.class_id == again.session.selected_class_id == DRIVER
    assert again.layers.labels.selected_label == DRIVER
    assert segment.all_classes.isChecked() and not segment.vote.isChecked()
    assert not again.train_panel.learn.vote.isChecked()
    assert (segment.scope.choice.currentText(), segment.scope.step.value()) == (EVERY_NTH, 7)


def test_the_panel_is_as_wide_as_before_at_the_next_start(start, qtbot):
    dock = start(show=True)
    dock.window().resizeDocks([dock.parentWidget()], [470], Qt.Orientation.Horizontal)
    qtbot.waitUntil(lambda: read_preferences().layout.panel_width == width_of(dock) > 450, timeout=TIMEOUT)
    width = width_of(dock)
    again = start(show=True)
    qtbot.waitUntil(lambda: abs(width_of(again) - width) <= 4, timeout=TIMEOUT)


def test_a_checkpoint_that_is_gone_is_named_and_the_bundled_one_is_loaded(start, tmp_path, notes):
    gone = ModelChoice(checkpoint=tmp_path / "gone.safetensors")
    remember(lambda preferences: preferences.model_copy(update={"model": gone}))
    dock = start()
    assert dock.session.model is not None and dock.model_panel.in_use.checkpoint is None
    assert len(notes) == 1 and "gone.safetensors" in dock.model_panel.message.text()


def test_a_checkpoint_that_is_damaged_is_reported_and_the_bundled_one_is_loaded(start, qtbot, tmp_path, notes):
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"nothing")
    remember(lambda preferences: preferences.model_copy(update={"model": ModelChoice(checkpoint=damaged)}))
    dock = start()
    qtbot.waitUntil(lambda: dock.session.model is not None, timeout=TIMEOUT)
    assert dock.model_panel.in_use.checkpoint is None
    assert len(notes) == 1 and "damaged.safetensors" in dock.model_panel.message.text()


def test_a_damaged_file_of_preferences_is_told_and_everything_works(start, preferences_file, qtbot, clip, notes):
    preferences_file.parent.mkdir(parents=True)
    preferences_file.write_text("{")
    dock = start()
    assert len(notes) == 1 and "Your projects are not affected" in dock.message.text()
    open_in(dock, clip, qtbot)
    assert [video.path for video in read_preferences().videos] == [dock.session.project.folder]


def test_a_file_dialog_opens_where_the_last_one_of_its_kind_was_used(start, qtbot, clip, tmp_path, monkeypatch):
    (tmp_path / "videos").mkdir()
    moved = clip.rename(tmp_path / "videos" / "clip.mp4")
    asked: list[str] = []

    def choose(_parent, _title, folder, *_):
        asked.append(folder)
        return str(moved), ""

    monkeypatch.setattr(QFileDialog, "getOpenFileName", choose)
    dock = start()
    qtbot.mouseClick(dock.start.page.open_button, Qt.MouseButton.LeftButton)
    settle(qtbot, dock)
    qtbot.mouseClick(dock.video_panel.open_file, Qt.MouseButton.LeftButton)
    settle(qtbot, dock)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *arguments: (asked.append(arguments[2]), ("", ""))[1])
    qtbot.mouseClick(dock.model_panel.choose_checkpoint, Qt.MouseButton.LeftButton)
    assert asked == ["", str(moved.parent), ""]  # a folder for each kind


# Saved -------------------------------------------------------------------------------------------------------------------


def test_the_mark_says_whether_all_is_saved_and_why_not(start, qtbot, clip, monkeypatch):
    dock = start(show=True)
    mark = dock.video_panel.saved
    assert not mark.isVisible()
    open_in(dock, clip, qtbot)
    assert mark.isVisible() and mark.text() == SAVED
    dock.layers.labels.paint((2, 20, 20), DRIVER)
    qtbot.waitUntil(lambda: "Last change" in mark.toolTip(), timeout=TIMEOUT)
    assert mark.text() == SAVED and str(dock.session.project.folder) in mark.toolTip()

    def full_disk(*_arguments, **_named):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("surgicalsam_napari.store.disk.journal.Journal.commit", full_disk)
        dock.layers.labels.paint((3, 20, 20), DRIVER)
        assert mark.text() == NOT_YET and "free some space" in mark.toolTip()
    dock.layers.labels.paint((4, 20, 20), DRIVER)
    qtbot.waitUntil(lambda: mark.text() == SAVED, timeout=TIMEOUT)
    assert dock.session.project.labels[4].any() and dock.session.project.labels[3].any()


def test_a_read_only_project_has_its_banner_and_no_mark(start, qtbot, clip):
    dock = start(show=True)
    open_in(dock, clip, qtbot)
    folder = dock.session.project.folder
    dock.session.close()
    with Project.open(folder) as other:
        assert other.claim() is None
        open_in(dock, folder, qtbot)
        assert not dock.video_panel.saved.isVisible() and dock.video_panel.banner.isVisible()
