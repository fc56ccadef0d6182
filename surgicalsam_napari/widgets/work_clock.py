"""How long somebody has worked on the frame in view, for the project's work log."""

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

IDLE_SECONDS = 30.0  # a longer pause is no work
LOOK_MS = 1000


class WorkClock(QObject):
    """Adds up the time between signs of a person at work: the mouse, a change of the frame or of its labels.

    A pause of more than `IDLE_SECONDS` counts for nothing; so does time in other programs.

    Parameters
    ----------
    now : seconds of a clock that runs evenly
    """

    def __init__(
        self, layers: ViewerLayers, parent: QObject | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(parent)
        self.layers, self._now = layers, now
        self._project: Project | None = None
        self._frame = 0
        self._seconds = 0.0
        self._last_sign = now()
        self._cursor = QCursor.pos()
        self._timer = QTimer(self, interval=LOOK_MS)
        self._timer.timeout.connect(self._look_for_the_mouse)

    def subscribe(self, signals: SessionSignals, changes: LabelChanges) -> None:
        """Count for the open project; a person who changes the frame or its labels is at work."""
        signals.project_changed.connect(lambda: self.follow(signals.session.project))
        changes.frames_changed.connect(lambda _frames: self.note_activity())
        self.layers.viewer.dims.events.current_step.connect(self._on_frame)

    def follow(self, project: Project | None) -> None:
        """Count for this project from now on; what was counted for the one before is noted."""
        self.stop()
        if project is not None and project.writable:
            self._project, self._frame = project, self.layers.current_frame
            self._last_sign = self._now()
            self._timer.start()

    def note_activity(self) -> None:
        """The person has done something in the frame in view."""
        now = self._now()
        if now - self._last_sign <= IDLE_SECONDS:
            self._seconds += now - self._last_sign
        self._last_sign = now
        if self._frame != self.layers.current_frame:
            self._write()
            self._frame = self.layers.current_frame

    def stop(self) -> None:
        """Note what was counted, and count no more."""
        self._timer.stop()
        self._write()
        self._project = None

    def _on_frame(self, _event: Any = None) -> None:
        self.note_activity()

    def _write(self) -> None:
        seconds, self._seconds = self._seconds, 0.0
        if self._project is not None and seconds > 0:
            self._project.work_log.note_view(self._frame, seconds)

    def _look_for_the_mouse(self) -> None:
        cursor = QCursor.pos()
        if cursor != self._cursor and QApplication.activeWindow() is not None:
            self.note_activity()
        self._cursor = cursor
