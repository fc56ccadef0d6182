"""One export, check or import in the background, with the time left; stops when told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any

from qtpy.QtCore import QObject, Signal

from surgicalsam_napari.widgets.runs.background import run_reports_in_background


class ExchangeRun(QObject):
    """At most one at a time; of the reports it only needs `done` and `total`.

    Attributes
    ----------
    last_report : what was reported last; None before the first report
    result : what the generator returned at its end
    seconds_left : estimate to the end
    """

    started = Signal()
    reported = Signal(object)
    failed = Signal(object)  # Exception
    finished = Signal(bool)  # whether every frame was done; comes last in every case

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.last_report: Any = None
        self.result: Any = None
        self.seconds_left: float | None = None
        self._worker: Any = None
        self._stop = threading.Event()
        self._started_at = 0.0
        self._has_failed = self._is_complete = False

    @property
    def is_running(self) -> bool:
        return self._worker is not None

    @property
    def is_cancelled(self) -> bool:
        """Whether the run, or the last one, was told to stop before it failed or was done."""
        return self._stop.is_set() and not self._has_failed and not self._is_complete

    def start(self, reports: Callable[[], Generator[Any, None, Any]]) -> None:
        """Drive the generator that `reports` makes."""
        if self.is_running:
            return
        self.last_report = self.result = self.seconds_left = None
        self._has_failed = self._is_complete = False
        self._stop.clear()
        self._started_at = time.monotonic()
        self._worker = run_reports_in_background(
            lambda: self._until_cancelled(reports), self._on_report, self._on_failed, self._on_finished
        )
        self.started.emit()

    def cancel(self) -> None:
        """Stop after the frame in work."""
        self._stop.set()

    def _until_cancelled(self, reports: Callable[[], Generator[Any, None, Any]]) -> Iterator[Any]:
        """In the worker thread. Not by the worker's own `quit`: an import must have been rolled back when this ends."""
        with closing(reports()) as generator:
            while True:
                try:
                    report = next(generator)
                except StopIteration as end:
                    self.result, self._is_complete = end.value, True
                    return
                yield report
                if self._stop.is_set():
                    return

    def _on_report(self, report: Any) -> None:
        self.last_report = report
        self.seconds_left = (time.monotonic() - self._started_at) / report.done * (report.total - report.done)
        self.reported.emit(report)

    def _on_failed(self, error: Exception) -> None:
        self._has_failed = True
        self.failed.emit(error)

    def _on_finished(self) -> None:
        self._worker = None
        self.finished.emit(self._is_complete)
