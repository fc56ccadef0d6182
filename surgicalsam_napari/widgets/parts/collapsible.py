"""A section of a panel that can be collapsed."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFrame, QToolButton, QVBoxLayout, QWidget

from surgicalsam_napari.widgets.parts.parts import SPACING, Panel

HEADER_STYLE = """
QToolButton { background: transparent; border: none; font-weight: bold; padding: 3px 0px; margin: 0px; text-align: left; }
QToolButton:hover { color: #6ea0f5; }
"""


class Collapsible(QWidget):
    """A heading with an arrow above a panel; a click on it collapses or expands the panel.

    superqt's `QCollapsible` fixes the height of its content when it expands, and so cuts off wrapped notes. Here the layout
    sets the height.
    """

    toggled = Signal(bool)

    def __init__(self, panel: Panel, *, is_open: bool = False) -> None:
        super().__init__()
        self.panel = panel
        panel.heading.hide()
        self.header = QToolButton()
        self.header.setText(" " + panel.heading.text())
        self.header.setCheckable(True)
        self.header.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.header.setStyleSheet(HEADER_STYLE)
        self.header.setChecked(is_open)
        self.header.toggled.connect(self._on_toggled)
        line = QFrame()
        line.setFixedHeight(1)
        line.setStyleSheet("background-color: rgba(127, 127, 127, 70);")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACING)
        for widget in (line, self.header, panel):
            column.addWidget(widget)
        self._show(is_open)

    @property
    def title(self) -> str:
        """The heading, without its arrow."""
        return self.panel.heading.text()

    @property
    def is_open(self) -> bool:
        return self.header.isChecked()

    def open(self) -> None:
        """Expand the section."""
        self.header.setChecked(True)

    def _on_toggled(self, is_open: bool) -> None:
        self._show(is_open)
        self.toggled.emit(is_open)

    def _show(self, is_open: bool) -> None:
        self.header.setArrowType(Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow)
        self.panel.setVisible(is_open)
