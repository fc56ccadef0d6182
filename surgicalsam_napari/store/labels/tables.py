"""Reading the tables of a project: per frame and class, who set the labels and what the model predicted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from surgicalsam_napari.errors import ProjectError, UnreachableError
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.store.disk.frame_files import FrameFiles
from surgicalsam_napari.store.labels.unsaved import UnsavedEdits
from surgicalsam_napari.store.provenance import Provenance


class LabelTables:
    """Read access to the tables of `provenance.TABLES` and to the painted record.

    Parameters
    ----------
    files : the files of the project
    classes : the columns of the tables that the methods return, in this order
    columns : the class id of each column on disk; also those of removed classes

    Attributes
    ----------
    unsaved : the edits that could not be written yet. While a window watches them, a project that cannot be reached gives
        tables as they were read last; writing always reads from the disk
    """

    def __init__(self, files: FrameFiles, classes: ClassSet, columns: Sequence[int]) -> None:
        self._files = files
        self._tables = files.tables
        self.unsaved = UnsavedEdits()
        self._show_columns(classes, columns)

    def _show_columns(self, classes: ClassSet, columns: Sequence[int]) -> None:
        self._classes, self._columns = classes, tuple(columns)
        self._order = [self._columns.index(class_id) for class_id in classes.ids]  # on disk, of each class

    def provenance(self, frame_index: int, class_id: int) -> Provenance:
        return Provenance(int(self._cell("provenance", frame_index, class_id)))

    def provenance_table(self) -> np.ndarray:
        """(T, C) uint8, a copy; columns in the order of the project's classes."""
        return self.table("provenance")

    def row(self, name: str, frame_index: int) -> np.ndarray:
        """(C,), a copy: one frame's row of the table `name`."""
        self.check_frame(frame_index)
        return self._row(name, frame_index)[self._order]

    def table(self, name: str) -> np.ndarray:
        """(T, C), a copy of the table `name` of `provenance.TABLES`; columns in the order of the project's classes."""
        order = self._order  # first: another thread may add a class now
        try:
            table = self._tables[name].table()
        except UnreachableError as error:
            self._check_watched(error)
            table = self._tables[name].last_known()
        return table[:, order]

    def predicted_iou(self, frame_index: int, class_id: int) -> float:
        """The predicted IoU of the last prediction; nan if there was none."""
        return float(self._cell("predicted_iou", frame_index, class_id))

    def presence(self, frame_index: int, class_id: int) -> float:
        """The presence score, 0 to 1, of the last prediction; nan if there was none."""
        return float(self._cell("presence", frame_index, class_id))

    def prediction_checkpoint(self, frame_index: int, class_id: int) -> int:
        """The checkpoint of the last prediction: its position in `Project.manifest.checkpoints`, from 1; 0 if none."""
        return int(self._cell("predicted_by", frame_index, class_id))

    def prediction_checkpoint_table(self) -> np.ndarray:
        """(T, C) uint16, a copy: `prediction_checkpoint` of every frame and class."""
        return self.table("predicted_by")

    def is_edited(self, frame_index: int, class_id: int) -> bool:
        return self.provenance(frame_index, class_id) == Provenance.EDITED

    def painted(self, frame_index: int) -> np.ndarray:
        """(H, W) bool, a copy: the pixels that a person set."""
        self.check_frame(frame_index)
        try:
            painted = self._files.painted(frame_index)
        except UnreachableError as error:
            self._check_watched(error)
            painted = None
        return np.zeros(self._files.blank.shape, bool) if painted is None else painted.copy()

    def is_painted(self, frame_index: int) -> bool:
        """Whether a person set any pixel of this frame; reads no pixels."""
        self.check_frame(frame_index)
        try:
            return self._files.is_painted(frame_index)
        except UnreachableError as error:
            self._check_watched(error)
            return False

    def locked_class_ids(self, frame_index: int) -> list[int]:
        """The classes that are VERIFIED in this frame."""
        self.check_frame(frame_index)
        provenance = self._by_class_id(self._row("provenance", frame_index))
        return [class_id for class_id, value in provenance.items() if value == Provenance.VERIFIED]

    def check_frame(self, frame_index: int) -> None:
        """A ProjectError unless the video has this frame."""
        if not 0 <= frame_index < self._files.frame_count:
            last = self._files.frame_count - 1
            raise ProjectError(f"This video has the frames 0 to {last}; got {frame_index}. Choose one of them.")

    def _column(self, class_id: int) -> int:
        self._classes.by_id(class_id)
        return self._columns.index(class_id)

    def _by_class_id(self, row: np.ndarray) -> dict[int, Any]:
        """The cells of the classes in use, from a row on disk."""
        cells = row.tolist()
        return {class_id: cells[column] for class_id, column in zip(self._classes.ids, self._order, strict=True)}

    def _cell(self, table: str, frame_index: int, class_id: int) -> np.generic:
        self.check_frame(frame_index)
        return self._row(table, frame_index)[self._column(class_id)]

    def _row(self, name: str, frame_index: int) -> np.ndarray:
        try:
            return self._tables[name].row(frame_index)
        except UnreachableError as error:
            self._check_watched(error)
            return self._tables[name].last_known()[frame_index]

    def _check_watched(self, error: UnreachableError) -> None:
        """Raise the error, unless a window shows that the project is away: what was read last is enough for it."""
        if not self.unsaved.is_watched:
            raise error
        self.unsaved.note(str(error))
