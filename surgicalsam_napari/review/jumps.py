"""Measures how far masks jump between neighbouring frames; reads a long video step by step."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol

import numpy as np

from surgicalsam_napari.errors import ProjectError

SUBSAMPLING = 4  # every fourth pixel in both directions is enough to measure overlap
UNKNOWN = np.float32(np.nan)


class LabelMaps(Protocol):
    """Label maps (T, H, W) uint8, such as a LabelStore or an array; indexed as `label_maps[frame, rows, columns]`."""

    def __getitem__(self, key: tuple[int, slice, slice], /) -> np.ndarray: ...


class MaskJumps:
    """Overlap of each class's mask with that in the previous frame, and the mask's area.

    `fill` reads all unknown frames once, every fourth pixel in both directions. It may run in the background, and any thread
    may call `invalidate` at the same time. A frame of 1080 x 1920 takes about 4 ms, so 100,000 frames take 7 minutes.

    Parameters
    ----------
    label_maps : (T, H, W) uint8 class ids
    frame_count : T
    class_ids : C class ids, in the order of the tables' columns
    """

    def __init__(self, label_maps: LabelMaps, frame_count: int, class_ids: Sequence[int]) -> None:
        self._label_maps = label_maps
        self._column_of = np.zeros(256, np.intp)  # 0 for background and for labels without a column
        self._column_of[list(class_ids)] = np.arange(1, len(class_ids) + 1)
        self._areas = np.full((frame_count, len(class_ids)), UNKNOWN)
        self._overlaps = np.full((frame_count, len(class_ids)), UNKNOWN)
        self._is_due = np.ones(frame_count, bool)  # row t: area in t and overlap of t with t - 1 must be read

    @property
    def left(self) -> int:
        """Number of frames that `fill` still has to compare."""
        return int(np.count_nonzero(self._is_due))

    def invalidate(self, frame_index: int) -> None:
        """Mark a frame whose labels changed, so that `fill` reads it again."""
        self._is_due[frame_index : frame_index + 2] = True

    def fill(self, start: int = 0) -> Generator[int, None, None]:
        """Read all unknown frames, from `start` to the last frame, then from the first.

        A frame with damaged labels stays unknown until it is invalidated.

        Yields
        ------
        the index of each frame after its comparison with the previous frame
        """
        read_last: tuple[int, np.ndarray | None] = (-1, None)
        while (frame_index := self._next_due(start)) is not None:
            # clear the flag before reading, so that a change during the reading sets it again
            self._is_due[frame_index] = False
            before = None
            if frame_index > 0:
                is_cached = read_last[0] == frame_index - 1 and not self._is_due[frame_index - 1]
                before = read_last[1] if is_cached else self._read(frame_index - 1)
            columns = self._read(frame_index)
            self._compare(frame_index, before, columns)
            read_last = (frame_index, columns)
            start = frame_index + 1
            yield frame_index

    def areas(self, frames: slice = slice(None)) -> np.ndarray:
        """(T, C) float32, or (N, C) of `frames`: share of the frame that each class covers; NaN if not read yet."""
        return np.where(self._is_due[frames, None], UNKNOWN, self._areas[frames])

    def overlaps(self, frames: slice = slice(None)) -> np.ndarray:
        """(T, C) float32, or (N, C) of `frames`: IoU of each class's mask with that in the previous frame.

        1 if the class is in neither frame, 0 if it is in one of them; NaN in the first frame and if not read yet.
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
