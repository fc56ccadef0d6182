"""One training at a time, in a separate process."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from qtpy.QtCore import QObject

from surgicalsam_napari.errors import SurgicalSAMError
from surgicalsam_napari.widgets.parts.message import show_failure
from surgicalsam_napari.widgets.runs.run import Run
from surgicalsam_training.reports import Report, ResultReport
from surgicalsam_training.run.run_folder import RunFolder

Train = Callable[[RunFolder], Iterator[Report]]


def train_in_process(folder: RunFolder) -> Iterator[Report]:
    """The function of the training package, imported only when needed."""
    from surgicalsam_training.launch import train_in_process

    return train_in_process(folder)


class TrainingRun(Run):
    """A run whose cancel asks the process to stop: it keeps the best checkpoint so far and still reports its result.

    Attributes
    ----------
    folder : of the current or last run
    result : its ResultReport; None while it runs, and if it failed
    is_stop_requested : whether the user asked the current or last run to stop
    """

    def __init__(self, train: Train = train_in_process, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._train = train
        self.folder: RunFolder | None = None
        self.is_stop_requested = False

    def train(self, folder: RunFolder) -> None:
        """Train in this folder."""
        assert not self.is_running
        self.folder, self.is_stop_requested = folder, False
        train = self._train
        self.start(lambda: train(folder))

    def cancel(self) -> None:
        """Ask the process to stop after its current step."""
        if self.is_running and self.folder is not None and not self.is_stop_requested:
            self.is_stop_requested = True
            try:
                self.folder.request_stop()
            except SurgicalSAMError as error:
                show_failure(error, self)
                super().cancel()  # closes the generator, which stops the process as well

    def _on_finished(self) -> None:
        self.result = self.last_report if isinstance(self.last_report, ResultReport) else None
        if self.result is None and self.error is None and self.folder is not None:
            self.result = self.folder.result()
        super()._on_finished()
