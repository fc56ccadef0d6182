"""Messages of the window in a real viewer: whole, selectable, where they arose, until a person dismisses them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("qtpy.QtWidgets")

from napari._qt.dialogs.qt_notification import NapariQtNotification
from napari.utils.notifications import ErrorNotification, Notification, notification_manager
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication
from window import settle

from surgicalsam_napari.errors import VideoError
from surgicalsam_napari.widgets.main_widget import MainWidget
from surgicalsam_napari.widgets.parts.message import ERROR, NOTICE, Message, show_failure

LONG = "/data/" + "a_very_long_folder_name_without_a_space/" * 8 + "clip.mp4"


@pytest.fixture
def dock(make_napari_viewer, qtbot, bundled_tiny) -> Iterator[MainWidget]:
    viewer = make_napari_viewer(show=True)
    dock = MainWidget(viewer)
    viewer.window.add_dock_widget(dock, name="SurgicalSAM")
    settle(qtbot, dock)
    yield dock
    settle(qtbot, dock)
    dock.session.close()


@pytest.fixture
def shown() -> Iterator[list[Notification]]:
    """The notifications that were shown."""
    notifications: list[Notification] = []
    notification_manager.notification_ready.connect(notifications.append)
    yield notifications
    notification_manager.notification_ready.disconnect(notifications.append)


def click(qtbot, widget) -> None:
    qtbot.mouseClick(widget, Qt.MouseButton.LeftButton)


def open_a_bad_video(dock: MainWidget, qtbot, tmp_path: Path) -> Message:
    (tmp_path / "broken.mp4").write_bytes(b"not a video at all" * 100)
    dock.open(tmp_path / "broken.mp4")
    settle(qtbot, dock)
    return dock.start.page.message  # nothing is open


def test_an_error_stays_whole_in_its_panel_until_it_is_dismissed(dock, qtbot, tmp_path):
    message = open_a_bad_video(dock, qtbot, tmp_path)
    body = message.body
    assert message.isVisible() and "broken.mp4" in body.toPlainText()
    assert body.height() >= body.document().size().height()  # no line is cut off
    assert body.verticalScrollBar().maximum() == 0
    click(qtbot, message.close_button)
    assert not message.isVisible() and message.text() == ""


def test_an_error_can_be_selected_and_copied(dock, qtbot, tmp_path):
    message = open_a_bad_video(dock, qtbot, tmp_path)
    qtbot.mouseDClick(message.body.viewport(), Qt.MouseButton.LeftButton, pos=message.body.cursorRect().center())
    assert message.body.textCursor().hasSelection()
    qtbot.keyClick(message.body, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    qtbot.keyClick(message.body, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert QApplication.clipboard().text() == message.text()


def test_a_long_path_wraps_and_does_not_widen_the_dock(dock, qtbot):
    width = dock.width()
    show_failure(VideoError(f"{LONG} cannot be read. Choose another file."), dock.video_panel)
    qtbot.wait(50)
    body = dock.video_panel.message.body
    assert dock.width() == width and body.document().size().width() <= body.width()
    assert body.height() > 4 * body.fontMetrics().height()


def test_the_notification_only_points_to_the_message(dock, qtbot, tmp_path, shown):
    open_a_bad_video(dock, qtbot, tmp_path)
    (pointer,) = shown
    assert pointer.message == "Start: see the message in the panel" and len(pointer.message) <= 40
    assert not isinstance(pointer, ErrorNotification)  # napari offers a traceback for those
    assert [title for title, _ in pointer.actions] == ["Show"]


def test_show_opens_the_tab_and_the_section_of_the_message(dock, qtbot, shown):
    section = dock.correct_panel.history
    assert dock.tabs.bar.currentIndex() == 0 and not section.isVisible()
    show_failure(VideoError("Nothing can be undone."), section)
    toast = NapariQtNotification.from_notification(shown[0])
    qtbot.addWidget(toast)
    toast.show()
    click(qtbot, toast.row2_widget.findChildren(type(dock.video_panel.open_file))[0])
    assert section.message.isVisible()
    assert (
        dock.viewport()
        .rect()
        .intersects(
            section.message.rect().translated(section.message.mapTo(dock.viewport(), section.message.rect().topLeft()))
        )
    )


def test_a_broken_video_that_napari_opens_is_reported_in_the_panel_without_a_traceback(dock, qtbot, tmp_path, shown):
    (tmp_path / "broken.mp4").write_bytes(b"not a video at all" * 100)
    assert dock.layers.viewer.open(str(tmp_path / "broken.mp4"), plugin="surgicalsam-napari") == []
    assert "broken.mp4" in dock.video_panel.message.text()
    assert [type(notification).__name__ for notification in shown] == ["Pointer"]


def test_a_new_try_replaces_the_message_of_the_last_one(dock, qtbot, tmp_path, clip):
    message = open_a_bad_video(dock, qtbot, tmp_path)
    dock.open(clip)
    settle(qtbot, dock)
    assert dock.session.project is not None and not message.isVisible()


def test_errors_add_up_and_a_notice_replaces_the_notice_before_it(qtbot):
    message = Message()
    qtbot.addWidget(message)
    for text, kind in (("one", ERROR), ("frame 1", NOTICE), ("two", ERROR), ("one", ERROR), ("frame 2", NOTICE)):
        message.add(text, kind)
    assert message.text() == "two\n\none\n\nframe 2"


def test_a_fault_of_the_program_says_so_and_offers_its_traceback(dock, shown, monkeypatch):
    monkeypatch.setattr(
        notification_manager, "receive_error", lambda *error: notification_manager.dispatch(ErrorNotification(error[1]))
    )
    show_failure(KeyError("mask"), dock.segment_panel)
    assert "This is a fault of the program" in dock.segment_panel.message.text()
    assert isinstance(shown[0], ErrorNotification)
