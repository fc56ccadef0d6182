"""What the tools that correct labels share: why they cannot be used now, and the progress of their own runs."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLabel

from surgicalsam_napari.editing import EditOutcome
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.session import Session
from surgicalsam_napari.widgets.parts.parts import caption
from surgicalsam_napari.widgets.parts.progress_strip import ProgressStrip
from surgicalsam_napari.widgets.runs.background import show_failure
from surgicalsam_napari.widgets.runs.run import Run
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers

LABELS_ARE_BUSY = "Another correction is running."


def why_not_editable(session: Session) -> str | None:
    """What keeps a person from correcting labels, in their words; None if nothing does."""
    project = session.project
    if project is None:
        return "Open a video first."
    if not project.writable:
        owner = session.other_owner
        if owner is None:
            return "Read-only: the project's folder cannot be written to."
        return f"Read-only: {owner.user} on {owner.host} has this project open."
    if session.selected_class_id is None:
        return "Choose a class first."
    return None


def selected_class_name(session: Session) -> str:
    """The name of the chosen class; "the class" while none is chosen."""
    if session.selected_class_id is None:
        return "the class"
    return session.classes.by_id(session.selected_class_id).name


def frames_caption() -> QLabel:
    """What stands left of a `FrameScope`, in a cell aligned to the top."""
    label = caption("Frames")
    label.setContentsMargins(0, 5, 0, 0)  # level with the dropdown, not with the fields below it
    return label


def show_text(label: Any, text: str) -> None:
    """Put a text into a note, which takes no room while it is empty."""
    label.setText(text)
    label.setVisible(bool(text))


class ActionStrip(ProgressStrip):
    """Starts runs of one section on the shared `Run`, and shows those runs only; hidden while there is none."""

    reported = Signal(object)
    finished = Signal(object)  # what the generator returned; None where it failed or was cancelled

    def __init__(self, run: Run, layers: ViewerLayers) -> None:
        super().__init__()
        self.run, self.layers = run, layers
        self.done = 0  # frames reported by the last run
        self._is_mine = False
        self.cancelled.connect(self._on_cancel)
        run.reported.connect(self._on_report)
        run.failed.connect(self._on_failed)
        run.finished.connect(self._on_finished)
        self.hide()

    @property
    def is_mine(self) -> bool:
        """Whether the run that goes on was started here."""
        return self._is_mine

    def start(self, title: str, reports: Callable[[], Generator[Any, None, Any]]) -> bool:
        """Begin, unless something is running; whether it has begun."""
        if self.run.is_running:
            return False
        self._is_mine, self.done = True, 0
        self.show_start(f"{title}…")
        self.show()
        self._is_mine = self.run.start(reports)
        self.setVisible(self._is_mine)
        return self._is_mine

    def _on_report(self, report: Any) -> None:
        if self._is_mine:
            self.done = report.done
            self.show_progress(report.done, report.total, self.run.seconds_left)
            self.layers.refresh_frame(report.frame_index)
            self.reported.emit(report)

    def _on_cancel(self) -> None:
        self.show_stopping()
        self.run.cancel()

    def _on_failed(self, error: Exception) -> None:
        if self._is_mine:
            show_failure(error)

    def _on_finished(self, _is_complete: bool) -> None:
        if self._is_mine:
            self._is_mine = False
            self.hide()
            self.finished.emit(self.run.result)


def outcome_text(outcome: EditOutcome | None, done: int) -> str:
    """What an edit of frames came to, in a user's words.

    Parameters
    ----------
    outcome : None where it was cancelled, or failed and an error was shown
    done : frames reported up to then
    """
    if outcome is None:
        return f"Stopped after {counted(done, 'frame')}." if done else ""
    said = f"{counted(len(outcome.changed), 'frame')} changed" if outcome.changed else "Nothing changed"
    if outcome.locked:
        said += f", {counted(len(outcome.locked), 'verified frame')} left alone"
    lost = " and ".join(f"frame {frame_index}" for frame_index in sorted(outcome.lost))
    return f"{said}. The region is lost at {lost}." if lost else f"{said}."
