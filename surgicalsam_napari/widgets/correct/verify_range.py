"""Verify or unlock several frames at once, after a question that gives their number."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from surgicalsam_napari.editing import EditOutcome, unlock_frames, verify_frames
from surgicalsam_napari.editing.frame_edits import frames_text
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.store.provenance import is_corrected
from surgicalsam_napari.widgets.correct.section_parts import ActionStrip, show_text
from surgicalsam_napari.widgets.parts.frame_scope import RANGE, WHOLE_VIDEO, FrameScope
from surgicalsam_napari.widgets.parts.message import bring_into_view
from surgicalsam_napari.widgets.parts.parts import SPACING, note
from surgicalsam_napari.widgets.parts.progress_strip import Question
from surgicalsam_napari.widgets.runs.run import Run
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers

Start = Callable[[], Generator[Any, None, EditOutcome]]


class VerifyRange(QWidget):
    """The frames, a button to verify and one to unlock them, the question, progress, and the result."""

    def __init__(self, session: Session, layers: ViewerLayers, run: Run) -> None:
        super().__init__()
        self.session, self.layers, self.run = session, layers, run
        self._project: Project | None = None
        self._start: tuple[str, Start] | None = None  # what the question is about: title and run
        self._past_tense = ""
        self._build()
        self._connect()

    def refresh(self, *, is_free: bool) -> None:
        """Show the open project; `is_free` if its labels can be changed now."""
        project = self.session.project
        if project is not self._project:
            self._project = project
            self._forget()
            show_text(self.outcome, "")
            if project is not None:
                self.scope.set_frame_count(project.video.info.frame_count)
        for button in (self.verify_button, self.unlock_button, self.question.go_on):
            button.setEnabled(is_free)

    def open_at(self, frame_index: int) -> None:
        """Begin with this frame alone; the user extends the range."""
        self.scope.start_range(frame_index)
        self._forget()
        show_text(self.outcome, "")

    def verify(self) -> None:
        """Ask whether to verify every class in the selected frames."""
        if self._project is not None and self.verify_button.isEnabled():
            project, frames = self._project, self._frame_indices()
            due, text = verify_question(project, frames)
            self._ask(due, text, "Verify", "verified", lambda: verify_frames(project, frames))

    def unlock(self) -> None:
        """Ask whether to unlock the selected frames."""
        if self._project is not None and self.unlock_button.isEnabled():
            project, frames = self._project, self._frame_indices()
            due, text = unlock_question(project, frames)
            self._ask(due, text, "Unlock", "unlocked", lambda: unlock_frames(project, frames))

    def _build(self) -> None:
        self.scope = FrameScope((RANGE, WHOLE_VIDEO), lambda: self.layers.current_frame)
        self.verify_button, self.unlock_button = QPushButton("Verify them…"), QPushButton("Unlock them…")
        self.question, self.strip, self.outcome = Question(), ActionStrip(self.run, self.layers), note()
        self.question.hide()
        self.outcome.hide()
        buttons = QHBoxLayout()
        buttons.setSpacing(SPACING)
        buttons.addWidget(self.verify_button, 1)
        buttons.addWidget(self.unlock_button, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACING)
        column.addWidget(self.scope)
        column.addLayout(buttons)
        for widget in (self.question, self.strip, self.outcome):
            column.addWidget(widget)

    def _connect(self) -> None:
        self.verify_button.clicked.connect(self.verify)
        self.unlock_button.clicked.connect(self.unlock)
        self.question.confirmed.connect(self._on_confirmed)
        self.question.declined.connect(self._forget)
        self.scope.changed.connect(self._forget)
        self.strip.finished.connect(self._on_finished)

    def _frame_indices(self) -> range:
        count = 0 if self._project is None else self._project.video.info.frame_count
        return self.scope.frame_indices(self.layers.current_frame, count)

    def _ask(self, due: int, text: str, verb: str, past_tense: str, start: Start) -> None:
        self._forget()
        if not due:
            show_text(self.outcome, text)
            return
        show_text(self.outcome, "")
        self._start, self._past_tense = (f"{verb}ing", start), past_tense
        self.question.put(text, f"{verb} {counted(due, 'frame')}")
        self.question.show()
        QTimer.singleShot(0, self._bring_into_view)  # after the panel has made room for it

    def _bring_into_view(self) -> None:
        bring_into_view(self.question)

    def _forget(self) -> None:
        self._start = None
        self.question.hide()

    def _on_confirmed(self) -> None:
        start = self._start
        self._forget()
        if start is not None:
            self.strip.start(*start)

    def _on_finished(self, outcome: EditOutcome | None) -> None:
        if outcome is None:
            text = f"Stopped after {counted(self.strip.done, 'frame')}."
        else:
            text = f"{counted(len(outcome.changed), 'frame')} {self._past_tense}."
        show_text(self.outcome, text)


def verify_question(project: Project, frame_indices: Sequence[int]) -> tuple[int, str]:
    """The number of frames that are not verified yet, and the question, or why there is none."""
    rows = project.labels.provenance_table()[list(frame_indices)]
    is_due = ~(rows == Provenance.VERIFIED).all(axis=1)
    due, frames = int(np.count_nonzero(is_due)), frames_text(frame_indices)
    if not due:
        return 0, f"Nothing to do: {frames} {_are(frame_indices)} verified."
    unchanged = int(np.count_nonzero(is_due & ~is_corrected(rows)))
    text = f"Verify {frames}: {counted(due, 'frame')} not verified yet"
    if unchanged:
        text += f"; nobody corrected {unchanged:,} of them"
    return due, f"{text}. Nothing can change them until you unlock them."


def unlock_question(project: Project, frame_indices: Sequence[int]) -> tuple[int, str]:
    """The number of frames with verified classes, and the question, or why there is none."""
    rows = project.labels.provenance_table()[list(frame_indices)]
    due, frames = int(np.count_nonzero((rows == Provenance.VERIFIED).any(axis=1))), frames_text(frame_indices)
    if not due:
        return 0, f"Nothing to do: {frames} {_are(frame_indices)} not verified."
    return due, f"Unlock {frames}: {counted(due, 'verified frame')}. Then they can change again."


def _are(frame_indices: Sequence[int]) -> str:
    return "is" if len(frame_indices) == 1 else "are"
