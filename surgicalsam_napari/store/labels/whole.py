"""The instruments in which parts lie: a part is shown and written only inside an instrument that has it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import numpy as np

from surgicalsam_napari.instruments import ClassSet

KEPT_FRAMES = 16  # clipped frames in memory


class Frames(Protocol):
    """Labels that are read frame by frame: a `LabelStore`."""

    def frame(self, frame_index: int) -> np.ndarray: ...

    def last_known(self, frame_index: int) -> np.ndarray: ...


class Whole:
    """The labels of the instruments, seen from those of their parts.

    Parts outside stay on disk: if an instrument grows again, they are shown again.

    Parameters
    ----------
    labels : of the instruments
    classes : gives the present classes of the instruments, with their parts
    """

    def __init__(self, labels: Frames, classes: Callable[[], ClassSet]) -> None:
        self.labels = labels
        self._classes = classes
        self._kept: OrderedDict[int, tuple[np.ndarray, np.ndarray, ClassSet, np.ndarray]] = OrderedDict()

    def may_hold(self, frame_index: int, values: np.ndarray | int, region: tuple = ()) -> np.ndarray:
        """Shaped like the region, bool: where these values may be: a part inside an instrument that has it, and 0 inside
        every instrument that has parts.

        Parameters
        ----------
        values : ids of parts and 0, shaped like the region, uint8; or one for all pixels
        region : key into the (H, W) frame; by default the whole frame
        """
        return self._may_hold(self.labels.frame(frame_index)[region], np.asarray(values, np.uint8))

    def clipped(self, frame_index: int, parts: np.ndarray) -> np.ndarray:
        """(H, W) uint8, read-only: the parts of a frame, with background where they are outside their instrument."""
        if not parts.any():
            return parts
        whole, classes = self.labels.frame(frame_index), self._classes()
        kept = self._kept.pop(frame_index, None)
        if kept is None or kept[0] is not parts or kept[1] is not whole or kept[2] is not classes:
            clipped = np.where(self._may_hold(whole, parts), parts, np.uint8(0))
            clipped.flags.writeable = False
            kept = parts, whole, classes, clipped
        self._kept[frame_index] = kept
        while len(self._kept) > KEPT_FRAMES:
            self._kept.popitem(last=False)
        return kept[-1]

    def clipped_last_known(self, frame_index: int, parts: np.ndarray) -> np.ndarray:
        """As `clipped`, by the instruments as they were read last."""
        return np.where(self._may_hold(self.labels.last_known(frame_index), parts), parts, np.uint8(0))

    def shown_at(self, frame_index: int, pixels: np.ndarray, parts: np.ndarray) -> np.ndarray:
        """(N,) uint8: what is shown of parts, (N,) uint8, at positions (N,) in the flattened frame."""
        whole = self.labels.frame(frame_index).ravel()[pixels]
        return np.where(self._may_hold(whole, parts), parts, np.uint8(0))

    def _may_hold(self, whole: np.ndarray, values: np.ndarray) -> np.ndarray:
        allowed = np.zeros((256, 256), bool)  # by class id and part id
        for instrument in self._classes():
            if instrument.parts:
                allowed[instrument.id, [0, *instrument.parts]] = True
        return allowed.ravel().take(whole.astype(np.uint16) * np.uint16(256) + values)
