"""A panel that folds to its heading; folded, one line of text says what is in it."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QFrame, QHBoxLayout, QToolButton, QVBoxLayout, QWidget

from surgicalsam_napari.widgets.parts.parts import CAPTION_WIDTH, SPACING, ElidedLabel, Panel
from surgicalsam_napari.widgets.parts.theme import FOLD, set_look


class Collapsible(QWidget):
    """A heading with an arrow above a panel; a click on it, or on the summary beside it, folds or opens the panel.

    superqt's `QCollapsible` fixes the height of its content when it expands, and so cuts off wrapped notes. Here the layout
    sets the height.

    Parameters
    ----------
    has_line : draw a line above the heading
    """

    toggled = Signal(bool)

    def __init__(self, panel: Panel, *, is_open: bool = False, has_line: bool = True) -> None:
        super().__init__()
        self.panel = panel
        panel.heading.hide()
        self.header = QToolButton()
        self.header.setText(" " + panel.heading.text())
        self.header.setCheckable(True)
        self.header.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        set_look(self.header, role=FOLD)
        self.header.setChecked(is_open)
        self.header.toggled.connect(self._on_toggled)
        self.header.setMinimumWidth(CAPTION_WIDTH)
        self._summary = ""
        self.summary = _Summary(mode=Qt.TextElideMode.ElideRight)
        self.summary.clicked.connect(self.header.click)
        self._row = QHBoxLayout()
        self._row.setSpacing(SPACING)
        self._row.addWidget(self.header)
        self._row.addWidget(self.summary, 1)
        line = QFrame()
        line.setFixedHeight(1)
        line.setStyleSheet("background-color: rgba(127, 127, 127, 70);")
        line.setVisible(has_line)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACING)
        column.addWidget(line)
        column.addLayout(self._row)
        column.addWidget(panel)
        self._show(is_open)

    @property
    def title(self) -> str:
        """The heading, without its arrow."""
        return self.panel.heading.text()

    @property
    def is_open(self) -> bool:
        return self.header.isChecked()

    def add_mark(self, mark: QWidget) -> None:
        """Show a mark at the end of the heading, also while the panel is folded."""
        self._row.addWidget(mark)

    def open(self) -> None:
        """Show the panel."""
        self.header.setChecked(True)

    def fold(self) -> None:
        """Show only the heading and the summary."""
        self.header.setChecked(False)

    def summarize(self, text: str) -> None:
        """What the heading says while the panel is folded."""
        self._summary = text
        self._show(self.is_open)

    def show_child(self, _child: QWidget) -> None:
        """Expand, so that a widget in the panel can be seen."""
        self.open()

    def _on_toggled(self, is_open: bool) -> None:
        self._show(is_open)
        self.toggled.emit(is_open)

    def _show(self, is_open: bool) -> None:
        self.header.setArrowType(Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow)
        self.panel.setVisible(is_open)
        self.summary.setText("" if is_open else self._summary)
        self.summary.setToolTip(self.summary.text())


class _Summary(ElidedLabel):
    clicked = Signal()

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton and self.rect().contains(event.position().toPoint()):
            self.clicked.emit()
