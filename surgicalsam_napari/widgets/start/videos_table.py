"""The table of videos: what each project contains, when it was opened last, and its state."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from qtpy.QtCore import QRect, Qt, Signal
from qtpy.QtGui import QColor, QKeyEvent, QPainter
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTreeWidget,
    QTreeWidgetItem,
)

from surgicalsam_napari.widgets.parts.parts import ACCENT
from surgicalsam_napari.widgets.start import texts
from surgicalsam_napari.widgets.start.segmentation_queue import QueuedVideo, QueueState
from surgicalsam_napari.widgets.start.summaries import Listed

TITLES = ("Video", "Frames", "Segmented", "Corrected", "Verified", "Last opened", "State")
NAME, FRAMES, SEGMENTED, CORRECTED, VERIFIED, OPENED, STATE = range(len(TITLES))
WIDTHS = {FRAMES: 74, SEGMENTED: 92, CORRECTED: 86, VERIFIED: 78, OPENED: 124, STATE: 150}
TOOLTIPS = {
    FRAMES: "Frames of the video",
    SEGMENTED: "Frames in which a model looked for a class",
    CORRECTED: "Frames in which a person painted, changed or verified a class",
    VERIFIED: "Frames in which a person verified a class",
}
SORT_ROLE = Qt.ItemDataRole.UserRole
PROGRESS_ROLE = Qt.ItemDataRole.UserRole + 1
BAR_HEIGHT = 3
STYLE = "QTreeWidget::item { padding: 4px 3px; }"


class VideosTable(QTreeWidget):
    """A row per video; a double click or Enter opens it, Delete takes it out of the list."""

    opened = Signal(object)  # Path
    removed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setColumnCount(len(TITLES))
        self.setHeaderLabels(TITLES)
        self.setRootIsDecorated(False)
        self.setUniformRowHeights(True)
        self.setAlternatingRowColors(False)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setItemDelegateForColumn(STATE, _ProgressDelegate(self))
        header = self.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)
        for column, width in WIDTHS.items():
            header.resizeSection(column, width)
        for column, text in TOOLTIPS.items():
            self.headerItem().setToolTip(column, text)
        self.setSortingEnabled(True)
        self.sortByColumn(OPENED, Qt.SortOrder.DescendingOrder)
        self.setStyleSheet(STYLE)
        self.itemDoubleClicked.connect(lambda item, _column: self.opened.emit(path_of(item)))
        self._rows: dict[Path, _Row] = {}

    def show_paths(self, paths: Iterable[Path]) -> None:
        """Make a row for each of these videos; selected ones stay selected."""
        selected = self.selected()
        self.clear()
        self._rows = {path: _Row(path) for path in paths}
        self.addTopLevelItems(list(self._rows.values()))
        self.select(selected)

    def show_video(self, listed: Listed, opened: datetime | None, queued: QueuedVideo | None, *, is_open: bool) -> None:
        """Fill the row of a video."""
        row = self._rows.get(listed.path)
        if row is not None:
            row.fill(listed, opened, texts.state(listed, queued, is_open=is_open), _progress(queued))

    def selected(self) -> list[Path]:
        """The selected videos, from top to bottom."""
        items = (self.topLevelItem(index) for index in range(self.topLevelItemCount()))
        return [path_of(item) for item in items if item.isSelected()]

    def select(self, paths: Iterable[Path]) -> None:
        """Select exactly these videos, and show the first one."""
        wanted = set(paths)
        for path, row in self._rows.items():
            row.setSelected(path in wanted)
        first = next((row for path, row in self._rows.items() if path in wanted), None)
        if first is not None:
            self.scrollToItem(first)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and len(self.selected()) == 1:
            self.opened.emit(self.selected()[0])
        elif event.key() in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace) and self.selected():
            self.removed.emit()
        else:
            super().keyPressEvent(event)


class _Row(QTreeWidgetItem):
    """Sorted by numbers and times, not by their texts."""

    def __init__(self, path: Path) -> None:
        super().__init__([path.stem if path.suffix == ".surgicalsam" else path.name])
        self.setData(NAME, SORT_ROLE, path)
        self.setToolTip(NAME, str(path))
        for column in (FRAMES, SEGMENTED, CORRECTED, VERIFIED):
            self.setTextAlignment(column, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)

    def fill(self, listed: Listed, opened: datetime | None, state: str, progress: float | None) -> None:
        if listed.summary is not None:
            summary = listed.summary
            self.setText(NAME, listed.name)
            counts = (summary.frame_count, summary.segmented, summary.corrected, summary.verified)
            for column, count in zip((FRAMES, SEGMENTED, CORRECTED, VERIFIED), counts, strict=True):
                self._set(column, f"{count:,}" if count else "–", count)
        self._set(OPENED, "–" if opened is None else texts.day_and_time(opened), opened.timestamp() if opened else 0.0)
        self._set(STATE, state, state)
        self.setToolTip(STATE, state)
        self.setData(STATE, PROGRESS_ROLE, progress)

    def _set(self, column: int, text: str, sorted_by: Any) -> None:
        self.setText(column, text)
        self.setData(column, SORT_ROLE, sorted_by)

    def __lt__(self, other: QTreeWidgetItem) -> bool:
        assert isinstance(other, _Row)
        column = self.treeWidget().sortColumn()
        if column == NAME:
            return self.text(NAME).casefold() < other.text(NAME).casefold()
        mine, theirs = self.data(column, SORT_ROLE), other.data(column, SORT_ROLE)
        return theirs is not None and (mine is None or mine < theirs)


class _ProgressDelegate(QStyledItemDelegate):
    """A thin bar under the text of a video that is being segmented."""

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Any) -> None:
        super().paint(painter, option, index)
        progress = index.data(PROGRESS_ROLE)
        if progress is not None:
            area = option.rect.adjusted(3, 0, -3, 0)
            track = QRect(area.left(), area.bottom() - BAR_HEIGHT, area.width(), BAR_HEIGHT)
            painter.fillRect(track, QColor(127, 127, 127, 90))
            track.setWidth(round(track.width() * progress))
            painter.fillRect(track, QColor(ACCENT))


def path_of(item: QTreeWidgetItem) -> Path:
    """The video of a row."""
    path = item.data(NAME, SORT_ROLE)
    assert isinstance(path, Path)
    return path


def _progress(queued: QueuedVideo | None) -> float | None:
    """From 0 to 1 while a video is being segmented, else None."""
    if queued is None or queued.state is not QueueState.RUNNING:
        return None
    return queued.done / queued.total if queued.total else 0.0
