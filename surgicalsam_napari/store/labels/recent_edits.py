"""The last edits of a viewer, so that its undo restores a frame completely: pixels, painted record and provenance."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from surgicalsam_napari.store.provenance import is_by_person, predicted_provenance

Shown = Callable[[np.ndarray, np.ndarray], np.ndarray]
KEPT_EDITS = 20_000  # a stroke is an edit for each mouse move
KEPT_BYTES = 64 * 2**20


@dataclass(frozen=True)
class FrameState:
    """A frame before or after an edit.

    Attributes
    ----------
    labels : (H, W) uint8
    painted : (H, W) bool; None if nobody painted
    provenance : (C,) uint8
    presence : (C,) float32, NaN without a prediction
    class_ids : C class ids
    numbers : (H, W) uint8, the numbers of the instances; None without any
    numbers_checksum : it changes with `numbers`
    """

    labels: np.ndarray
    painted: np.ndarray | None
    provenance: np.ndarray
    presence: np.ndarray
    class_ids: tuple[int, ...]
    numbers: np.ndarray | None = None
    numbers_checksum: int = 0

    @property
    def painted_pixels(self) -> int:
        return 0 if self.painted is None else int(np.count_nonzero(self.painted))


@dataclass(frozen=True)
class RecentEdit:
    """One assignment by a viewer to one frame: what it replaced, and how to see whether it is still the last edit.

    Attributes
    ----------
    pixels : (N,) the pixels that were set, as ascending positions in the flattened frame
    old_labels : (N,) uint8
    old_painted : (N,) bool
    provenance_before, provenance_after : (C,) uint8
    presence : (C,) float32, at the time of the edit
    class_ids : C class ids, at the time of the edit
    painted_pixels : number of painted pixels of the frame after the edit
    old_numbers : (N,) uint8, of the instances; None without any
    numbers_checksum : of the frame after the edit
    """

    frame_index: int
    pixels: np.ndarray
    old_labels: np.ndarray
    old_painted: np.ndarray
    provenance_before: np.ndarray
    provenance_after: np.ndarray
    presence: np.ndarray
    class_ids: tuple[int, ...]
    painted_pixels: int
    old_numbers: np.ndarray | None = None
    numbers_checksum: int = 0

    @property
    def byte_count(self) -> int:
        arrays = (self.pixels, self.old_labels, self.old_painted, self.old_numbers)
        return sum(array.nbytes for array in arrays if array is not None)

    def is_last_of(self, now: FrameState) -> bool:
        """Whether no person has changed the frame since. Predictions may have: they never touch painted pixels."""
        width = len(self.class_ids)  # classes may have been added since
        rows = self.provenance_after, now.provenance[:width]
        then, today = (np.where(is_by_person(row), row, 0) for row in rows)
        is_same = self.class_ids == now.class_ids[:width] and np.array_equal(then, today)
        return is_same and now.painted_pixels == self.painted_pixels

    def undone(self, now: FrameState) -> FrameState:
        """The frame without this edit. Classes that were predicted in the meantime are predictions then."""
        assert now.painted is not None
        labels, painted = now.labels.copy(), now.painted.copy()
        labels.ravel()[self.pixels] = self.old_labels
        painted.ravel()[self.pixels] = self.old_painted
        width = len(self.class_ids)
        provenance = now.provenance.copy()
        provenance[:width] = self.provenance_before
        is_new = ~np.isclose(now.presence[:width], self.presence, equal_nan=True) & ~is_by_person(self.provenance_before)
        predicted = predicted_provenance(labels, now.presence, now.class_ids)
        provenance[:width][is_new] = predicted[:width][is_new]
        return FrameState(labels, painted, provenance, now.presence, now.class_ids, self._old_numbers_in(now))

    def _old_numbers_in(self, now: FrameState) -> np.ndarray | None:
        """(H, W) uint8: the numbers before the edit; None if there were none, or they were linked again since."""
        if self.old_numbers is None or now.numbers_checksum != self.numbers_checksum:
            return None
        numbers = np.zeros(now.labels.shape, np.uint8) if now.numbers is None else now.numbers.copy()
        numbers.ravel()[self.pixels] = self.old_numbers
        return numbers


class RecentEdits:
    """The edits of one viewer, the last one at the end; the oldest are forgotten."""

    def __init__(self) -> None:
        self._edits: deque[RecentEdit] = deque()
        self._bytes = 0

    def add(self, frame_index: int, region: tuple, set_pixels: np.ndarray, before: FrameState, after: FrameState) -> None:
        """Remember an edit.

        Parameters
        ----------
        region : key into the (H, W) frame
        set_pixels : shaped like `frame[region]`, bool
        """
        pixels, _ = _positions(before.labels.shape, region, set_pixels)
        edit = RecentEdit(
            frame_index,
            pixels,
            old_labels=before.labels.ravel()[pixels],
            old_painted=np.zeros(len(pixels), bool) if before.painted is None else before.painted.ravel()[pixels],
            provenance_before=before.provenance,
            provenance_after=after.provenance,
            presence=before.presence,
            class_ids=before.class_ids,
            painted_pixels=after.painted_pixels,
            old_numbers=None if before.numbers is None else before.numbers.ravel()[pixels],
            numbers_checksum=after.numbers_checksum,
        )
        self._edits.append(edit)
        self._bytes += edit.byte_count
        while len(self._edits) > KEPT_EDITS or self._bytes > KEPT_BYTES:
            self._bytes -= self._edits.popleft().byte_count

    def take_back(
        self,
        frame_index: int,
        region: tuple,
        values: np.ndarray,
        chosen: np.ndarray,
        now: FrameState,
        shown_at: Shown | None = None,
    ) -> RecentEdit | None:
        """The last edit, if this assignment sets exactly its pixels to what they were before; it is forgotten then.

        The undo of napari arrives like this, and so does a brush stroke that is aborted.

        Parameters
        ----------
        values : shaped like `frame[region]`, uint8
        chosen : shaped like `values`, bool: the pixels to set
        shown_at : for parts: what the viewer shows of labels, (N,) uint8, at the positions (N,); by default the labels
        """
        last = self._edits[-1] if self._edits else None
        if last is None or last.frame_index != frame_index or np.count_nonzero(chosen) != len(last.pixels):
            return None
        pixels, order = _positions(now.labels.shape, region, chosen)
        before = last.old_labels if shown_at is None else shown_at(last.pixels, last.old_labels)
        is_same = np.array_equal(pixels, last.pixels) and np.array_equal(values[chosen][order], before)
        if not is_same or not last.is_last_of(now):
            return None
        self._bytes -= self._edits.pop().byte_count
        return last


def _positions(shape: tuple[int, ...], region: tuple, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) the chosen pixels of a region, as ascending positions in the flattened frame; and (N,) their order in it."""
    rows, columns = (np.broadcast_to(axis, shape)[region][chosen] for axis in np.ogrid[: shape[0], : shape[1]])
    pixels = rows * shape[1] + columns
    order = np.argsort(pixels, kind="stable")  # already in order for a box
    return pixels[order], order
