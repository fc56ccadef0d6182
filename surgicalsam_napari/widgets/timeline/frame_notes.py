"""Connects the line above the timeline to the viewer and the open project: frame, time, notes, annotator."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from surgicalsam_napari.errors import SurgicalSAMError
from surgicalsam_napari.preferences import remembered_annotator
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project
from surgicalsam_napari.store.notes import Note
from surgicalsam_napari.widgets.parts.message import show_failure
from surgicalsam_napari.widgets.timeline.notes_dialog import NotesDialog
from surgicalsam_napari.widgets.timeline.widget import Timeline
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers
from surgicalsam_napari.widgets.viewer.session_signals import SessionSignals

FRAME_KEY, NOTE_KEY = "Shift+G", "I"


class FrameNotes(QObject):
    """Shows the frame in view and the notes of the open project in the timeline, and stores what a person writes."""

    _changed_in_thread = Signal()

    def __init__(self, session: Session, layers: ViewerLayers, timeline: Timeline, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.session, self.layers, self.timeline, self.bar = session, layers, timeline, timeline.bar
        self.dialog: NotesDialog | None = None
        self._project: Project | None = None
        self._times: np.ndarray | None = None
        self._notes: dict[int, Note] = {}
        self.bar.frame_asked.connect(layers.show_frame)
        self.bar.note_written.connect(self._write)
        self.bar.notes_asked.connect(self.list_notes)
        self.bar.annotator_named.connect(self._on_annotator_named)
        self._changed_in_thread.connect(self._read)
        layers.viewer.dims.events.current_step.connect(self._show_frame)
        self._keys: list[str] = []
        for key, field in ((FRAME_KEY, self.bar.frame), (NOTE_KEY, self.bar.note)):
            with suppress(ValueError):  # already bound
                layers.viewer.bind_key(key, lambda _viewer, field=field: self._type_into(field))
                self._keys.append(key)

    def subscribe(self, signals: SessionSignals) -> None:
        """Follow the open project."""
        signals.project_changed.connect(lambda: self.follow(signals.session.project))

    def follow(self, project: Project | None) -> None:
        """Show the frame and the notes of this project from now on."""
        if self._project is not None:
            self.bar.store_note()
            self._project.notes.changed.disconnect(self._on_changed)
        self._project, self._times, self._notes = project, None, {}
        if project is None:
            self.bar.show_video(0, None, False)
        else:
            self._times = project.video.frame_times()
            project.notes.changed.connect(self._on_changed)
            self.bar.show_video(len(project.labels), self._times, project.writable)
        self.bar.show_annotator(self.session.annotator or remembered_annotator())
        self._read()

    def list_notes(self) -> None:
        """Open the list of notes."""
        self.bar.store_note()
        if self.dialog is None:
            self.dialog = NotesDialog(self.timeline)
            self.dialog.frame_asked.connect(self.layers.show_frame)
            self.dialog.removal_asked.connect(lambda frame_index: self._write(frame_index, ""))
        self._list()
        self.dialog.show()
        self.dialog.raise_()

    def release(self) -> None:
        """Remove the keys and the dialog."""
        self.bar.store_note()
        for key in self._keys:
            self.layers.viewer.bind_key(key, None)
        self._keys = []
        if self.dialog is not None:
            self.dialog.close()

    def _type_into(self, field: Any) -> None:
        if self.bar.isEnabled():
            field.setFocus()
            field.selectAll()

    def _show_frame(self, _event: Any = None) -> None:
        if self._project is not None:
            frame_index = self.layers.current_frame
            note = self._notes.get(frame_index)
            self.bar.show_frame(frame_index, "" if note is None else note.text)

    def _on_changed(self) -> None:
        with suppress(RuntimeError):  # the window was closed
            self._changed_in_thread.emit()

    def _read(self) -> None:
        try:
            self._notes = {} if self._project is None else {note.frame: note for note in self._project.notes.entries()}
        except SurgicalSAMError as error:
            show_failure(error, self)
        self.timeline.set_frame_notes({frame: note.text for frame, note in self._notes.items()})
        self.bar.show_note_count(len(self._notes))
        self._show_frame()
        if self.dialog is not None:
            self._list()

    def _list(self) -> None:
        assert self.dialog is not None
        self.dialog.show_notes(self._project, list(self._notes.values()), self._times)

    def _write(self, frame_index: int, text: str) -> None:
        if self._project is not None:
            try:
                self._project.notes.write(frame_index, text, self.session.annotator)
            except SurgicalSAMError as error:
                show_failure(error, self)

    def _on_annotator_named(self, name: str) -> None:
        self.session.name_annotator(name)
        self.bar.show_annotator(name)
