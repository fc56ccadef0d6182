"""Curves of the loss and the validation IoU during a training."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from qtpy.QtCore import QTimer
from qtpy.QtGui import QWheelEvent

from surgicalsam_napari.widgets.parts.theme import ACCENT
from surgicalsam_napari.widgets.train.parts import ThemeColors
from surgicalsam_training.reports import EpochReport

REDRAW_MS = 400
HEIGHT = 230
FONT_SIZE = 7.5
SHORTEST_AXIS = 5  # epochs
EMPTY_AXIS = (0, 100)  # before there is a first point


class TrainingCurves(FigureCanvasQTAgg):
    """Two small plots over the epochs, one above the other; redrawn at most a few times a second, and only if visible."""

    def __init__(self) -> None:
        self.figure = Figure(figsize=(3.6, 2.3))
        super().__init__(self.figure)
        self.setFixedHeight(HEIGHT)
        self.setMinimumWidth(100)
        self._loss_axes, self._iou_axes = self.figure.subplots(2, 1, sharex=True)
        # fixed values: a layout engine would take as long as the drawing
        self.figure.subplots_adjust(left=0.13, right=0.985, top=0.92, bottom=0.15, hspace=0.34)
        (self._loss_line,) = self._loss_axes.plot([], [], color=ACCENT, linewidth=1.5)
        (self._iou_line,) = self._iou_axes.plot([], [], color=ACCENT, linewidth=1.5, marker="o", markersize=3)
        self._loss_axes.set_title("Loss", loc="left")
        self._iou_axes.set_title("Challenge IoU of the validation frames (%)", loc="left")
        self._iou_axes.set_xlabel("epoch")
        self._iou_axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        for axes in (self._loss_axes, self._iou_axes):
            axes.yaxis.set_major_locator(MaxNLocator(4))
        self._timer = QTimer(self, singleShot=True, interval=REDRAW_MS)
        self._timer.timeout.connect(self._redraw)
        self.clear()

    @property
    def losses(self) -> list[tuple[int, float]]:
        """Epoch and total loss of every point drawn."""
        return list(self._losses)

    @property
    def ious(self) -> list[tuple[int, float]]:
        """Epoch and Challenge IoU, in percent, of every point drawn."""
        return list(self._ious)

    def clear(self) -> None:
        """Remove all points."""
        self._losses: list[tuple[int, float]] = []
        self._ious: list[tuple[int, float]] = []
        self._redraw()

    def add(self, report: EpochReport) -> None:
        """Add the points of one epoch."""
        total = report.losses.get("total")
        if total is not None:
            self._losses.append((report.done, total))
        if report.challenge_iou is not None:
            self._ious.append((report.done, report.challenge_iou))
        if not self._timer.isActive():
            self._timer.start()

    def use_colors(self, colors: ThemeColors) -> None:
        """Use the colours of napari's theme."""
        self.figure.set_facecolor(colors.background)
        for axes in (self._loss_axes, self._iou_axes):
            _color_axes(axes, colors)
        self._redraw()

    def wheelEvent(self, event: QWheelEvent) -> None:
        event.ignore()  # scrolls the dock

    def _redraw(self) -> None:
        for line, points in ((self._loss_line, self._losses), (self._iou_line, self._ious)):
            line.set_data([x for x, _ in points], [y for _, y in points])
            axes = line.axes
            assert axes is not None
            axes.relim()
            if points:
                axes.autoscale(axis="y")
            else:
                axes.set_ylim(*EMPTY_AXIS)
        self._iou_axes.set_xlim(0, max(self._losses[-1][0] if self._losses else 0, SHORTEST_AXIS))
        self.draw_idle()


def _color_axes(axes: Axes, colors: ThemeColors) -> None:
    axes.set_facecolor(colors.background)
    axes.title.set_color(colors.text)
    for text in (axes.xaxis.label, axes.yaxis.label):
        text.set_color(colors.text)
        text.set_fontsize(FONT_SIZE)
    for title in (axes.title, axes._left_title):  # type: ignore[attr-defined]  # set by loc="left"
        title.set_color(colors.text)
        title.set_fontsize(FONT_SIZE + 0.5)
    axes.tick_params(colors=colors.text, labelsize=FONT_SIZE, length=2, width=0.6)
    axes.grid(color=colors.line, linewidth=0.5, alpha=0.5)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(colors.line)
