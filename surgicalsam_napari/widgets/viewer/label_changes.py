"""Qt signals in the GUI thread for changes of the open project's labels, written in any thread."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from surgicalsam_napari.store import Project
from surgicalsam_napari.widgets.viewer.session_signals import SessionSignals

GATHER_MS = 40  # writes within this time are reported in one signal


class LabelChanges(QObject):
    """Relays the signals of one project's labels, tracks and history."""

    frames_changed = Signal(object)  # set of frame indices
    numbers_changed = Signal(object)  # set of frame indices with other numbers of instances
    tracks_changed = Signal()  # another table of tracks
    refused = Signal(int)  # frame index: an edit of verified labels was refused
    outside = Signal(int, bool)  # frame index, whether some pixels were inside: a part was painted outside its instrument
    edit_failed = Signal(str)  # why an edit by a person could not be written
    unreadable = Signal(str)  # why a frame is shown as empty
    history_changed = Signal()
    _due = Signal()
    _refused_in_thread = Signal(int)
    _outside_in_thread = Signal(int, bool)
    _history_in_thread = Signal()
    _failed_in_thread = Signal(str)
    _unreadable_in_thread = Signal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._project: Project | None = None
        self._lock = threading.Lock()
        self._frames: set[int] = set()
        self._numbers: set[int | None] = set()  # None for the table of tracks
        self._timer = QTimer(self, singleShot=True, interval=GATHER_MS)
        self._due.connect(self._timer.start)
        self._timer.timeout.connect(self.emit_now)
        self._refused_in_thread.connect(self.refused)
        self._outside_in_thread.connect(self.outside)
        self._history_in_thread.connect(self.history_changed)
        self._failed_in_thread.connect(self.edit_failed)
        self._unreadable_in_thread.connect(self.unreadable)

    def subscribe(self, signals: SessionSignals) -> None:
        """Follow the open project."""
        signals.project_changed.connect(lambda: self.follow(signals.session.project))

    def follow(self, project: Project | None) -> None:
        """Report only changes of this project from now on."""
        if project is self._project:
            return
        if self._project is not None:
            self._project.labels.changed.disconnect(self._on_changed)
            self._project.labels.refused.disconnect(self._on_refused)
            self._project.labels.outside.disconnect(self._on_outside)
            self._project.labels.edit_failed.disconnect(self._on_edit_failed)
            self._project.labels.unreadable.disconnect(self._on_unreadable)
            self._project.tracks.changed.disconnect(self._on_tracks)
            self._project.history.changed.disconnect(self._on_history)
        self._project = project
        with self._lock:
            self._frames, self._numbers = set(), set()
        if project is not None:
            project.labels.changed.connect(self._on_changed)
            project.labels.refused.connect(self._on_refused)
            project.labels.outside.connect(self._on_outside)
            project.labels.edit_failed.connect(self._on_edit_failed)
            project.labels.unreadable.connect(self._on_unreadable)
            project.tracks.changed.connect(self._on_tracks)
            project.history.changed.connect(self._on_history)

    def emit_now(self) -> None:
        """Report all changes up to now at once, without waiting for more."""
        with self._lock:
            frames, self._frames = self._frames, set()
            numbers, self._numbers = self._numbers, set()
        if frames:
            self.frames_changed.emit(frames)
        if None in numbers:
            self.tracks_changed.emit()
        if numbers - {None}:
            self.numbers_changed.emit(numbers - {None})

    def _on_changed(self, frame_index: int) -> None:
        self._gather(frame_index)

    def _on_tracks(self, frame_index: int | None) -> None:
        self._gather(frame_index, are_numbers=True)

    def _gather(self, frame_index: Any, *, are_numbers: bool = False) -> None:
        with self._lock:
            is_first = not self._frames and not self._numbers
            (self._numbers if are_numbers else self._frames).add(frame_index)
        if is_first:
            with suppress(RuntimeError):  # here and below: the window, and this object with it, was closed
                self._due.emit()

    def _on_refused(self, frame_index: int) -> None:
        with suppress(RuntimeError):
            self._refused_in_thread.emit(frame_index)

    def _on_outside(self, frame_index: int, is_partly_inside: bool) -> None:
        with suppress(RuntimeError):
            self._outside_in_thread.emit(frame_index, is_partly_inside)

    def _on_edit_failed(self, reason: str) -> None:
        with suppress(RuntimeError):
            self._failed_in_thread.emit(reason)

    def _on_unreadable(self, reason: str) -> None:
        with suppress(RuntimeError):
            self._unreadable_in_thread.emit(reason)

    def _on_history(self) -> None:
        with suppress(RuntimeError):
            self._history_in_thread.emit()
