"""Edits of a person that could not be written yet, because the folder is gone, read-only or full: kept in memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from psygnal import Signal

from surgicalsam_napari.store.labels.recent_edits import RecentEdits


@dataclass(frozen=True)
class UnsavedEdit:
    """The pixels that one assignment of a viewer set in one frame.

    Attributes
    ----------
    rows, columns : (N,) positions in the frame
    values : (N,) uint8, their labels
    recent : the edits of the same viewer, for `LabelStore.edit`
    """

    frame_index: int
    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    recent: RecentEdits


class UnsavedEdits:
    """The edits to a project that are not on disk yet, in order; viewers show them over what they read.

    Attributes
    ----------
    is_watched : whether a window shows that edits are unsaved, and saves them later; else they are refused with an error
    reason : why the project could not be read or written the last time; None if it could
    """

    changed: ClassVar[Signal] = Signal()  #: emitted in the thread that failed, kept or saved

    def __init__(self) -> None:
        self.is_watched = False
        self.reason: str | None = None
        self._lock, self._saving = threading.RLock(), threading.Lock()
        self._edits: deque[UnsavedEdit] = deque()
        self._shown: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # frame index: pixels that are set, and their labels

    def __len__(self) -> int:
        return len(self._edits)

    @property
    def frame_indices(self) -> list[int]:
        """The frames with edits that are not saved, ascending."""
        with self._lock:
            return sorted(self._shown)

    def note(self, reason: str) -> None:
        """Note that the project could not be read or written now."""
        if reason != self.reason:
            self.reason = reason
            self.changed.emit()

    def keep(self, edit: UnsavedEdit, shape: tuple[int, int]) -> None:
        """Keep an edit in memory; shape: (H, W) of the frame."""
        with self._lock:
            self._edits.append(edit)
            if edit.frame_index not in self._shown:
                self._shown[edit.frame_index] = np.zeros(shape, bool), np.zeros(shape, np.uint8)
            is_set, labels = self._shown[edit.frame_index]
            is_set[edit.rows, edit.columns] = True
            labels[edit.rows, edit.columns] = edit.values
        self.changed.emit()

    def over(self, frame_index: int, frame: np.ndarray) -> np.ndarray:
        """(H, W) uint8, read-only: the frame as it will be when its edits are saved."""
        with self._lock:
            if frame_index not in self._shown:
                return frame
            is_set, labels = self._shown[frame_index]
            shown = np.where(is_set, labels, frame)
        shown.flags.writeable = False
        return shown

    def save(self, write: Callable[[UnsavedEdit], None]) -> None:
        """Write the edits, the first one first; each is forgotten when it is written.

        Raises
        ------
        SurgicalSAMError
            one cannot be written; it and those after it are still kept
        """
        with self._saving:
            while (edit := next(iter(self._edits), None)) is not None:
                write(edit)
                with self._lock:
                    self._edits.popleft()
                    if all(other.frame_index != edit.frame_index for other in self._edits):
                        self._shown.pop(edit.frame_index, None)
            self.reason = None
        self.changed.emit()
