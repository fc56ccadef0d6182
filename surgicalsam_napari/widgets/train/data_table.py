"""The training data: corrected frames per video and class, and warnings about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from qtpy.QtCore import QSize, Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from surgicalsam_napari.formatting import counted
from surgicalsam_napari.instruments import plain
from surgicalsam_napari.session import is_project_folder
from surgicalsam_napari.store.corrections import Corrections
from surgicalsam_napari.widgets.parts.file_dialogs import FileKind, ask_for_folder
from surgicalsam_napari.widgets.parts.message import show_failure
from surgicalsam_napari.widgets.parts.parts import SPACING, note, swatch
from surgicalsam_napari.widgets.train.correction_counts import CorrectionCounts
from surgicalsam_napari.widgets.train.parts import WARNING_COLOR, colored_note
from surgicalsam_training.data.split import FEWEST_FRAMES_TO_SPLIT

NOTHING_OPEN = "Open a video first."
NO_CORRECTIONS = (
    "No frame is corrected yet. Segment some frames, then correct them with the brush (napari's paint and erase tools on "
    "the layer “Instruments”). They appear here."
)
ONE_VIDEO = "Only one video: a connected part of it is kept aside for the test."
FEW_FRAMES = "Fewer than {} frames of one video: all are used to learn, and none is kept aside for a test."
ONLY_PREDICTIONS = (
    "All are verified and unchanged: these are the model's own masks, nothing to learn from. Correct a wrong mask."
)
UNCHANGED = "{} verified and unchanged: they only confirm masks that were predicted or carried there."
NAME, FRAMES, REMOVE = range(3)
ROW_HEIGHT, MOST_ROWS = 22, 11
FRAMES_WIDTH, REMOVE_WIDTH = 64, 24
STYLE = """
QTreeWidget { border: none; background: transparent; padding: 0px; }
QTreeWidget::item { padding: 1px 0px; }
QTreeWidget::item:selected, QTreeWidget::item:hover { background: transparent; }
QToolButton { border: none; background: transparent; padding: 0px; }
QToolButton:hover { background: rgba(127, 127, 127, 80); border-radius: 2px; }
"""


class TrainingDataTable(QWidget):
    """A row for each video, under it a row for each class that was corrected there."""

    def __init__(self, data: CorrectionCounts) -> None:
        super().__init__()
        self.data = data
        self.tree = QTreeWidget()
        self.title, self.frames_title = note("Corrected by a person"), note("frames")
        self.what_to_do, self.total, self.warning = note(), note(), colored_note(WARNING_COLOR)
        self.add = QPushButton("Add project…")
        self.add.setToolTip("Also train on the corrections in another project (*.surgicalsam)")
        self._folded: set[Path] = set()
        self._lay_out()
        self.add.clicked.connect(self._choose_project)
        self.tree.itemExpanded.connect(lambda item: self._on_folded(item, is_folded=False))
        self.tree.itemCollapsed.connect(lambda item: self._on_folded(item, is_folded=True))
        data.counted.connect(self.show_counts)

    def show_counts(self) -> None:
        """Show the latest counts."""
        counts = self.data.corrections
        blocked = self.tree.blockSignals(True)
        self.tree.clear()
        for corrections in counts:
            self._add_video(corrections)
        self.tree.blockSignals(blocked)
        frames = sum(corrections.frame_count for corrections in counts)
        videos = sum(bool(corrections.frame_count) for corrections in counts)
        in_all = f" in {counted(videos, 'video')}" if videos > 1 else ""
        self.total.setText(f"{counted(frames, 'frame')}{in_all}" if frames else "")
        self.what_to_do.setText(NO_CORRECTIONS if counts else NOTHING_OPEN)
        self.what_to_do.setVisible(not frames)
        self.add.setVisible(bool(counts))
        warnings = warnings_about(counts)
        self.warning.setText("\n".join(warnings))
        self.warning.setVisible(bool(warnings))
        for widget in (self.title, self.frames_title, self.tree):
            widget.setVisible(frames > 0 or len(counts) > 1)
        has_added = any(self.data.is_added(corrections.folder) for corrections in counts)
        self.tree.setColumnHidden(REMOVE, not has_added)
        self._titles.setContentsMargins(0, 0, REMOVE_WIDTH if has_added else 0, 0)
        self._fit_height()

    def _lay_out(self) -> None:
        self.tree.setColumnCount(3)
        self.tree.setHeaderLabels(["Video and class", "Frames", ""])
        self.tree.setStyleSheet(STYLE)
        self.tree.setIndentation(12)
        self.tree.setIconSize(QSize(12, 12))
        self.tree.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.tree.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.tree.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.tree.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.tree.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.tree.setHeaderHidden(True)
        header = self.tree.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)
        for column, width in ((FRAMES, FRAMES_WIDTH), (REMOVE, REMOVE_WIDTH)):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.Fixed)
            header.resizeSection(column, width)
        self._titles = QHBoxLayout()
        self._titles.addWidget(self.title, 1)
        self._titles.addWidget(self.frames_title)
        row = QHBoxLayout()
        row.setSpacing(SPACING)
        row.addWidget(self.total, 1)
        row.addWidget(self.add)
        column_layout = QVBoxLayout(self)
        column_layout.setContentsMargins(0, 0, 0, 0)
        column_layout.setSpacing(SPACING)
        column_layout.addWidget(self.what_to_do)
        column_layout.addLayout(self._titles)
        column_layout.addWidget(self.tree)
        column_layout.addLayout(row)
        column_layout.addWidget(self.warning)

    def _add_video(self, corrections: Corrections) -> None:
        video = QTreeWidgetItem([corrections.video, f"{corrections.frame_count:,}"])
        video.setToolTip(NAME, str(corrections.folder))
        video.setData(NAME, Qt.ItemDataRole.UserRole, corrections.folder)
        self._finish_row(self.tree.invisibleRootItem(), video, is_bold=True)
        for instrument, count in corrections.class_frames.items():
            row = QTreeWidgetItem([instrument.name, f"{count:,}"])
            row.setIcon(NAME, swatch(instrument.color, side=12))
            self._finish_row(video, row)
        video.setExpanded(corrections.folder not in self._folded)
        if self.data.is_added(corrections.folder):
            remove = QToolButton()
            remove.setText("×")
            remove.setToolTip(f"Do not train on {corrections.video}")
            remove.clicked.connect(lambda _checked, folder=corrections.folder: self.data.remove(folder))
            self.tree.setItemWidget(video, REMOVE, remove)

    def _finish_row(self, parent: QTreeWidgetItem, row: QTreeWidgetItem, *, is_bold: bool = False) -> None:
        row.setTextAlignment(FRAMES, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        row.setSizeHint(NAME, QSize(0, ROW_HEIGHT))
        if is_bold:
            font = row.font(NAME)
            font.setBold(True)
            row.setFont(NAME, font)
            row.setFont(FRAMES, font)
        parent.addChild(row)

    def _fit_height(self) -> None:
        videos = [self.tree.topLevelItem(index) for index in range(self.tree.topLevelItemCount())]
        rows = sum(1 + (video.childCount() if video.isExpanded() else 0) for video in videos)
        self.tree.setFixedHeight(min(rows, MOST_ROWS) * ROW_HEIGHT + 4)

    def _on_folded(self, item: QTreeWidgetItem, *, is_folded: bool) -> None:
        folder = item.data(NAME, Qt.ItemDataRole.UserRole)
        (self._folded.add if is_folded else self._folded.discard)(folder)
        self._fit_height()

    def _choose_project(self) -> None:
        path = ask_for_folder(self, FileKind.VIDEOS, "Choose a project (*.surgicalsam) with corrected frames")
        if path is not None:
            self.add_project(path)

    def add_project(self, folder: Path) -> None:
        """Add a project; show an error for any other folder."""
        if not is_project_folder(folder):
            show_failure(not_a_project(folder), self)
        else:
            self.data.add(folder.absolute())


def not_a_project(folder: Path) -> Exception:
    from surgicalsam_napari.errors import ProjectError

    return ProjectError(f"Expected a project folder, <video>.surgicalsam; got {folder.name}. Choose another folder.")


def warnings_about(counts: Sequence[Corrections]) -> list[str]:
    """Warnings about weak points of this training data."""
    frames: Counter[str] = Counter()
    shown: dict[str, str] = {}  # a class may have another name in another video
    for corrections in counts:
        for instrument, count in corrections.class_frames.items():
            names = [plain(name) for name in instrument.all_names]
            name = next((shown[known] for known in names if known in shown), instrument.name)
            shown |= dict.fromkeys(names, name)
            frames[name] += count
    single = [name for name, count in frames.items() if count == 1]
    warnings = []
    if single:
        be = "is" if len(single) == 1 else "are"
        warnings.append(f"{' and '.join(single)} {be} in one frame only: too few to learn and to test. Correct more.")
    unchanged = sum(corrections.unchanged_count for corrections in counts)
    if unchanged:
        all_frames = sum(corrections.frame_count for corrections in counts)
        warnings.append(ONLY_PREDICTIONS if unchanged == all_frames else UNCHANGED.format(counted(unchanged, "frame")))
    used = [corrections.frame_count for corrections in counts if corrections.frame_count]
    if len(used) == 1:
        is_split = used[0] >= FEWEST_FRAMES_TO_SPLIT
        warnings.append(ONE_VIDEO if is_split else FEW_FRAMES.format(FEWEST_FRAMES_TO_SPLIT))
    return warnings
