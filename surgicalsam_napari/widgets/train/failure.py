"""Why a training ended without a result, and what was kept."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QPlainTextEdit, QPushButton

from surgicalsam_napari.widgets.parts.parts import SPACING, Panel, note, primary_button
from surgicalsam_napari.widgets.train.parts import BAD_COLOR

DIED, STOPPED = "The training ended before it was done", "The training was stopped"
LOG_HEIGHT = 170
_SELECTABLE = Qt.TextInteractionFlag.TextSelectableByMouse
LOG_STYLE = "font-family: monospace; font-size: 8pt;"


class TrainingFailure(Panel):
    """The reason in a line, the last lines of the log to read and to copy, and how to go on."""

    go_on_requested = Signal()
    use_requested = Signal()
    closed = Signal()

    def __init__(self) -> None:
        super().__init__(DIED)
        self.reason, self.kept, self.log = note(), note(), QPlainTextEdit()
        self.reason.setTextInteractionFlags(self.reason.textInteractionFlags() | _SELECTABLE)
        self.log.setReadOnly(True)
        self.log.setStyleSheet(LOG_STYLE)
        self.log.setFixedHeight(LOG_HEIGHT)
        self.log.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.go_on, self.use, self.close_it = primary_button("Go on"), QPushButton("Use what was kept"), QPushButton("Back")
        self.go_on.setToolTip("Start the process again; it goes on where it was")
        self.go_on.clicked.connect(self.go_on_requested)
        self.use.clicked.connect(self.use_requested)
        self.close_it.clicked.connect(self.closed)
        row = QHBoxLayout()
        row.setSpacing(SPACING)
        for button in (self.go_on, self.use, self.close_it):
            row.addWidget(button, 1)
        for widget in (self.reason, self.log, self.kept):
            self.column.addWidget(widget)
        self.column.addLayout(row)

    def show_error(self, error: Exception, *, is_cancelled: bool, folder: Path, best: Path | None, can_go_on: bool) -> None:
        """Say what happened.

        Parameters
        ----------
        error : its first line is the reason, the others are the last ones of the log
        is_cancelled : whether the user asked it to stop
        folder : of the run
        best : the checkpoint that was kept, None if there is none
        can_go_on : whether the run can be taken up again
        """
        reason, *log = str(error).strip().splitlines() or [type(error).__name__]
        self.heading.setText(STOPPED if is_cancelled else DIED)
        self.heading.setStyleSheet(heading_style(None if is_cancelled else BAD_COLOR))
        self.reason.setText(reason)
        self.log.setPlainText("\n".join(log))
        self.log.setVisible(bool(log))
        self.log.verticalScrollBar().setValue(self.log.verticalScrollBar().maximum())
        kept = "No checkpoint was made." if best is None else f"Kept: {best.name}, the best checkpoint up to then."
        self.kept.setText(f"{kept} Your corrections are as they were. The run lies in {folder.parent.name}/{folder.name}.")
        self.kept.setToolTip(str(folder))
        self.go_on.setVisible(can_go_on)
        self.use.setVisible(best is not None)


def heading_style(color: str | None) -> str:
    """Of a panel's heading in this colour; None for that of text."""
    return "font-weight: bold; font-size: 11pt; padding: 0px; margin: 0px;" + (f" color: {color};" if color else "")
