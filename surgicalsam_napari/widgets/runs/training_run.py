"""One training at a time, in a process of its own, told of in this thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from qtpy.QtCore import QObject, Signal

from surgicalsam_napari.errors import SurgicalSAMError
from surgicalsam_napari.widgets.runs.background import run_reports_in_background, show_failure
from surgicalsam_training.reports import EpochReport, Report, ResultReport
from surgicalsam_training.run.run_folder import RunFolder

Train = Callable[[RunFolder], Iterator[Report]]


def train_in_process(folder: RunFolder) -> Iterator[Report]:
    """The training backend's own, imported when it is wanted."""
    from surgicalsam_training.launch import train_in_process

    return train_in_process(folder)


class TrainingRun(QObject):
    """Drives the generator that trains; after `started` come reports, then `ended` once.

    Attributes
    ----------
    folder : of the run going on, or of the last one
    result : its end; None while it goes on, and if it failed
    error : why it failed
    best_challenge_iou : the best so far, in percent
    """

    started = Signal()
    reported = Signal(object)  # Report
    ended = Signal()

    def __init__(self, train: Train = train_in_process, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._train = train
        self._worker: Any = None
        self.folder: RunFolder | None = None
        self.result: ResultReport | None = None
        self.error: Exception | None = None
        self.best_challenge_iou: float | None = None
        self.is_cancelled = False

    @property
    def is_running(self) -> bool:
        return self._worker is not None

    def start(self, folder: RunFolder) -> None:
        """Train in this folder."""
        assert not self.is_running
        self.folder, self.result, self.error, self.best_challenge_iou = folder, None, None, None
        self.is_cancelled = False
        train = self._train
        self._worker = run_reports_in_background(lambda: train(folder), self._on_report, self._on_failed, self._on_finished)
        self.started.emit()

    def cancel(self) -> None:
        """Ask the process to stop after the step it is in; it keeps the best so far, and still reports its result."""
        if self.is_running and self.folder is not None and not self.is_cancelled:
            self.is_cancelled = True
            try:
                self.folder.request_stop()
            except SurgicalSAMError as error:
                show_failure(error)
                self._worker.quit()  # closes the generator, which stops the process as well

    def _on_report(self, report: Report) -> None:
        if isinstance(report, ResultReport):
            self.result = report
        elif isinstance(report, EpochReport):
            self.best_challenge_iou = report.best_challenge_iou
        self.reported.emit(report)

    def _on_failed(self, error: Exception) -> None:
        self.error = error

    def _on_finished(self) -> None:
        self._worker = None
        if self.result is None and self.error is None and self.folder is not None:
            self.result = self.folder.result()
        self.ended.emit()
