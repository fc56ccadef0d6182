"""Shows why a training failed, and which checkpoint was kept."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QPlainTextEdit, QPushButton

from surgicalsam_napari.widgets.parts.parts import SPACING, Panel, note, primary_button
from surgicalsam_napari.widgets.parts.theme import BAD, set_look

FAILED, STOPPED = "The training failed", "The training was stopped"
LOG_HEIGHT = 170
_SELECTABLE = Qt.TextInteractionFlag.TextSelectableByMouse
LOG_STYLE = "font-family: monospace; font-size: 8pt;"


class TrainingFailure(Panel):
    """The reason in one line, the last lines of the log to read and copy, and buttons for the next step."""

    resume_requested = Signal()
    use_requested = Signal()
    closed = Signal()

    def __init__(self) -> None:
        super().__init__(FAILED)
        self.reason, self.kept, self.log = note(), note(), QPlainTextEdit()
        self.reason.setTextInteractionFlags(self.reason.textInteractionFlags() | _SELECTABLE)
        self.log.setReadOnly(True)
        self.log.setStyleSheet(LOG_STYLE)
        self.log.setFixedHeight(LOG_HEIGHT)
        self.log.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.resume, self.use, self.close_it = primary_button("Resume"), QPushButton("Use best so far"), QPushButton("Back")
        self.resume.setToolTip("Start the process again; it resumes where it stopped")
        self.resume.clicked.connect(self.resume_requested)
        self.use.clicked.connect(self.use_requested)
        self.close_it.clicked.connect(self.closed)
        row = QHBoxLayout()
        row.setSpacing(SPACING)
        for button in (self.resume, self.use, self.close_it):
            row.addWidget(button, 1)
        for widget in (self.reason, self.log, self.kept):
            self.column.addWidget(widget)
        self.column.addLayout(row)

    def show_error(self, error: Exception, *, is_cancelled: bool, folder: Path, best: Path | None, can_resume: bool) -> None:
        """Show what happened.

        Parameters
        ----------
        error : its first line is the reason, its other lines are the end of the log
        is_cancelled : whether the user stopped it
        folder : of the run
        best : the checkpoint that was kept, None if there is none
        can_resume : whether the run can be resumed
        """
        reason, *log = str(error).strip().splitlines() or [type(error).__name__]
        self.heading.setText(STOPPED if is_cancelled else FAILED)
        set_look(self.heading, tone=None if is_cancelled else BAD)
        self.reason.setText(reason)
        self.log.setPlainText("\n".join(log))
        self.log.setVisible(bool(log))
        self.log.verticalScrollBar().setValue(self.log.verticalScrollBar().maximum())
        kept = "No model was made." if best is None else f"Kept: {best.name}, the best model so far."
        self.kept.setText(f"{kept} Your corrections did not change. The run is in {folder.parent.name}/{folder.name}.")
        self.kept.setToolTip(str(folder))
        self.resume.setVisible(can_resume)
        self.use.setVisible(best is not None)
