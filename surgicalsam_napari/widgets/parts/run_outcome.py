"""The line that a run ends with, and a button for what comes next."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from surgicalsam_napari.widgets.parts.parts import SPACING, caption


class RunOutcome(QWidget):
    """What a run did, as a text that can be selected; hidden without a text. The button is hidden without a title."""

    next_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.line, self.button = caption(""), QPushButton("")
        self.line.setWordWrap(True)
        self.line.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.button.clicked.connect(self.next_requested)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(SPACING)
        row.addWidget(self.line, 1)
        row.addWidget(self.button, 0, Qt.AlignmentFlag.AlignTop)
        self.hide()

    def text(self) -> str:
        return self.line.text()

    def show_text(self, text: str, next_step: str = "", tooltip: str = "") -> None:
        """Show the line.

        Parameters
        ----------
        next_step, tooltip : of the button
        """
        self.line.setText(text)
        self.button.setText(next_step)
        self.button.setToolTip(tooltip)
        self.button.setVisible(bool(next_step))
        self.setVisible(bool(text))
