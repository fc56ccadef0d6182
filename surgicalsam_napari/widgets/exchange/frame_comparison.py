"""One frame of the video before and after an import, in the import dialog."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from qtpy.QtCore import QRectF, QSize, Qt
from qtpy.QtGui import QImage, QPainter, QPaintEvent
from qtpy.QtWidgets import QHBoxLayout, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from surgicalsam_napari.exchange.import_plan import ImportPlan
from surgicalsam_napari.exchange.import_preview import FramePreview, frames_with_labels, preview_frame
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.store import Project
from surgicalsam_napari.widgets.parts.parts import SPACING, caption, note
from surgicalsam_napari.widgets.runs.background import run_in_background

LARGEST = 800  # pixels; larger frames are thinned out
OPACITY = 0.55  # of the labels over the frame
PICTURE = QSize(400, 225)


class Picture(QWidget):
    """A picture as large as the widget allows, with its shape kept."""

    def __init__(self) -> None:
        super().__init__()
        self._image = QImage()
        self.setMinimumSize(PICTURE)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def show_pixels(self, pixels: np.ndarray | None) -> None:
        """Show (H, W, 3) uint8, or nothing."""
        if pixels is None:
            self._image = QImage()
        else:
            height, width = pixels.shape[:2]
            content = np.ascontiguousarray(pixels).tobytes()
            self._image = QImage(content, width, height, 3 * width, QImage.Format.Format_RGB888).copy()
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        if self._image.isNull():
            return
        scale = min(self.width() / self._image.width(), self.height() / self._image.height())
        width, height = scale * self._image.width(), scale * self._image.height()
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.drawImage(QRectF(0, 0, width, height), self._image)


class FrameComparison(QWidget):
    """The frame before and after; arrows show the other frames of the plan."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = Picture(), Picture()
        self.place, self.kept = caption(""), note()
        self.previous_button, self.next_button = _arrow(Qt.ArrowType.LeftArrow), _arrow(Qt.ArrowType.RightArrow)
        self.previous_button.setToolTip("The frame before")
        self.next_button.setToolTip("The next frame")
        self._project: Project | None = None
        self._plan: ImportPlan | None = None
        self._frames: list[int] = []
        self._position = 0
        self._loading: object | None = None  # identifies the latest request; results of earlier ones are ignored
        self._build()
        self.clear()

    def clear(self) -> None:
        """Show nothing."""
        self._plan, self._frames, self._loading = None, [], None
        for picture in (self.before, self.after):
            picture.show_pixels(None)
        self.setVisible(False)

    def show_plan(self, project: Project, plan: ImportPlan) -> None:
        """Show the frame with the most classes, or the frame in view of the plan before."""
        earlier = self._frames[self._position] if self._frames else None
        self._project, self._plan = project, plan
        self._frames = sorted(index for _, index in plan.frames)
        if not self._frames:
            self.clear()
            return
        first = earlier if earlier in self._frames else next(frames_with_labels(plan))
        self._position = self._frames.index(first)
        self.setVisible(True)
        self.turn(0)

    def turn(self, steps: int) -> None:
        """Move forward by some frames; the first follows the last."""
        project, plan = self._project, self._plan
        if project is None or plan is None:
            return
        self._position = (self._position + steps) % len(self._frames)
        index = self._frames[self._position]
        self.place.setText(f"Frame {index} ({self._position + 1} of {len(self._frames)})")
        for arrow in (self.previous_button, self.next_button):
            arrow.setEnabled(len(self._frames) > 1)
        loading = self._loading = object()
        run_in_background(
            lambda: (np.asarray(project.video[index]), preview_frame(project, plan, index)),
            lambda loaded: self._show(loading, *loaded),
            lambda error: self._show_error(loading, error),
        )

    def _build(self) -> None:
        row = QHBoxLayout()
        row.setSpacing(SPACING)
        for widget in (self.previous_button, self.place, self.next_button):
            row.addWidget(widget)
        row.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACING)
        column.addLayout(row)
        for title, picture in (("Before", self.before), ("After the import", self.after)):
            column.addWidget(note(title))
            column.addWidget(picture, 1)
        column.addWidget(self.kept)
        self.previous_button.clicked.connect(lambda _checked: self.turn(-1))
        self.next_button.clicked.connect(lambda _checked: self.turn(1))

    def _show(self, loading: object, image: np.ndarray, preview: FramePreview) -> None:
        if self._loading is not loading or self._plan is None or self._project is None:
            return
        colors = {c.id: c.rgb for c in (*self._project.classes, *self._plan.new_classes)}
        step = max(1, -(-max(image.shape[:2]) // LARGEST))
        for picture, labels in ((self.before, preview.before), (self.after, preview.after)):
            picture.show_pixels(overlaid(image[::step, ::step], labels[::step, ::step], colors))
        kept = preview.kept_pixels
        self.kept.setText(f"{counted(kept, 'pixel')} of yours will not change." if kept else "")

    def _show_error(self, loading: object, error: Exception) -> None:
        if self._loading is loading:
            for picture in (self.before, self.after):
                picture.show_pixels(None)
            self.kept.setText(str(error))


def overlaid(image: np.ndarray, labels: np.ndarray, colors: Mapping[int, tuple[int, int, int]]) -> np.ndarray:
    """Labels (H, W) in their colours over an image (H, W, 3) uint8."""
    table = np.zeros((256, 3), np.float32)
    for class_id, color in colors.items():
        table[class_id] = color
    blended = (1 - OPACITY) * image + OPACITY * table[labels]
    return np.where(labels[..., None] > 0, blended, image).astype(np.uint8)


def _arrow(direction: Qt.ArrowType) -> QToolButton:
    button = QToolButton()
    button.setArrowType(direction)
    return button
