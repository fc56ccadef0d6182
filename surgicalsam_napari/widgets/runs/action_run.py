"""Work on many frames that is one action of the project's history, in the background: one at a time."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from qtpy.QtCore import QObject, Signal

from surgicalsam_napari.widgets.runs.background import run_reports_in_background, show_failure


class ActionRun(QObject):
    """Drives a generator of reports (each with `frame_index`, `done`, `total`) that edit or undo."""

    started = Signal(str)  # the title, in a user's words
    reported = Signal(object)
    finished = Signal(object)  # what the generator returned; None where it failed or was cancelled

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._worker: Any = None
        self._result: Any = None

    @property
    def is_running(self) -> bool:
        return self._worker is not None

    def start(self, title: str, start: Callable[[], Generator[Any, None, Any]]) -> bool:
        """Begin, unless something is running; an error is shown, and what was reported up to then stays done."""
        if self.is_running:
            return False
        self._result = None

        def kept() -> Generator[Any, None, None]:
            self._result = yield from start()

        self._worker = run_reports_in_background(kept, self.reported.emit, show_failure, self._on_finished)
        self.started.emit(title)
        return True

    def cancel(self) -> None:
        """Stop after the frame in work."""
        if self._worker is not None:
            self._worker.quit()

    def _on_finished(self) -> None:
        self._worker = None
        result, self._result = self._result, None
        self.finished.emit(result)
