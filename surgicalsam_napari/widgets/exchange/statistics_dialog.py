"""The dialog *Statistics*: a table of how often, how long and how large each instrument is, which can be saved as CSV."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QDialog,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from surgicalsam_napari.errors import SurgicalSAMError
from surgicalsam_napari.formatting import counted, in_time
from surgicalsam_napari.review.statistics import ClassStatistics, VideoStatistics, measure_statistics
from surgicalsam_napari.store import Project
from surgicalsam_napari.widgets.parts.file_dialogs import FileKind, ask_where_to_save
from surgicalsam_napari.widgets.parts.parts import SPACING, caption, note, primary_button, swatch
from surgicalsam_napari.widgets.parts.progress_strip import ProgressStrip
from surgicalsam_napari.widgets.runs.run import Run

HEADINGS = {  # heading: tooltip
    "Class": "",
    "Frames": "Frames that show the class",
    "Time": "How long these frames are shown, by the times that the video file states",
    "Mean area (px)": "Area in the frames that show the class, in pixels",
    "Mean area (%)": "The same, in % of the picture without the black border",
    "Total area (px)": "Area in all frames together, in pixels",
    "Total area (%)": "The same, in % of the picture in all frames of the video",
    "Corrected": "Frames in which a person edited or verified the class",
    "Verified": "Frames in which a person verified the class",
}
AREA_NOTE = "Areas in % are of the picture without the black border of the endoscope."


class StatisticsDialog(QDialog):
    """Counts when it is opened, with progress; can stay open.

    Parameters
    ----------
    run : reads the labels in another thread
    """

    def __init__(self, run: Run, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.run = run
        self.statistics: VideoStatistics | None = None
        self._project: Project | None = None
        self.setWindowTitle("Statistics")
        self.resize(900, 380)
        self._build()
        run.reported.connect(lambda report: self.progress.show_progress(report.done, report.total, run.seconds_left))
        run.failed.connect(lambda error: self.message.setText(str(error)))
        run.finished.connect(self._on_finished)

    def show_project(self, project: Project) -> None:
        """Count the labels of this project, and show the result."""
        self._project, self.statistics = project, None
        self.table.setRowCount(0)
        self.title.setText(project.manifest.video_path.name)
        self.message.setText("")
        self.save_button.setEnabled(False)
        self.again_button.setEnabled(False)
        self.progress.show()
        self.progress.show_start("Counting…")
        self.run.start(lambda: measure_statistics(project))
        self.show()
        self.raise_()

    def count_again(self) -> None:
        """Count the labels as they are now."""
        if self._project is not None:
            self.show_project(self._project)

    def save(self) -> None:
        """Ask for a CSV file, and write the table to it."""
        if self._project is None or self.statistics is None:
            return
        proposed = self._project.top.folder.with_name(f"{self._project.stem}_statistics.csv")
        path = ask_where_to_save(self, FileKind.TABLES, "Save the statistics", proposed, "CSV (*.csv)")
        if path is None:
            return
        try:
            self.statistics.write_csv(path)
        except SurgicalSAMError as error:
            self.message.setText(str(error))
            return
        self.message.setText(f"Saved as {path.name}.")

    def closeEvent(self, event: QCloseEvent) -> None:
        self.run.cancel()
        super().closeEvent(event)

    def _build(self) -> None:
        self.title, self.message = caption(""), note()
        self.table = QTableWidget(0, len(HEADINGS))
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.verticalHeader().hide()
        for column, (heading, tip) in enumerate(HEADINGS.items()):
            item = QTableWidgetItem(heading)
            item.setToolTip(tip)
            self.table.setHorizontalHeaderItem(column, item)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.progress = ProgressStrip()
        self.progress.cancelled.connect(self.run.cancel)
        self.again_button, self.save_button = QPushButton("Count again"), primary_button("Save as CSV…")
        self.again_button.clicked.connect(self.count_again)
        self.save_button.clicked.connect(self.save)
        buttons = QHBoxLayout()
        buttons.addWidget(note(AREA_NOTE), 1)
        buttons.addWidget(self.again_button)
        buttons.addWidget(self.save_button)
        column_layout = QVBoxLayout(self)
        column_layout.setSpacing(SPACING)
        for widget in (self.title, self.table, self.progress, self.message):
            column_layout.addWidget(widget)
        column_layout.addLayout(buttons)

    def _on_finished(self, _is_complete: bool) -> None:
        self.progress.hide()
        self.again_button.setEnabled(True)
        self.statistics = self.run.result
        if self.run.is_cancelled:
            self.message.setText("Cancelled: nothing was counted.")
        if self.statistics is None or self._project is None:
            return
        length = "" if self.statistics.seconds is None else f" · {in_time(self.statistics.seconds)}"
        self.title.setText(f"{self.statistics.video} · {counted(self.statistics.frame_count, 'frame')}{length}")
        self.table.setRowCount(len(self.statistics.classes))
        for row, entry in enumerate(self.statistics.classes):
            self._show_row(row, entry, self._project.classes.by_id(entry.class_id).color)
        self.save_button.setEnabled(True)

    def _show_row(self, row: int, entry: ClassStatistics, color: str) -> None:
        for column, text in enumerate(row_texts(entry)):
            item = QTableWidgetItem(text)
            if column == 0:
                item.setIcon(swatch(color))
            else:
                item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            self.table.setItem(row, column, item)


def row_texts(entry: ClassStatistics) -> tuple[str, ...]:
    """The cells of a class, in the order of `HEADINGS`; a dash for what is unknown or never shown."""
    is_shown = entry.frame_count > 0
    return (
        entry.name,
        f"{entry.frame_count:,}",
        _seconds(entry.seconds) if is_shown else "–",
        f"{entry.mean_pixels:,.0f}" if is_shown else "–",
        f"{100 * entry.mean_share:.2f}" if is_shown else "–",
        f"{entry.total_pixels:,}" if is_shown else "–",
        f"{100 * entry.total_share:.2f}" if is_shown else "–",
        f"{entry.corrected_count:,}",
        f"{entry.verified_count:,}",
    )


def _seconds(seconds: Any) -> str:
    """Seconds with two digits up to a minute, then minutes."""
    if seconds is None:
        return "–"
    return f"{seconds:.2f} s" if seconds < 60 else in_time(seconds)
