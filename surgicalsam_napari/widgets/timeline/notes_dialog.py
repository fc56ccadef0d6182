"""The dialog that lists the notes of the open project."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QDialog,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from surgicalsam_napari.errors import SurgicalSAMError
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.store import Project
from surgicalsam_napari.store.notes import Note
from surgicalsam_napari.video.time_code import in_time_code
from surgicalsam_napari.widgets.parts.file_dialogs import FileKind, ask_where_to_save
from surgicalsam_napari.widgets.parts.parts import SPACING, note

FRAME, TIME, TEXT, ANNOTATOR = range(4)
FRAME_ROLE = Qt.ItemDataRole.UserRole + 1
EMPTY = "No notes yet. Write one in the line above the timeline (key I)."


class NotesDialog(QDialog):
    """A click on a note goes to its frame; the dialog can stay open.

    Signals: `frame_asked` (frame index), `removal_asked` (frame index).
    """

    frame_asked = Signal(int)
    removal_asked = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._project: Project | None = None
        self._times: np.ndarray | None = None
        self.setWindowTitle("Notes")
        self.resize(520, 320)
        self.list, self.outcome = QTreeWidget(), note()
        self.list.setHeaderLabels(["Frame", "Time", "Note", "By"])
        self.list.setRootIsDecorated(False)
        self.list.setWordWrap(True)
        header = self.list.header()
        header.setStretchLastSection(False)
        for column in (FRAME, TIME, ANNOTATOR):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(TEXT, QHeaderView.ResizeMode.Stretch)
        self.remove_button, self.save_button = QPushButton("Remove"), QPushButton("Save as CSV…")
        buttons = QHBoxLayout()
        buttons.setSpacing(SPACING)
        buttons.addWidget(self.remove_button)
        buttons.addStretch(1)
        buttons.addWidget(self.save_button)
        column_layout = QVBoxLayout(self)
        column_layout.setSpacing(SPACING)
        column_layout.addWidget(self.list, 1)
        column_layout.addLayout(buttons)
        column_layout.addWidget(self.outcome)
        self.list.itemSelectionChanged.connect(self._update_buttons)
        self.list.itemClicked.connect(lambda item, _column: self.frame_asked.emit(item.data(FRAME, FRAME_ROLE)))
        self.list.itemActivated.connect(lambda item, _column: self.frame_asked.emit(item.data(FRAME, FRAME_ROLE)))
        self.remove_button.clicked.connect(self._on_remove)
        self.save_button.clicked.connect(self.save)

    def show_notes(self, project: Project | None, notes: list[Note], times: np.ndarray | None) -> None:
        """List these notes of a project."""
        chosen = self._chosen_frame()
        self._project, self._times = project, times
        self.list.clear()
        for entry in notes:
            time = "" if times is None else in_time_code(times[entry.frame])
            item = QTreeWidgetItem([f"{entry.frame:,}", time, entry.text, entry.annotator])
            item.setData(FRAME, FRAME_ROLE, entry.frame)
            item.setToolTip(TEXT, entry.text)
            self.list.addTopLevelItem(item)
            if entry.frame == chosen:
                self.list.setCurrentItem(item)
        self.list.setColumnHidden(TIME, times is None)
        self.outcome.setText("" if notes else EMPTY)
        self._update_buttons()

    def save(self) -> None:
        """Ask for a file, and write the notes as CSV."""
        if self._project is None:
            return
        video = self._project.manifest.video_path
        proposed = video.with_name(f"{video.stem}_notes.csv")
        path = ask_where_to_save(self, FileKind.TABLES, "Save the notes", proposed, "CSV (*.csv)")
        if path is not None:
            try:
                count = self._project.notes.write_csv(path, self._times)
                self.outcome.setText(f"{path.name} lists {counted(count, 'note')}.")
            except SurgicalSAMError as error:
                self.outcome.setText(str(error))

    def _chosen_frame(self) -> int | None:
        item = self.list.currentItem()
        return None if item is None else item.data(FRAME, FRAME_ROLE)

    def _on_remove(self) -> None:
        frame_index = self._chosen_frame()
        if frame_index is not None:
            self.removal_asked.emit(frame_index)

    def _update_buttons(self) -> None:
        can_write = self._project is not None and self._project.writable
        self.remove_button.setEnabled(can_write and bool(self.list.selectedItems()))
        self.save_button.setEnabled(self.list.topLevelItemCount() > 0)
