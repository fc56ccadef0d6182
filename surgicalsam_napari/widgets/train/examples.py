"""Example validation frames: corrected, before and after the training; one at a time, larger on a click."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QMouseEvent, QPainter, QPaintEvent, QPixmap
from qtpy.QtWidgets import QDialog, QHBoxLayout, QLabel, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from surgicalsam_napari.widgets.parts.parts import SPACING, ElidedLabel, note
from surgicalsam_napari.widgets.parts.theme import DIM, set_look

TITLES = ("corrected", "before", "after")  # the three parts of each picture, from left to right
LARGE = QSize(1440, 620)
ARROW_STYLE = "QToolButton { border: none; background: transparent; padding: 3px; }"


class Picture(QWidget):
    """A picture that fills the available width; clicking it emits `clicked`."""

    clicked = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._pixmap = QPixmap()
        policy = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)

    def show_file(self, path: Path) -> None:
        """Show this picture; show nothing if the file cannot be read."""
        self._pixmap = QPixmap(str(path))
        self.updateGeometry()
        self.update()

    def hasHeightForWidth(self) -> bool:
        return True

    def heightForWidth(self, width: int) -> int:
        return 40 if self._pixmap.isNull() else round(width * self._pixmap.height() / self._pixmap.width())

    def sizeHint(self) -> QSize:
        return QSize(self.width(), self.heightForWidth(self.width()))

    def paintEvent(self, event: QPaintEvent) -> None:
        if not self._pixmap.isNull():
            # in screen pixels, so that it is sharp on a scaled display
            target = self.size() * self.devicePixelRatioF()
            scaled = self._pixmap.scaled(
                target, Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
            )
            scaled.setDevicePixelRatio(self.devicePixelRatioF())
            QPainter(self).drawPixmap(0, 0, scaled)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            self.clicked.emit()


class TrainingExamples(QWidget):
    """The pictures of a result, one at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.paths: list[Path] = []
        self.index = 0
        self.picture, self.place, self.large = Picture(), note(), LargePicture(self)
        self.picture.setCursor(Qt.CursorShape.PointingHandCursor)
        self.picture.setToolTip("Click to see it larger")
        self.previous_button, self.next_button = _arrow(Qt.ArrowType.LeftArrow), _arrow(Qt.ArrowType.RightArrow)
        titles = QHBoxLayout()
        for title in TITLES:
            label = note(title)
            label.setAlignment(Qt.AlignmentFlag.AlignHCenter)
            titles.addWidget(label, 1)
        row = QHBoxLayout()
        row.setSpacing(SPACING)
        row.addStretch(1)
        for widget in (self.previous_button, self.place, self.next_button):
            row.addWidget(widget)
        row.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addLayout(titles)
        column.addWidget(self.picture)
        column.addLayout(row)
        self.place.setWordWrap(False)
        self.picture.clicked.connect(self._open_large)
        self.previous_button.clicked.connect(lambda _checked: self.turn(-1))
        self.next_button.clicked.connect(lambda _checked: self.turn(1))

    def show_examples(self, paths: Sequence[Path]) -> None:
        """Show these pictures; hide the widget if there are none."""
        self.paths, self.index = [path for path in paths if path.is_file()], 0
        self.large.hide()
        self.setVisible(bool(self.paths))
        self.turn(0)

    def turn(self, steps: int) -> None:
        """Move forward by `steps` pictures; the first follows the last."""
        if not self.paths:
            return
        self.index = (self.index + steps) % len(self.paths)
        path = self.paths[self.index]
        self.picture.show_file(path)
        self.place.setText(f"{self.index + 1} of {len(self.paths)}")
        self.place.setToolTip(path.stem)
        for arrow in (self.previous_button, self.next_button):
            arrow.setEnabled(len(self.paths) > 1)
        if self.large.isVisible():
            self.large.show_file(path)

    def _open_large(self) -> None:
        self.large.show_file(self.paths[self.index])
        self.large.show()
        self.large.raise_()


class LargePicture(QDialog):
    """One example in a large window; the arrow keys show the others."""

    def __init__(self, examples: TrainingExamples) -> None:
        super().__init__(examples)
        self._examples = examples
        self.picture = Picture()
        self.name, hint = ElidedLabel(), QLabel("← and → show the others")
        set_look(hint, tone=DIM)
        row = QHBoxLayout()
        row.addWidget(self.name, 1)
        row.addWidget(hint)
        column = QVBoxLayout(self)
        column.addWidget(self.picture)
        column.addLayout(row)
        column.addStretch(1)

    def show_file(self, path: Path) -> None:
        """Show this picture, in a window that has its shape and fits on the screen."""
        self.picture.show_file(path)
        self.setWindowTitle(f"Validation frame {self._examples.index + 1} of {len(self._examples.paths)}")
        self.name.setText(path.stem)
        screen = self.screen()
        width = min(LARGE.width(), int(0.9 * screen.availableSize().width()) if screen is not None else LARGE.width())
        self.resize(width, self.picture.heightForWidth(width - 20) + 60)

    def keyPressEvent(self, event: object) -> None:
        steps = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1}.get(event.key())  # type: ignore[attr-defined]
        if steps is None:
            super().keyPressEvent(event)
        else:
            self._examples.turn(steps)


def _arrow(direction: Qt.ArrowType) -> QToolButton:
    button = QToolButton()
    button.setArrowType(direction)
    button.setStyleSheet(ARROW_STYLE)
    return button
