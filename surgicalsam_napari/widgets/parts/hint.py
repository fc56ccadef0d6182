"""A hint that can be dismissed, with a button for what to do next."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFrame, QHBoxLayout, QPushButton, QToolButton, QVBoxLayout

from surgicalsam_napari.widgets.parts.message import CLOSE_STYLE, NOTICE, STRIPES, STYLE
from surgicalsam_napari.widgets.parts.parts import SPACING, caption


class Hint(QFrame):
    """Shown while it is due, until the user dismisses it in this window."""

    next_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("message")
        self.setStyleSheet(STYLE.format(color=STRIPES[NOTICE]))
        self.text, self.next_button, self.close_button = caption(""), QPushButton(""), QToolButton()
        self.text.setWordWrap(True)
        self.next_button.clicked.connect(self.next_requested)
        self.close_button.setText("×")
        self.close_button.setToolTip("Do not show this again in this window")
        self.close_button.setStyleSheet(CLOSE_STYLE)
        self.close_button.clicked.connect(self.dismiss)
        self._is_dismissed = False
        column = QVBoxLayout()
        column.setSpacing(SPACING)
        column.addWidget(self.text)
        column.addWidget(self.next_button, 0, Qt.AlignmentFlag.AlignLeft)
        row = QHBoxLayout(self)
        row.setContentsMargins(8, 6, 4, 6)
        row.setSpacing(SPACING)
        row.addLayout(column, 1)
        row.addWidget(self.close_button, 0, Qt.AlignmentFlag.AlignTop)
        self.hide()

    def show_due(self, text: str, next_step: str) -> None:
        """Show the text and a button with this title, unless the hint was dismissed."""
        self.text.setText(text)
        self.next_button.setText(next_step)
        self.setVisible(not self._is_dismissed)

    def dismiss(self) -> None:
        """Hide it for good."""
        self._is_dismissed = True
        self.hide()
