"""The expected IoU of each class after *Learn*: a row with a bar per class."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QVBoxLayout, QWidget

from surgicalsam_napari.formatting import counted
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.widgets.parts.parts import ElidedLabel, note
from surgicalsam_napari.widgets.train.scores import (
    FIGURE_STYLE,
    WHAT_OVERLAP_IS,
    Bar,
    class_color,
    figure_label,
    with_swatch,
)

TITLE = "Overlap to expect, %: tested on your {frames}, half of them left out in turn"
NAME, IOU, BAR = range(3)


class ExpectedIou(QWidget):
    """Hidden if there is nothing to show."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, str] = {}  # the figure, by the name of the class
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self.title = note()
        self.title.setToolTip(f"Expected IoU. {WHAT_OVERLAP_IS}")
        self._column.addWidget(self.title)
        self._table = QWidget()
        self.hide()

    def show_iou(self, iou: dict[str, float], frame_count: int, classes: ClassSet) -> None:
        """Show these figures, in percent by class name; a class of `classes` has its colour beside its name.

        Parameters
        ----------
        frame_count : number of corrected frames that the figures rest on
        """
        self.title.setText(TITLE.format(frames=counted(frame_count, "corrected frame")))
        self._table.deleteLater()  # a QGridLayout never removes rows
        self._table = QWidget()
        self._column.addWidget(self._table)
        grid = QGridLayout(self._table)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(5)
        grid.setColumnStretch(NAME, 3)
        grid.setColumnStretch(BAR, 2)
        self.rows = {name: f"{value:.0f}" for name, value in iou.items()}
        for row, (name, value) in enumerate(iou.items()):
            label = ElidedLabel(name, Qt.TextElideMode.ElideRight)
            label.setToolTip(name)
            label.setStyleSheet(FIGURE_STYLE)
            grid.addWidget(with_swatch(label, class_color(name, classes)), row, NAME)
            grid.addWidget(figure_label(self.rows[name]), row, IOU)
            grid.addWidget(Bar(value, value), row, BAR, Qt.AlignmentFlag.AlignVCenter)
        self.setVisible(bool(iou))
