"""The mask of an instrument in a frame where it is missing, from the frames before and after the gap."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np

from surgicalsam_napari.propagation.flow import FlowTracker, reduced

MOST_MISSING = 5  # frames: longer gaps are not filled
LEAST_AGREEMENT = 0.6  # IoU of the masks that the two sides give


def mask_in_gap(
    picture_of: Callable[[int], np.ndarray], frame_index: int, ends: Mapping[int, np.ndarray]
) -> np.ndarray | None:
    """The mask, (H, W) bool, where those of both ends agree after they were carried into the frame; None if they do not.

    Parameters
    ----------
    picture_of : (H, W, 3) uint8 RGB by frame index
    ends : by frame index, the masks (H, W) bool before and after the frame
    """
    carried = []
    for end, mask in ends.items():
        tracker = FlowTracker(picture_of(end))
        step = 1 if frame_index > end else -1
        for index in range(end + step, frame_index + step, step):
            found = tracker.advance(picture_of(index))
        carried.append(found.carried(reduced(mask.astype(np.float32), tracker.size)))
    inside = [field > 0.5 for field in carried]
    either = np.count_nonzero(inside[0] | inside[1])
    if not either or np.count_nonzero(inside[0] & inside[1]) < LEAST_AGREEMENT * either:
        return None
    size = next(iter(ends.values())).shape
    both = cv2.resize(np.minimum(*carried), size[::-1], interpolation=cv2.INTER_LINEAR)
    return both > 0.5
