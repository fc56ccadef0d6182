"""The line above the timeline: frame, time code, notes and the annotator, with real keys and mouse in a real viewer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("qtpy.QtWidgets")

from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QFileDialog

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.preferences import remembered_annotator
from surgicalsam_napari.session import Session
from surgicalsam_napari.widgets.timeline.dock import TimelineDock
from surgicalsam_napari.widgets.timeline.frame_bar import FrameBar
from surgicalsam_napari.widgets.timeline.layout import AXIS_HEIGHT
from surgicalsam_napari.widgets.timeline.notes_dialog import ANNOTATOR, FRAME, TEXT, TIME
from surgicalsam_napari.widgets.viewer.dock_menu import DockMenu
from surgicalsam_napari.widgets.viewer.label_changes import LabelChanges
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers
from surgicalsam_napari.widgets.viewer.session_signals import SessionSignals

LEFT = Qt.MouseButton.LeftButton
DRIVER = 3


@dataclass
class Window:
    """A viewer with the timeline of an open project."""

    session: Session
    layers: ViewerLayers
    dock: TimelineDock

    @property
    def bar(self) -> FrameBar:
        return self.dock.timeline.bar

    def type(self, field, text: str, key: Qt.Key = Qt.Key.Key_Return) -> None:
        """Click into a field, replace its text, and press a key."""
        QTest.mouseClick(field, LEFT)
        field.selectAll()
        QTest.keyClick(field, Qt.Key.Key_Delete)
        QTest.keyClicks(field, text)
        QTest.keyClick(field, key)
        QApplication.processEvents()


@pytest.fixture
def window(make_napari_viewer, clip) -> Iterator[Window]:
    yield from opened_window(make_napari_viewer(show=True), clip)


@pytest.fixture
def hidden_window(make_napari_viewer, clip) -> Iterator[Window]:
    """Without a picture on the screen, for tests that change the video."""
    yield from opened_window(make_napari_viewer(), clip)


def opened_window(viewer, clip: Path) -> Iterator[Window]:
    session = Session(ENDOVIS2018)
    layers, changes, signals = ViewerLayers(viewer, session), LabelChanges(), SessionSignals(session)
    dock = TimelineDock(session, layers, changes, DockMenu(viewer, changes))
    for part in (changes, layers, dock):
        part.subscribe(signals)
    session.open(clip)
    layers.show_frame(5)
    yield Window(session, layers, dock)
    dock.remove()
    session.close()


# ---- frame and time


def test_the_line_shows_the_frame_in_view_and_its_time(window):
    assert (window.bar.frame.text(), window.bar.of.text(), window.bar.time.text()) == ("5", "/ 11", "0:00:00.20")
    window.layers.show_frame(7)
    assert (window.bar.frame.text(), window.bar.time.text()) == ("7", "0:00:00.28")


def test_a_frame_number_goes_to_the_frame(window):
    window.type(window.bar.frame, "9")
    assert window.layers.current_frame == 9


@pytest.mark.parametrize("text", ["12", "-1", "abc", ""])
def test_a_frame_that_does_not_exist_is_refused_and_esc_shows_the_present_one(window, text):
    window.type(window.bar.frame, text)
    assert window.layers.current_frame == 5
    assert window.bar.frame.text() == text
    assert "#e0604f" in window.bar.frame.styleSheet()
    QTest.keyClick(window.bar.frame, Qt.Key.Key_Escape)
    assert window.bar.frame.text() == "5"
    assert "#e0604f" not in window.bar.frame.styleSheet()


@pytest.mark.parametrize(("text", "frame"), [("0:00:00.28", 7), ("0,33", 8), (".4", 10), ("0:01", 11)])
def test_a_time_goes_to_the_frame_that_is_shown_then(window, text, frame):
    window.type(window.bar.time, text)
    assert window.layers.current_frame == frame


@pytest.mark.parametrize("text", ["1:00:00", "soon"])
def test_a_time_outside_the_video_is_refused(window, text):
    window.type(window.bar.time, text)
    assert window.layers.current_frame == 5
    assert "#e0604f" in window.bar.time.styleSheet()


def test_a_folder_of_pictures_has_no_time(hidden_window, tmp_path: Path):
    window = hidden_window
    assert not window.bar.time.isHidden()
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(np.zeros((12, 16, 3), np.uint8)).save(folder / f"{number}.png")
    window.session.open(folder)
    assert window.bar.time.isHidden()
    assert window.bar.frame.text() == str(window.layers.current_frame)


def test_a_key_on_the_canvas_leads_to_the_frame_number_and_enter_leads_back(window, qtbot):
    canvas = window.layers.viewer.window._qt_viewer.canvas.native
    window.layers.viewer.window.activate()
    canvas.setFocus()
    qtbot.waitUntil(canvas.hasFocus)
    QTest.keyClick(canvas, Qt.Key.Key_G, Qt.KeyboardModifier.ShiftModifier)
    assert window.bar.frame.hasFocus()
    QTest.keyClicks(window.bar.frame, "3")
    QTest.keyClick(window.bar.frame, Qt.Key.Key_Return)
    assert window.layers.current_frame == 3
    assert canvas.hasFocus()


# ---- notes


def test_a_note_is_stored_shown_on_the_timeline_and_listed(window):
    window.type(window.bar.note, "smoke")
    assert window.session.project.notes.text(5) == "smoke"
    assert window.bar.list_button.text() == "1 note"
    strip = window.dock.timeline.strip
    assert strip.frame_notes == {5: "smoke"}
    x = strip.layout_now.left + round((5.5) * strip.view.scale)
    assert "Frame 5 - note: smoke" in strip.tooltip_at(QPoint(x, AXIS_HEIGHT + 4))
    window.layers.show_frame(6)
    assert window.bar.note.text() == ""
    window.layers.show_frame(5)
    assert window.bar.note.text() == "smoke"


def test_a_note_that_is_being_typed_belongs_to_its_frame(window):
    QTest.mouseClick(window.bar.note, LEFT)
    QTest.keyClicks(window.bar.note, "bleeding")
    window.layers.show_frame(8)
    assert [(note.frame, note.text) for note in window.session.project.notes.entries()] == [(5, "bleeding")]
    assert window.bar.note.text() == ""


def test_esc_gives_up_a_note(window):
    window.type(window.bar.note, "nothing", key=Qt.Key.Key_Escape)
    assert window.session.project.notes.entries() == []
    assert window.bar.note.text() == ""


def test_notes_are_not_lost_when_another_video_opens(hidden_window, clip, tmp_path):
    window = hidden_window
    QTest.keyClicks(window.bar.note, "bleeding")
    folder = window.session.project.folder
    other = tmp_path / "other.mp4"
    other.write_bytes(clip.read_bytes())
    window.session.open(other)
    assert window.session.project.notes.entries() == []
    assert window.bar.note.text() == ""
    window.session.open(folder)
    assert window.session.project.notes.text(5) == "bleeding"


def test_the_list_goes_to_frames_removes_notes_and_writes_a_file(window, tmp_path, monkeypatch):
    window.type(window.bar.note, "smoke")
    window.layers.show_frame(9)
    window.type(window.bar.note, "blood")
    QTest.mouseClick(window.bar.list_button, LEFT)
    dialog = window.dock.frame_notes.dialog
    rows = [[dialog.list.topLevelItem(row).text(column) for column in (FRAME, TIME, TEXT, ANNOTATOR)] for row in range(2)]
    assert rows == [["5", "0:00:00.20", "smoke", ""], ["9", "0:00:00.36", "blood", ""]]
    place = dialog.list.visualItemRect(dialog.list.topLevelItem(0)).center()
    QTest.mouseClick(dialog.list.viewport(), LEFT, pos=place)
    assert window.layers.current_frame == 5
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "notes.csv"), ""))
    QTest.mouseClick(dialog.save_button, LEFT)
    assert (tmp_path / "notes.csv").read_text().splitlines()[1].startswith("5,0:00:00.20,smoke,,")
    QTest.mouseClick(dialog.remove_button, LEFT)
    assert [note.frame for note in window.session.project.notes.entries()] == [9]
    assert dialog.list.topLevelItemCount() == 1


def test_notes_cannot_be_written_in_a_read_only_window(window):
    window.session.project.writable = False
    window.dock.frame_notes.follow(window.session.project)
    window.type(window.bar.note, "text")
    assert window.session.project.notes.entries() == []
    assert window.bar.note.toolTip().startswith("Read-only")


# ---- who corrects


def test_the_name_is_asked_once_and_remembered(window, clip):
    assert window.bar.name.isVisible()
    window.type(window.bar.name, "Dr. Ada")
    assert not window.bar.name.isVisible()
    assert window.bar.name_button.text() == "Dr. Ada"
    assert remembered_annotator() == "Dr. Ada"
    window.session.project.labels[2, 0:5, 0:5] = DRIVER
    window.type(window.bar.note, "smoke")
    assert window.session.project.notes.entries()[0].annotator == "Dr. Ada"
    assert window.session.project.work_log.annotators() == ("Dr. Ada",)
    with Session(ENDOVIS2018) as later:
        assert later.annotator == "Dr. Ada"
        assert later.open(clip).work_log.annotator == "Dr. Ada"


def test_the_name_can_be_changed_or_left_out(window):
    QTest.mouseClick(window.bar.no_name, LEFT)
    assert remembered_annotator() == ""
    assert window.bar.name_button.text() == "Your name…"
    QTest.mouseClick(window.bar.name_button, LEFT)
    window.type(window.bar.name, "Bo")
    assert window.session.annotator == "Bo"
    assert window.bar.name_button.text() == "Bo"


# ---- eyes


def test_a_click_on_a_coloured_square_hides_its_class_and_leaves_the_brush(window):
    strip = window.dock.timeline.strip
    window.session.select_class(1)
    square = QPoint(10, strip.layout_now.top_of(2) + 5)
    assert strip.tooltip_at(square) == "Hide Large Needle Driver in the canvas"
    QTest.mouseClick(strip.viewport(), LEFT, pos=square)
    assert window.layers.hidden_classes == strip.hidden_classes == {DRIVER}
    assert window.session.selected_class_id == 1
    assert window.layers.labels.get_color(DRIVER)[3] == 0
    QTest.mouseClick(strip.viewport(), LEFT, pos=square)
    assert window.layers.hidden_classes == frozenset()
