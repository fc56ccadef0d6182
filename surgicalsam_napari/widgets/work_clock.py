"""Measure how long a person works on the frame in view, for the project's work log."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, QTimer
from qtpy.QtGui import QCursor
from qtpy.QtWidgets import QApplication

from surgicalsam_napari.store import Project
from surgicalsam_napari.widgets.viewer.label_changes import LabelChanges
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers
from surgicalsam_napari.widgets.viewer.session_signals import SessionSignals

IDLE_SECONDS = 30.0  # a longer pause does not count
MOUSE_CHECK_MS = 1000


class WorkClock(QObject):
    """Adds up the time between a person's actions: mouse moves, and changes of the frame or its labels.

    Pauses of more than `IDLE_SECONDS` and time in other programs do not count.

    Parameters
    ----------
    now : a monotonic clock, in seconds
    """

    def __init__(
        self, layers: ViewerLayers, parent: QObject | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(parent)
        self.layers, self._now = layers, now
        self._project: Project | None = None
        self._frame = 0
        self._seconds = 0.0
        self._last_activity = now()
        self._cursor = QCursor.pos()
        self._timer = QTimer(self, interval=MOUSE_CHECK_MS)
        self._timer.timeout.connect(self._check_mouse)

    def subscribe(self, signals: SessionSignals, changes: LabelChanges) -> None:
        """Count for the open project; a change of the frame or its labels counts as an action."""
        signals.project_changed.connect(lambda: self.follow(signals.session.project))
        changes.frames_changed.connect(lambda _frames: self.note_activity())
        self.layers.viewer.dims.events.current_step.connect(self._on_frame)

    def follow(self, project: Project | None) -> None:
        """Count for this project from now on; log the time of the previous one first."""
        self.stop()
        if project is not None and project.writable:
            self._project, self._frame = project, self.layers.current_frame
            self._last_activity = self._now()
            self._timer.start()

    def note_activity(self) -> None:
        """Record that the person did something in the frame in view."""
        if self.layers.session.project is not self._project:
            return  # the layers already show the next project
        now = self._now()
        if now - self._last_activity <= IDLE_SECONDS:
            self._seconds += now - self._last_activity
        self._last_activity = now
        if self._frame != self.layers.current_frame:
            self._write()
            self._frame = self.layers.current_frame

    def stop(self) -> None:
        """Log the counted time, also if it is none: the project opens at this frame again. Stop counting."""
        self._timer.stop()
        seconds, self._seconds = self._seconds, 0.0
        if self._project is not None:
            self._project.work_log.note_view(self._frame, seconds)
        self._project = None

    def _on_frame(self, _event: Any = None) -> None:
        self.note_activity()

    def _write(self) -> None:
        seconds, self._seconds = self._seconds, 0.0
        if self._project is not None and seconds > 0:
            self._project.work_log.note_view(self._frame, seconds)

    def _check_mouse(self) -> None:
        cursor = QCursor.pos()
        if cursor != self._cursor and QApplication.activeWindow() is not None:
            self.note_activity()
        self._cursor = cursor
