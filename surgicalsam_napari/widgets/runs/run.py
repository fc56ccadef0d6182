"""The driver of all long work: start, progress with the time left, cancel, result, error."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from surgicalsam_napari.widgets.runs.background import run_reports_in_background

UNBLOCK_MS = 200


class Run(QObject):
    """Runs one generator at a time in another thread; all signals are emitted in the GUI thread.

    The generator yields reports. Those with `done` and `total` give the time left. After a cancel, the generator is
    closed in its own thread before `finished`: an import is rolled back by then.

    Signals
    -------
    started : the work has started
    reported : the report; reports before a cancel or an error stay valid
    failed : the Exception, just before `finished`
    finished : always last, once per start; whether the generator reached its end

    Attributes
    ----------
    last_report : None before the first report
    seconds_left : estimated time to the end; None before the first report that has `done` and `total`
    result : what the generator returned at its end; None while it runs, and if it failed or was cancelled
    error : why it failed
    is_complete : whether the last run reached its end
    unblock : lets work that waits for something fail; called again and again after a cancel until the run ends
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
        self.unblock: Callable[[], None] = lambda: None
        self._unblocking = QTimer(self, interval=UNBLOCK_MS)
        self._unblocking.timeout.connect(lambda: self.unblock())
        self._worker: Any = None
        self._stop = threading.Event()
        self._started_at = 0.0
        self._part: type | None = None

    @property
    def is_running(self) -> bool:
        """Whether the generator is not yet closed."""
        return self._worker is not None

    @property
    def is_cancelled(self) -> bool:
        """Whether the run, or the last one, was cancelled before it failed or reached its end."""
        return self._stop.is_set() and self.error is None and not self.is_complete

    def start(self, make_reports: Callable[[], Iterator[Any]]) -> bool:
        """Run the generator of `make_reports`; return False and do nothing while another one runs.

        Parameters
        ----------
        make_reports : called in the worker thread
        """
        if self.is_running:
            return False
        self.last_report = self.seconds_left = self.result = self.error = None
        self.is_complete = False
        self._stop.clear()
        self._started_at, self._part = time.monotonic(), None
        self._worker = run_reports_in_background(
            lambda: self._until_cancelled(make_reports), self._on_report, self._on_failed, self._on_finished
        )
        self.started.emit()
        return True

    def cancel(self) -> None:
        """Stop after the current report; without a run, do nothing."""
        if self.is_running:
            self._stop.set()
            self.unblock()
            self._unblocking.start()

    @property
    def _is_stopping(self) -> bool:
        """Whether the run was cancelled or the program is ending; for any thread."""
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
        """Seconds left, from the speed so far; None for a report without `done` and `total`.

        A report of another type is the first one of another part of the work, which has a speed of its own.
        """
        if type(report) is not self._part and self._part is not None:
            self._started_at = time.monotonic()
        self._part = type(report)
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
        self._unblocking.stop()
        self.finished.emit(self.is_complete)
