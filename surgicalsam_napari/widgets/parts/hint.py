"""A dim hint that can be dismissed."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QToolButton, QWidget

from surgicalsam_napari.widgets.parts.parts import SPACING, note

CLOSE_STYLE = """
QToolButton { border: none; background: transparent; padding: 0px; }
QToolButton:hover { background: rgba(127, 127, 127, 80); border-radius: 2px; }
"""


class Hint(QWidget):
    """Shown while it is due, until the user dismisses it in this window."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.close_button = note(text), QToolButton()
        self.close_button.setText("×")
        self.close_button.setToolTip("Do not show this again in this window")
        self.close_button.setStyleSheet(CLOSE_STYLE)
        self.close_button.clicked.connect(self.dismiss)
        self._is_dismissed = False
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(SPACING)
        row.addWidget(self.text, 1)
        row.addWidget(self.close_button, 0, Qt.AlignmentFlag.AlignTop)
        self.hide()

    def set_due(self, is_due: bool) -> None:
        """Show the hint if it is due and was not dismissed; else hide it."""
        self.setVisible(is_due and not self._is_dismissed)

    def dismiss(self) -> None:
        """Hide it for good."""
        self._is_dismissed = True
        self.hide()
