"""How far masks jump from frame to frame, read from the labels of a long video bit by bit."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol

import numpy as np

from surgicalsam_napari.errors import ProjectError

SUBSAMPLING = 4  # every fourth pixel each way tells how far masks overlap
UNKNOWN = np.float32(np.nan)


class LabelMaps(Protocol):
    """Label maps (T, H, W) uint8, such as a LabelStore or an array; taken as `label_maps[frame, rows, columns]`."""

    def __getitem__(self, key: tuple[int, slice, slice], /) -> np.ndarray: ...


class MaskJumps:
    """How far the mask of each class overlaps with that in the frame before, and how large it is.

    `fill` reads what is not known yet, each frame once, every fourth pixel each way. A window may run it in the background
    and call `invalidate` from any thread meanwhile. A frame of 1080 x 1920 takes about 4 ms, so 100,000 of them 7 minutes.

    Parameters
    ----------
    label_maps : (T, H, W) uint8 class ids
    frame_count : T
    class_ids : the columns of the tables, in this order
    """

    def __init__(self, label_maps: LabelMaps, frame_count: int, class_ids: Sequence[int]) -> None:
        self._label_maps = label_maps
        self._column_of = np.zeros(256, np.intp)  # 0 for background and for labels of no column
        self._column_of[list(class_ids)] = np.arange(1, len(class_ids) + 1)
        self._areas = np.full((frame_count, len(class_ids)), UNKNOWN)
        self._overlaps = np.full((frame_count, len(class_ids)), UNKNOWN)
        self._is_due = np.ones(frame_count, bool)  # row t: the area in t, and the overlap of t with t - 1

    @property
    def left(self) -> int:
        """How many frames `fill` has yet to compare."""
        return int(np.count_nonzero(self._is_due))

    def invalidate(self, frame_index: int) -> None:
        """The labels of a frame have changed."""
        self._is_due[frame_index : frame_index + 2] = True

    def fill(self, start: int = 0) -> Generator[int, None, None]:
        """Read what is not known yet, from a frame on to the last one, then from the first.

        A frame whose labels are damaged stays unknown until it is invalidated.

        Yields
        ------
        the index of each frame, after it was compared with the one before
        """
        read_last: tuple[int, np.ndarray | None] = (-1, None)
        while (frame_index := self._next_due(start)) is not None:
            # the flag falls before anything is read or looked at, so that a change meanwhile makes the frame due again
            self._is_due[frame_index] = False
            before = None
            if frame_index > 0:
                is_at_hand = read_last[0] == frame_index - 1 and not self._is_due[frame_index - 1]
                before = read_last[1] if is_at_hand else self._read(frame_index - 1)
            columns = self._read(frame_index)
            self._compare(frame_index, before, columns)
            read_last = (frame_index, columns)
            start = frame_index + 1
            yield frame_index

    def areas(self, frames: slice = slice(None)) -> np.ndarray:
        """(T, C) float32, or of some frames: the share of the frame that each class covers; NaN where not known yet."""
        return np.where(self._is_due[frames, None], UNKNOWN, self._areas[frames])

    def overlaps(self, frames: slice = slice(None)) -> np.ndarray:
        """(T, C) float32, or of some frames: IoU of each class's mask with that in the frame before.

        1 where the class is in neither frame, 0 where it is in one of them; NaN in the first frame and where not known yet.
        """
        return np.where(self._is_due[frames, None], UNKNOWN, self._overlaps[frames])

    def _next_due(self, start: int) -> int | None:
        for first in (start, 0):
            due = self._is_due[first:]
            if len(due) and due[position := int(due.argmax())]:
                return first + position
        return None

    def _read(self, frame_index: int) -> np.ndarray | None:
        every = slice(None, None, SUBSAMPLING)
        try:
            return self._column_of[self._label_maps[frame_index, every, every].ravel()]
        except ProjectError:
            return None

    def _compare(self, frame_index: int, before: np.ndarray | None, columns: np.ndarray | None) -> None:
        areas = overlaps = np.full(self._areas.shape[1], np.nan)
        if columns is not None:
            count = len(areas) + 1
            area = np.bincount(columns, minlength=count)
            areas = area[1:] / len(columns)
            if before is not None:
                shared = np.bincount(columns[columns == before], minlength=count)
                union = area + np.bincount(before, minlength=count) - shared
                overlaps = np.where(union > 0, shared / np.maximum(union, 1), 1)[1:]
        self._areas[frame_index], self._overlaps[frame_index] = areas, overlaps
