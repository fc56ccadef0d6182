"""A timer in the GUI thread that shows for how long a window does not respond; it imports nothing of the plugin."""

from __future__ import annotations

import time

import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

BEAT_MS = 10


class Heartbeat:
    """Collects the gaps between beats, in milliseconds."""

    def __init__(self) -> None:
        self.gaps: list[float] = []
        self._last = time.perf_counter()
        self._timer = QTimer(interval=BEAT_MS)
        self._timer.timeout.connect(self._beat)
        self._timer.start()

    def take(self) -> np.ndarray:
        """The gaps since the last call."""
        gaps, self.gaps = np.array(self.gaps or [0.0]), []
        return gaps

    def _beat(self) -> None:
        now = time.perf_counter()
        self.gaps.append(1000 * (now - self._last))
        self._last = now


def live(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        QApplication.processEvents()
        time.sleep(0.001)
