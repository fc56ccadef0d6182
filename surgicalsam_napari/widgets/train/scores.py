"""Validation before and after a training, side by side."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent
from qtpy.QtWidgets import QGridLayout, QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from surgicalsam_napari.instruments import ClassSet, plain
from surgicalsam_napari.widgets.parts.parts import ElidedLabel, swatch
from surgicalsam_napari.widgets.train.parts import BAD_COLOR, GOOD_COLOR
from surgicalsam_training.reports import ResultReport, Scores

NAME, BEFORE, AFTER, BAR = range(4)
SMALLEST_CHANGE = 0.05  # percentage points; a smaller change is not shown
FIGURE_STYLE = "padding: 0px; margin: 0px; font-size: 9pt;"
SUMMARY: tuple[tuple[str, str, bool, Callable[[Scores], float | None]], ...] = (  # title, tooltip, whether more is better
    ("Challenge IoU", "Mean over frames of the IoU of the classes that are in the frame", True, lambda s: s.challenge_iou),
    ("Mean class IoU", "Mean over the classes of the IoU of each", True, lambda s: s.mean_class_iou),
    (
        "Predicted but absent",
        "Share of the absent classes that were predicted",
        False,
        lambda s: s.absent_false_positive_rate,
    ),
    ("Present but missed", "Share of the classes in the frame that were not predicted", False, lambda s: s.missed_rate),
)


class Bar(QWidget):
    """A bar from 0 to 100 %: the score before, and the change in green or red."""

    def __init__(self, before: float | None, after: float | None, *, more_is_better: bool = True) -> None:
        super().__init__()
        self.before, self.after, self.more_is_better = before, after, more_is_better
        self.setMinimumSize(40, 8)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        return QSize(60, 8)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        self._fill(painter, 0, 100, QColor(127, 127, 127, 45))
        before, after = self.before or 0.0, self.after or 0.0
        self._fill(painter, 0, min(before, after), QColor(127, 127, 127, 150))
        if self.after is not None:
            is_better = (after > before) == self.more_is_better
            self._fill(painter, min(before, after), max(before, after), QColor(GOOD_COLOR if is_better else BAD_COLOR))

    def _fill(self, painter: QPainter, start: float, stop: float, color: QColor) -> None:
        painter.setBrush(color)
        scale = self.width() / 100
        painter.drawRect(QRectF(start * scale, 0, (stop - start) * scale, self.height()))


class TrainingScores(QWidget):
    """A row for each class that the validation frames show, then the summary."""

    def __init__(self) -> None:
        super().__init__()
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 4, 0, 8)
        self._table = QWidget()
        self._column.addWidget(self._table)
        self.rows: dict[str, tuple[str, str]] = {}  # the scores before and after, by title

    def show_result(self, result: ResultReport, classes: ClassSet) -> None:
        """Show both columns; a class of `classes` has its colour beside its name."""
        self._clear()
        before, after = result.before, result.after
        if before is None and after is None:
            return
        for column, title in ((NAME, "IoU of the validation frames, %"), (BEFORE, "before"), (AFTER, "after")):
            self.grid.addWidget(figure_label(title, dim=True, is_name=column == NAME), 0, column)
        scores = [scores for scores in (before, after) if scores is not None]
        for name in dict.fromkeys(name for score in scores for name in score.class_iou):
            figures = [score.class_iou.get(name) if score is not None else None for score in (before, after)]
            if any(figure is not None for figure in figures):
                self._add_row(name, *figures, color=class_color(name, classes))
        for title, explanation, more_is_better, figure in SUMMARY:
            figures = [None if score is None else figure(score) for score in (before, after)]
            if any(value is not None for value in figures):
                self._add_row(
                    title, *figures, more_is_better=more_is_better, tooltip=explanation, is_first=title == SUMMARY[0][0]
                )

    def _add_row(
        self,
        title: str,
        before: float | None,
        after: float | None,
        *,
        color: str | None = None,
        more_is_better: bool = True,
        tooltip: str = "",
        is_first: bool = False,
    ) -> None:
        row = self.grid.rowCount()
        if is_first:
            self.grid.setRowMinimumHeight(row, 8)
            row += 1
        name = ElidedLabel(title, Qt.TextElideMode.ElideRight)
        name.setToolTip(tooltip or title)
        name.setStyleSheet(FIGURE_STYLE + (" font-weight: bold;" if is_first else ""))
        cell: QWidget = name if color is None else with_swatch(name, color)
        texts = _in_figures(before), _in_figures(after)
        self.rows[title] = texts
        self.grid.addWidget(cell, row, NAME)
        self.grid.addWidget(figure_label(texts[0]), row, BEFORE)
        self.grid.addWidget(
            figure_label(texts[1], color=_change_color(before, after, more_is_better), bold=is_first), row, AFTER
        )
        self.grid.addWidget(Bar(before, after, more_is_better=more_is_better), row, BAR, Qt.AlignmentFlag.AlignVCenter)

    def _clear(self) -> None:
        """Make a new table: a QGridLayout never removes rows."""
        self.rows = {}
        self._column.removeWidget(self._table)
        self._table.deleteLater()
        self._table = QWidget()
        self._column.addWidget(self._table)
        self.grid = QGridLayout(self._table)
        self.grid.setContentsMargins(0, 0, 0, 0)
        self.grid.setHorizontalSpacing(8)
        self.grid.setVerticalSpacing(5)
        self.grid.setColumnStretch(NAME, 3)
        self.grid.setColumnStretch(BAR, 2)


def _in_figures(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _change_color(before: float | None, after: float | None, more_is_better: bool) -> str | None:
    if before is None or after is None or abs(after - before) < SMALLEST_CHANGE:
        return None
    return GOOD_COLOR if (after > before) == more_is_better else BAD_COLOR


def class_color(name: str, classes: ClassSet) -> str:
    return next((instrument.color for instrument in classes if plain(instrument.name) == plain(name)), "#7f8591")


def figure_label(
    text: str, *, color: str | None = None, bold: bool = False, dim: bool = False, is_name: bool = False
) -> QLabel:
    label = QLabel(text)
    style = (
        FIGURE_STYLE + (f" color: {color or '#7f8591'};" if color or dim else "") + (" font-weight: bold;" if bold else "")
    )
    label.setStyleSheet(style)
    side = Qt.AlignmentFlag.AlignLeft if is_name else Qt.AlignmentFlag.AlignRight
    label.setAlignment(side | Qt.AlignmentFlag.AlignVCenter)
    return label


def with_swatch(name: ElidedLabel, color: str) -> QWidget:
    cell, square = QWidget(), QLabel()
    square.setPixmap(swatch(color, side=12).pixmap(12, 12))
    square.setStyleSheet("padding: 0px; margin: 0px;")
    row = QHBoxLayout(cell)
    row.setContentsMargins(0, 0, 0, 0)
    row.setSpacing(5)
    row.addWidget(square)
    row.addWidget(name, 1)
    return cell
