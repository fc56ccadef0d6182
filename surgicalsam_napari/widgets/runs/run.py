"""The one driver of long work: start, progress with the time left, cancel, result, failure."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

from qtpy.QtCore import QObject, Signal

from surgicalsam_napari.widgets.runs.background import run_reports_in_background


class Run(QObject):
    """Drives one generator at a time in another thread; all signals come in the GUI thread.

    The generator yields reports. Those with `done` and `total` give the time left. When it is cancelled, it is closed in
    its own thread before `finished` comes: an import is rolled back by then.

    Signals
    -------
    started : the work has begun
    reported : of each report; what was reported before a cancel or a failure stays reported
    failed : of the Exception, just before `finished`
    finished : last in every case, once per start; whether the generator came to its end

    Attributes
    ----------
    last_report : None before the first report
    seconds_left : estimate to the end; None before the first report that has `done` and `total`
    result : what the generator returned at its end; None while it runs, and if it failed or was cancelled
    error : why it failed
    is_complete : whether the last run came to its end
    """

    started = Signal()
    reported = Signal(object)
    failed = Signal(object)
    finished = Signal(bool)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.last_report: Any = None
        self.seconds_left: float | None = None
        self.result: Any = None
        self.error: Exception | None = None
        self.is_complete = False
        self._worker: Any = None
        self._stop = threading.Event()
        self._started_at = 0.0

    @property
    def is_running(self) -> bool:
        """Whether the generator is not yet closed."""
        return self._worker is not None

    @property
    def is_cancelled(self) -> bool:
        """Whether the run, or the last one, was cancelled before it failed or came to its end."""
        return self._stop.is_set() and self.error is None and not self.is_complete

    def start(self, make_reports: Callable[[], Iterator[Any]]) -> bool:
        """Drive the generator that `make_reports` makes; False, and nothing happens, while another one runs.

        Parameters
        ----------
        make_reports : called in the worker thread
        """
        if self.is_running:
            return False
        self.last_report = self.seconds_left = self.result = self.error = None
        self.is_complete = False
        self._stop.clear()
        self._started_at = time.monotonic()
        self._worker = run_reports_in_background(
            lambda: self._until_cancelled(make_reports), self._on_report, self._on_failed, self._on_finished
        )
        self.started.emit()
        return True

    def cancel(self) -> None:
        """Stop after the report in work; nothing happens if nothing runs."""
        if self.is_running:
            self._stop.set()

    @property
    def _is_stopping(self) -> bool:
        """Whether the run was cancelled, or the program ends; in any thread."""
        return self._stop.is_set() or (self._worker is not None and self._worker.abort_requested)

    def _until_cancelled(self, make_reports: Callable[[], Iterator[Any]]) -> Iterator[Any]:
        """In the worker thread; the worker's own `quit` would leave the generator open when the run ends."""
        reports = make_reports()
        try:
            while not self._stop.is_set():
                try:
                    report = next(reports)
                except StopIteration as end:
                    self.result, self.is_complete = end.value, True
                    return
                yield report
        finally:
            if isinstance(reports, Generator):
                reports.close()

    def _time_left(self, report: Any) -> float | None:
        """Seconds, from the time that the run took up to now; None for a report that does not count."""
        done, total = getattr(report, "done", 0), getattr(report, "total", 0)
        return (time.monotonic() - self._started_at) / done * (total - done) if done else None

    def _on_report(self, report: Any) -> None:
        self.last_report, self.seconds_left = report, self._time_left(report)
        self.reported.emit(report)

    def _on_failed(self, error: Exception) -> None:
        self.error = error
        self.failed.emit(error)

    def _on_finished(self) -> None:
        self._worker = None
        self.finished.emit(self.is_complete)
