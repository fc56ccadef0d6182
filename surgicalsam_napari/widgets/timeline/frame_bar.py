"""The line above the timeline: the frame in view, its time, its note, and who corrects."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import QPoint, Qt, Signal
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QApplication, QHBoxLayout, QLabel, QLineEdit, QSizePolicy, QToolButton, QToolTip, QWidget

from surgicalsam_napari.errors import VideoError
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.video.time_code import frame_at, from_time_code, in_time_code

FIELD_STYLE = "QLineEdit { border: 1px solid transparent; padding: 0px 3px; }"
WRONG_STYLE = "QLineEdit { border: 1px solid #e0604f; padding: 0px 3px; }"
SMALL_STYLE = "font-size: 9pt; padding: 0px; margin: 0px;"
FLAT_STYLE = """
QToolButton { border: none; background: transparent; font-size: 9pt; padding: 1px 4px; }
QToolButton:hover { background: rgba(127, 127, 127, 80); border-radius: 2px; }
"""
HEIGHT = 20  # of the fields, in pixels: the rows of the timeline need the room
LAST_FRAME_SECONDS = 1.0  # how long the last frame may be shown, for times that are entered
ASK_NAME = "Your name, for the work log"
NAME_HELP = "Who corrects: written into the work log, the notes and exports"


class BarField(QLineEdit):
    """A field that takes the keyboard while a person types: Enter and Esc give it back to the widget that had it before."""

    def __init__(self, tip: str, placeholder: str = "") -> None:
        super().__init__()
        self.setToolTip(tip)
        self.setPlaceholderText(placeholder)
        self.setStyleSheet(FIELD_STYLE)
        self._focused_before: QWidget | None = None
        self._stored = ""
        QApplication.instance().focusChanged.connect(self._on_focus_changed)

    def show_stored(self, text: str) -> None:
        """Show what is stored; text that a person is typing stays."""
        self._stored = text
        if not (self.hasFocus() and self.isModified()):
            self.revert()

    def revert(self) -> None:
        """Show what is stored."""
        self.setText(self._stored)
        self.setStyleSheet(FIELD_STYLE)

    def refuse(self, why: str) -> None:
        """Mark the text as wrong, and say why."""
        self.setStyleSheet(WRONG_STYLE)
        QToolTip.showText(self.mapToGlobal(QPoint(0, -2 * self.height())), why, self)

    def leave(self) -> None:
        """Give the keyboard back."""
        before, self._focused_before = self._focused_before, None
        if before is not None and before.isVisible():
            before.setFocus()
        else:
            self.clearFocus()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self.revert()
            self.leave()
        else:
            self.setStyleSheet(FIELD_STYLE)
            super().keyPressEvent(event)

    def _on_focus_changed(self, old: QWidget | None, new: QWidget | None) -> None:
        if new is self:
            self._focused_before = None if isinstance(old, BarField) else old


class FrameBar(QWidget):
    """It knows no project and no viewer.

    Signals: `frame_asked` (frame index), `note_written` (frame index, text), `notes_asked`, `annotator_named` (name; empty
    if the person gives none).
    """

    frame_asked = Signal(int)
    note_written = Signal(int, str)
    notes_asked = Signal()
    annotator_named = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._times: np.ndarray | None = None
        self._frame_count = 0
        self._note_frame = 0
        self._annotator: str | None = None
        self._build()
        self.frame.returnPressed.connect(self._on_frame)
        self.time.returnPressed.connect(self._on_time)
        self.note.editingFinished.connect(self.store_note)
        self.note.returnPressed.connect(self.note.leave)
        self.list_button.clicked.connect(self.notes_asked)
        self.name.editingFinished.connect(self._on_name)
        self.name.returnPressed.connect(self.name.leave)
        self.name_button.clicked.connect(self._edit_name)
        self.no_name.clicked.connect(self._on_no_name)
        self.show_video(0, None, False)

    def show_video(self, frame_count: int, times: np.ndarray | None, can_write: bool) -> None:
        """Show a video with this number of frames; 0 for none.

        Parameters
        ----------
        times : (T,) seconds at which the frames begin; None if they are unknown: then there is no field for them
        can_write : whether notes can be written
        """
        self._frame_count, self._times = frame_count, times
        self.of.setText(f"/ {max(frame_count - 1, 0):,}")
        for widget in (self.time_title, self.time):
            widget.setVisible(times is not None)
        self.setEnabled(frame_count > 0)
        self.note.setReadOnly(not can_write)
        self.note.setToolTip("A note on this frame" if can_write else "Read-only: notes cannot be written in this window.")
        self.note.setModified(False)
        if not frame_count:
            for field in (self.frame, self.time, self.note):
                field.show_stored("")

    def show_frame(self, frame_index: int, note: str) -> None:
        """Show the frame in view and its note; an unfinished note is stored on the frame for which it was typed."""
        if frame_index != self._note_frame:
            self.store_note()
        self._note_frame = frame_index
        self.frame.show_stored(str(frame_index))
        if self._times is not None and frame_index < len(self._times):
            self.time.show_stored(in_time_code(self._times[frame_index]))
        self.note.show_stored(note)

    def show_note_count(self, count: int) -> None:
        """Show how many notes the video has."""
        self.list_button.setText(counted(count, "note") if count else "Notes")

    def show_annotator(self, name: str | None) -> None:
        """Show who corrects; None asks for the name."""
        self._annotator = name
        self.name_button.setText(name or "Your name…")
        for widget in (self.name, self.no_name):
            widget.setVisible(name is None)
        self.name_button.setVisible(name is not None)
        self.name.setText(name or "")

    def store_note(self) -> None:
        """Store the note if a person changed it."""
        if self.note.isModified():
            self.note.setModified(False)
            self.note_written.emit(self._note_frame, self.note.text())

    def _on_frame(self) -> None:
        text = self.frame.text().replace(",", "").strip()
        if text.isdecimal() and int(text) < self._frame_count:
            self._go_to(int(text), self.frame)
        else:
            self.frame.refuse(f'This video has the frames 0 to {self._frame_count - 1:,}; got "{text}". Enter one of them.')

    def _on_time(self) -> None:
        try:
            seconds = from_time_code(self.time.text())
        except VideoError as error:
            self.time.refuse(str(error))
            return
        assert self._times is not None
        last = float(self._times[-1])
        if seconds > last + LAST_FRAME_SECONDS:
            self.time.refuse(
                f"The last frame is at {in_time_code(last)}; got {in_time_code(seconds)}. Enter an earlier time."
            )
        else:
            self._go_to(frame_at(self._times, seconds), self.time)

    def _go_to(self, frame_index: int, field: BarField) -> None:
        field.setModified(False)
        field.revert()
        self.frame_asked.emit(frame_index)
        field.leave()

    def _edit_name(self) -> None:
        for widget in (self.name, self.no_name):
            widget.show()
        self.name_button.hide()
        self.name.selectAll()
        self.name.setFocus()

    def _on_name(self) -> None:
        if self.name.isModified() and self.name.text().strip():
            self.name.setModified(False)
            self.annotator_named.emit(self.name.text().strip())
        else:
            self.show_annotator(self._annotator)

    def _on_no_name(self) -> None:
        self.name.setModified(False)
        self.annotator_named.emit("")

    def _build(self) -> None:
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.frame = BarField("Go to a frame: enter its number (key Shift+G)")
        self.time = BarField("Go to a time: h:mm:ss.ff, m:ss or seconds")
        self.note = BarField("A note on this frame", "Note on this frame")
        self.name = BarField(NAME_HELP, ASK_NAME)
        self.of, self.time_title = QLabel(), QLabel("Time")
        self.list_button, self.name_button, self.no_name = QToolButton(), QToolButton(), QToolButton()
        self.list_button.setToolTip("List all notes of this video")
        self.name_button.setToolTip(NAME_HELP)
        self.no_name.setText("×")
        self.no_name.setToolTip("Work without a name")
        self.frame.setFixedWidth(62)
        self.time.setFixedWidth(84)
        self.name.setFixedWidth(176)
        for field in (self.frame, self.time, self.note, self.name):
            field.setFixedHeight(HEIGHT)
        row = QHBoxLayout(self)
        row.setContentsMargins(6, 0, 6, 0)
        row.setSpacing(5)
        for title in ((frame_title := QLabel("Frame")), self.of, self.time_title):
            title.setStyleSheet(SMALL_STYLE)
        for button in (self.list_button, self.name_button, self.no_name):
            button.setStyleSheet(FLAT_STYLE)
            button.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # the canvas keeps the keyboard
        for widget in (frame_title, self.frame, self.of, self.time_title, self.time):
            row.addWidget(widget)
        row.addSpacing(6)
        row.addWidget(self.note, 1)
        for widget in (self.list_button, self.name, self.no_name, self.name_button):
            row.addWidget(widget)
