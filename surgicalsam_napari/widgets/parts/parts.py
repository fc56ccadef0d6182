"""Small Qt widgets that the panels share: panels, dim notes, elided text, the primary button, colour swatches."""

from __future__ import annotations

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPaintEvent, QPixmap
from qtpy.QtWidgets import (
    QComboBox,
    QFrame,
    QGridLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from surgicalsam_napari.widgets.parts.message import Message
from surgicalsam_napari.widgets.parts.theme import ACCENT, CAPTION, DIM, HEADING, NOTE, PRIMARY, set_look

SPACING = 6
CAPTION_WIDTH = 76
SHORTEST_ENTRY = 10  # letters
SMALLEST_BODY = 120  # height in pixels of what scrolls in a tab; below it, the whole dock scrolls
BAR_STYLE = f"QProgressBar::chunk {{ background-color: {ACCENT}; border-radius: 2px; }}"


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
        set_look(self.heading, role=HEADING)
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


class TaskPanel(Panel):
    """The panel of a tab: its column scrolls, and what is added to `head` and `foot` is always in view."""

    def __init__(self, title: str) -> None:
        super().__init__(title)
        self.head, self.foot = _column(), _column()
        body = QWidget()
        self.scroll = _Body(body)
        self.column.addLayout(self.head)
        self.column.addWidget(self.scroll, 1)
        self.column.addLayout(self.foot)
        around = QVBoxLayout(body)
        around.setContentsMargins(0, 0, 0, 0)
        self.column = _column()
        around.addLayout(self.column)
        around.addStretch(1)

    def reveal(self, widget: QWidget) -> None:
        """Scroll until a part of the column is in view."""
        self.scroll.ensureWidgetVisible(widget)


def _column() -> QVBoxLayout:
    column = QVBoxLayout()
    column.setContentsMargins(0, 0, 0, 0)
    column.setSpacing(SPACING)
    return column


class _Body(QScrollArea):
    """Scrolls a widget, which has the width of the area if it can."""

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self.setWidget(content)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setMinimumHeight(SMALLEST_BODY)

    def sizeHint(self) -> QSize:
        return QSize(super().sizeHint().width(), SMALLEST_BODY)  # it takes what the dock has left


class RoomyLabel(QLabel):
    """Wrapped text that always takes the room of the longest text it may show, so that nothing below it moves."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        self.setStyleSheet("padding: 0px; margin: 0px;")
        self._sample = QLabel(self)  # is never shown: only its height counts
        self._sample.setWordWrap(True)
        self._sample.setStyleSheet("padding: 0px; margin: 0px;")
        self._sample.hide()
        policy = QSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)  # a full panel must not squeeze it
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        self._longest = ""

    def make_room(self, longest: str) -> None:
        """Take the room of this text at any width."""
        if longest != self._longest:
            self._longest = longest
            self.updateGeometry()

    def heightForWidth(self, width: int) -> int:
        self._sample.setText(self._longest or " ")
        return max(self._sample.heightForWidth(width), super().heightForWidth(width))


class ElidedLabel(QLabel):
    """One line of text, shortened with an ellipsis if it does not fit; the tooltip shows the full text."""

    def __init__(self, text: str = "", mode: Qt.TextElideMode = Qt.TextElideMode.ElideMiddle) -> None:
        super().__init__(text)
        self._mode = mode
        set_look(self, role=CAPTION)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)

    def minimumSizeHint(self) -> QSize:
        return QSize(20, super().minimumSizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        shown = self.fontMetrics().elidedText(self.text(), self._mode, self.width())
        painter = QPainter(self)
        painter.setPen(self.palette().windowText().color())
        painter.drawText(self.rect(), int(self.alignment() | Qt.AlignmentFlag.AlignVCenter), shown)


def note(text: str = "") -> QLabel:
    """A wrapped line of small, dim text."""
    label = QLabel(text)
    label.setWordWrap(True)
    set_look(label, role=NOTE, tone=DIM)
    return label


def caption(text: str) -> QLabel:
    """The label to the left of a field."""
    label = QLabel(text)
    set_look(label, role=CAPTION)
    return label


def let_shrink(dropdown: QComboBox) -> None:
    """Let a dropdown be narrower than its longest entry."""
    dropdown.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    dropdown.setMinimumContentsLength(SHORTEST_ENTRY)


class ThinBar(QProgressBar):
    """A progress bar that is painted together with the other changes; Qt would paint the whole window at once for it."""

    def setValue(self, value: int) -> None:
        self.setUpdatesEnabled(False)
        super().setValue(value)
        self.setUpdatesEnabled(True)


def thin_bar() -> ThinBar:
    """A progress bar without a number; the text beside it says more."""
    bar = ThinBar()
    bar.setTextVisible(False)
    bar.setFixedHeight(8)
    bar.setStyleSheet(BAR_STYLE)
    return bar


def primary_button(text: str) -> QPushButton:
    """The main button of a panel."""
    button = QPushButton(text)
    set_look(button, role=PRIMARY)
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
