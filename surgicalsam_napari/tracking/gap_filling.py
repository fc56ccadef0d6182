"""The mask of an instrument in a frame where it is missing, from the frames before and after the gap."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np

from surgicalsam_napari.propagation.flow import Correspondence, FlowTracker, reduced

MOST_MISSING = 5  # frames: longer gaps are not filled
LEAST_AGREEMENT = 0.6  # IoU of the masks that the two sides give


class FlowInto:
    """Masks of frames around one frame, carried into it; the flow from each of these frames is computed once."""

    def __init__(self, picture_of: Callable[[int], np.ndarray], frame_index: int) -> None:
        self._picture_of, self._frame_index = picture_of, frame_index
        self._found: dict[int, tuple[Correspondence, tuple[int, int]]] = {}

    def mask_in_gap(self, ends: Mapping[int, np.ndarray]) -> np.ndarray | None:
        """The mask, (H, W) bool, where those of both ends agree after they were carried; None if they do not.

        Parameters
        ----------
        ends : by frame index, the masks (H, W) bool before and after the frame
        """
        carried = [self._carried(end, mask) for end, mask in ends.items()]
        inside = [field > 0.5 for field in carried]
        either = np.count_nonzero(inside[0] | inside[1])
        if not either or np.count_nonzero(inside[0] & inside[1]) < LEAST_AGREEMENT * either:
            return None
        size = next(iter(ends.values())).shape
        both = cv2.resize(np.minimum(*carried), size[::-1], interpolation=cv2.INTER_LINEAR)
        return both > 0.5

    def _carried(self, end: int, mask: np.ndarray) -> np.ndarray:
        if end not in self._found:
            tracker = FlowTracker(self._picture_of(end))
            step = 1 if self._frame_index > end else -1
            for index in range(end + step, self._frame_index + step, step):
                found = tracker.advance(self._picture_of(index))
            self._found[end] = found, tracker.size
        found, size = self._found[end]
        return found.carried(reduced(mask.astype(np.float32), size))
