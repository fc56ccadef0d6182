"""The instances of a project: a number per pixel in each frame, and the table of tracks that says which instrument it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

import numpy as np
from psygnal import Signal

from surgicalsam_napari.errors import ProjectError, UnreachableError
from surgicalsam_napari.store.disk.action import TRACKS_FILE, Action
from surgicalsam_napari.store.disk.files import check_reachable
from surgicalsam_napari.store.label_maps import present_ids
from surgicalsam_napari.store.labels.label_store import LabelStore
from surgicalsam_napari.store.tracks import LARGEST_NUMBER, TrackTable
from surgicalsam_napari.untrusted import read_plain


class Tracks:
    """Which instrument is which: the numbers of the instances in each frame, and the table of tracks.

    When labels change, the numbers follow in the same write (`merging.followed_numbers`); the table stays. It changes only
    by the actions of `edit` and `write_table`, so each change can be undone, also after a restart.

    Parameters
    ----------
    root : the project folder
    """

    changed: ClassVar[Signal] = Signal(object)  #: index of a frame with other numbers, or None for the table of tracks

    def __init__(self, root: Path, labels: LabelStore) -> None:
        self._path = root / TRACKS_FILE
        self._labels, self._files = labels, labels.files
        self._known: tuple[object, TrackTable] = (None, TrackTable())
        self._files.instances_changed.connect(self.changed.emit)

    # ---- the table

    @property
    def table(self) -> TrackTable:
        """The tracks, empty before anything was linked.

        Raises
        ------
        ProjectError
            tracks.json is damaged; the labels are not
        """
        try:
            signature = _signature(self._path)
            if signature is None:
                check_reachable(self._path.with_name("labels"))
        except UnreachableError as error:
            if not self._labels.unsaved.is_watched:
                raise
            self._labels.unsaved.note(str(error))
            return self._known[1]
        if signature is None:
            return TrackTable()
        if signature != self._known[0]:
            self._known = signature, _read(self._path, self._labels.shape[0])
        return self._known[1]

    @property
    def problem(self) -> str:
        """What is wrong with tracks.json, as text for the user; "" if nothing is."""
        try:
            _ = self.table
        except ProjectError as error:
            return str(error)
        return ""

    @property
    def damage(self) -> str:
        """As `problem`, in a few words for a check, which also notices that the file is missing."""
        if self.problem:
            return "it is cut or changed"
        return "it is missing" if not self._path.exists() and self._files.has_numbers() else ""

    def edit(self, name: str, table: TrackTable) -> None:
        """Replace the table as one action of the history.

        Parameters
        ----------
        name : for the user, shown after "Undo"

        Raises
        ------
        ProjectError, DiskSpaceError
            the project is read-only, or the disk is full; the table is unchanged
        """
        with self._labels.history.action(name) as action:
            self.write_table(table, action=action)

    def write_table(self, table: TrackTable, *, action: Action) -> bool:
        """Replace the table as part of an action; returns whether it changed.

        A damaged file moves to the folder `damaged`.
        """
        with self._files.exclusively("The table of tracks"):
            if not self._files.has_damaged_tracks() and table == self.table:
                return False
            self._files.write_tracks(table.to_bytes(), action)
            self._known = _signature(self._path), table
        return True

    # ---- the numbers

    def numbers(self, frame_index: int) -> np.ndarray:
        """(H, W) uint8, read-only: the number of each pixel's instance, 0 for none; a ProjectError if damaged."""
        self._labels.check_frame(frame_index)
        try:
            return self._files.numbers(frame_index)
        except UnreachableError as error:
            if not self._labels.unsaved.is_watched:
                raise
            self._labels.unsaved.note(str(error))
            return self._files.last_known_numbers(frame_index)

    def write_numbers(self, frame_index: int, numbers: np.ndarray, *, action: Action | None = None) -> bool:
        """Replace the numbers of a frame; background has none, so what is given there is left out.

        Parameters
        ----------
        numbers : (H, W) whole numbers from 0 to 255
        action : the action that this is a part of, so that it can be undone

        Returns
        -------
        whether a number changed

        Raises
        ------
        ProjectError, DiskSpaceError
            more than 255 instances, a wrong size, a failed write; the frame is unchanged
        """
        self._labels.check_frame(frame_index)
        if numbers.shape != self._labels.shape[1:]:
            raise ProjectError(
                f"Numbers of instances need the size of the frames, {self._labels.shape[1:]}; got {numbers.shape}. "
                "Compute them on the frames of this video."
            )
        if (largest := int(numbers.max(initial=0))) > LARGEST_NUMBER or numbers.min(initial=0) < 0:
            raise ProjectError(
                f"A frame holds at most {LARGEST_NUMBER} instances, frame {frame_index} has the number {largest}. Remove "
                "specks first (Correct > Clean up > Keep the largest region), or leave out the smallest regions."
            )
        with self._files.exclusively("The instances"):
            kept = np.where(self._files.labels(frame_index) > 0, numbers, 0).astype(np.uint8)
            is_damaged = bool(self._files.checksums.problems(frame_index, ("instances",)))
            if not is_damaged and np.array_equal(kept, self._files.numbers(frame_index)):
                return False
            self._files.commit(frame_index, {}, numbers=kept, action=action)
        return True

    def is_linked(self, frame_index: int) -> bool:
        """Whether every labelled pixel of the frame has a number with a track, and no other pixel has a number."""
        labels, numbers = self._labels.frame(frame_index), self.numbers(frame_index)
        has_track = self.table.in_frame(frame_index)
        return set(present_ids(numbers)) <= has_track.keys() and np.array_equal(labels > 0, numbers > 0)


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _read(path: Path, frame_count: int) -> TrackTable:
    try:
        table = TrackTable.from_bytes(read_plain(path))
        if table.last >= frame_count:
            raise ValueError("it has frames after the last one")
        return table
    except (OSError, ValueError) as error:
        raise ProjectError(
            f"{path} should be the table of tracks, but it is damaged; labels and painting are intact. Restore it from a "
            "backup, return to a snapshot, or link the instances again."
        ) from error
