"""Parts that the sections of the Correct tab share: why they are disabled, and the progress of their runs."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLabel

from surgicalsam_napari.editing import EditOutcome
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.session import Session
from surgicalsam_napari.widgets.parts.message import clear_message, show_failure
from surgicalsam_napari.widgets.parts.parts import caption
from surgicalsam_napari.widgets.parts.progress_strip import ProgressStrip
from surgicalsam_napari.widgets.runs.run import Run
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers

LABELS_ARE_BUSY = "Another correction is running."


def why_not_editable(session: Session) -> str | None:
    """Why labels cannot be corrected now, as text for the user; None if they can."""
    project = session.project
    if project is None:
        return "Open a video first."
    if not project.writable:
        owner = session.other_owner
        if owner is None:
            return "Read-only: this project's folder is not writable."
        return f"Read-only: {owner.user} on {owner.host} has this project open."
    if session.selected_class_id is None:
        return "Choose a class first."
    return None


def selected_class_name(session: Session) -> str:
    """The name of the selected class; "the class" if none is selected."""
    if session.selected_class_id is None:
        return "the class"
    return session.classes.by_id(session.selected_class_id).name


def frames_caption() -> QLabel:
    """The caption to the left of a `FrameScope`, for a cell aligned to the top."""
    label = caption("Frames")
    label.setContentsMargins(0, 5, 0, 0)  # in line with the dropdown, not with the fields below it
    return label


def show_text(label: Any, text: str) -> None:
    """Set the text of a label; an empty label is hidden."""
    label.setText(text)
    label.setVisible(bool(text))


class ActionStrip(ProgressStrip):
    """Starts the runs of one section on the shared `Run` and shows only those; hidden otherwise."""

    reported = Signal(object)
    finished = Signal(object)  # the generator's return value; None if it failed or was cancelled

    def __init__(self, run: Run, layers: ViewerLayers) -> None:
        super().__init__()
        self.run, self.layers = run, layers
        self.done = 0  # frames reported by the last run
        self._is_mine = False
        self._steps_per_frame = 1
        self.cancelled.connect(self._on_cancel)
        run.reported.connect(self._on_report)
        run.failed.connect(self._on_failed)
        run.finished.connect(self._on_finished)
        self.hide()

    @property
    def is_mine(self) -> bool:
        """Whether this section started the current run."""
        return self._is_mine

    def start(self, title: str, reports: Callable[[], Generator[Any, None, Any]], *, steps_per_frame: int = 1) -> bool:
        """Start a run if none is active; returns whether it started.

        Parameters
        ----------
        steps_per_frame : how often its reports count a frame
        """
        if self.run.is_running:
            return False
        self._is_mine, self.done, self._steps_per_frame = True, 0, steps_per_frame
        clear_message(self)
        self.show_start(f"{title}…")
        self.show()
        self._is_mine = self.run.start(reports)
        self.setVisible(self._is_mine)
        return self._is_mine

    def _on_report(self, report: Any) -> None:
        if self._is_mine:
            self.done = report.done // self._steps_per_frame
            self.show_progress(self.done, report.total // self._steps_per_frame, self.run.seconds_left)
            if (frame_index := getattr(report, "frame_index", None)) is not None:  # a check changes no single frame
                self.layers.refresh_frame(frame_index)
            self.reported.emit(report)

    def _on_cancel(self) -> None:
        self.show_stopping()
        self.run.cancel()

    def _on_failed(self, error: Exception) -> None:
        if self._is_mine:
            show_failure(error, self)

    def _on_finished(self, _is_complete: bool) -> None:
        if self._is_mine:
            self._is_mine = False
            self.hide()
            self.finished.emit(self.run.result)


def outcome_text(outcome: EditOutcome | None, done: int) -> str:
    """The result of an edit, as text for the user.

    Parameters
    ----------
    outcome : None if the edit was cancelled, or failed and an error was shown
    done : frames reported until then
    """
    if outcome is None:
        return f"Stopped after {counted(done, 'frame')}. Undo takes back what was done." if done else ""
    text = f"{counted(len(outcome.changed), 'frame')} changed" if outcome.changed else "Nothing changed"
    if outcome.locked:
        text += f", {counted(len(outcome.locked), 'verified frame')} kept"
    lost = " and ".join(f"frame {frame_index}" for frame_index in sorted(outcome.lost))
    return f"{text}. The region was lost at {lost}." if lost else f"{text}."
