"""Small Qt widgets that the panels share: headings, dim notes, elided text, the primary button, colour swatches."""

from __future__ import annotations

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPaintEvent, QPixmap
from qtpy.QtWidgets import QGridLayout, QLabel, QProgressBar, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from surgicalsam_napari.widgets.parts.message import Message

SPACING = 6
CAPTION_WIDTH = 82
ACCENT, LINK_COLOR = "#2f6fde", "#6ea0f5"
BAR_STYLE = f"QProgressBar::chunk {{ background-color: {ACCENT}; border-radius: 2px; }}"
PRIMARY_STYLE = """
QPushButton { background-color: #2f6fde; color: white; font-weight: bold; padding: 7px; border-radius: 3px; }
QPushButton:hover { background-color: #4580e8; }
QPushButton:pressed { background-color: #2559b4; }
QPushButton:disabled { background-color: rgba(127, 127, 127, 60); color: rgba(160, 160, 160, 160); }
"""


class Panel(QWidget):
    """A titled block of the dock: a heading, then a column to which subclasses add.

    Attributes
    ----------
    title : its name for users
    message : what went wrong here, below the heading; a subclass may add it elsewhere in the column
    """

    def __init__(self, title: str) -> None:
        super().__init__()
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(0, 0, 0, 0)
        self.column.setSpacing(SPACING)
        self.heading = QLabel(title)
        self.heading.setStyleSheet("font-weight: bold; font-size: 11pt; padding: 0px; margin: 0px;")
        self.title, self.message = title, Message()
        self.column.addWidget(self.heading)
        self.column.addWidget(self.message)

    def add_grid(self) -> QGridLayout:
        """A grid whose first column holds captions of one width in every panel."""
        grid = QGridLayout()
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(SPACING)
        grid.setVerticalSpacing(SPACING)
        grid.setColumnMinimumWidth(0, CAPTION_WIDTH)
        grid.setColumnStretch(1, 1)
        self.column.addLayout(grid)
        return grid


class ElidedLabel(QLabel):
    """One line of text, shortened with an ellipsis if it does not fit; the tooltip shows the full text."""

    def __init__(self, text: str = "", mode: Qt.TextElideMode = Qt.TextElideMode.ElideMiddle) -> None:
        super().__init__(text)
        self._mode = mode
        self.setStyleSheet("padding: 0px; margin: 0px;")
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)

    def minimumSizeHint(self) -> QSize:
        return QSize(20, super().minimumSizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        shown = self.fontMetrics().elidedText(self.text(), self._mode, self.width())
        painter = QPainter(self)
        painter.setPen(self.palette().windowText().color())
        painter.drawText(self.rect(), int(self.alignment() | Qt.AlignmentFlag.AlignVCenter), shown)


def note(text: str = "") -> QLabel:
    """A wrapped line of small grey text."""
    label = QLabel(text)
    label.setWordWrap(True)
    label.setStyleSheet("color: #7f8591; font-size: 9pt; padding: 0px; margin: 0px;")
    return label


def caption(text: str) -> QLabel:
    """The label to the left of a field."""
    label = QLabel(text)
    label.setStyleSheet("padding: 0px; margin: 0px;")
    return label


def thin_bar() -> QProgressBar:
    """A progress bar without a number; the text beside it says more."""
    bar = QProgressBar()
    bar.setTextVisible(False)
    bar.setFixedHeight(8)
    bar.setStyleSheet(BAR_STYLE)
    return bar


def primary_button(text: str) -> QPushButton:
    """The main button of a panel."""
    button = QPushButton(text)
    button.setStyleSheet(PRIMARY_STYLE)
    return button


def swatch(color: str, *, hollow: bool = False, side: int = 14) -> QIcon:
    """A square of this colour; hollow for a class that the model does not know."""
    pixmap = QPixmap(side, side)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setPen(QColor(color))
    painter.setBrush(Qt.BrushStyle.NoBrush if hollow else QColor(color))
    painter.drawRoundedRect(1, 1, side - 3, side - 3, 2, 2)
    painter.end()
    return QIcon(pixmap)
