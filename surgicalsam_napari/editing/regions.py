"""Regions of one class: find the region under a click, and follow it from frame to frame."""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from typing import Protocol

import numpy as np
from skimage.measure import label
from skimage.segmentation import flood

from surgicalsam_napari.errors import ProjectError

EIGHT_NEIGHBOURS = 2  # scikit-image's `connectivity`: pixels that touch at a corner are connected
# Two touching instruments of equal size and the same class overlap with one of them by at most half. Stopping there costs
# one click; continuing would include the other instrument. 93 % of instruments pass between neighbouring frames.
SMALLEST_OVERLAP = 0.5

Window = tuple[slice, slice]  # rows, columns


class LabelMaps(Protocol):
    """Label maps by frame index, such as a LabelStore, or a list of arrays."""

    def __getitem__(self, frame_index: int) -> np.ndarray: ...


def region_at(label_map: np.ndarray, row: int, column: int) -> np.ndarray:
    """The connected region (8 neighbours) of one class at a pixel.

    Parameters
    ----------
    label_map : (H, W) uint8

    Returns
    -------
    (H, W) bool

    Raises
    ------
    ProjectError
        the pixel is background or outside the frame
    """
    height, width = label_map.shape
    if not (0 <= row < height and 0 <= column < width):
        raise ProjectError(
            f"The frame has {height} rows and {width} columns; got row {row}, column {column}. Choose a pixel inside."
        )
    if not label_map[row, column]:
        raise ProjectError(
            f"A region must belong to a class, but row {row}, column {column} is background. Click on an instrument."
        )
    return flood(label_map, (row, column), connectivity=EIGHT_NEIGHBOURS)


def follow_region(
    label_maps: LabelMaps,
    start_frame: int,
    region: np.ndarray,
    frame_indices: Sequence[int],
    *,
    class_ids: Collection[int] | None = None,
    smallest_overlap: float = SMALLEST_OVERLAP,
) -> Generator[tuple[int, np.ndarray], None, None]:
    """Follow a region from `start_frame`, first through the later frames, then through the earlier ones.

    Each frame is read only when it is needed. A direction ends at the first frame in which no region overlaps enough with
    the region in the neighbouring frame before.

    Parameters
    ----------
    region : (H, W) bool, in `start_frame`, which is not yielded
    frame_indices : frames to follow it through, in any order; neighbours are the nearest of these frames
    class_ids : allowed classes of the region; by default any class, because a wrong class may change between frames
    smallest_overlap : smallest IoU with the region in the neighbouring frame before, 0 to 1

    Yields
    ------
    frame index, and the region in it, (H, W) bool
    """
    for direction in directions_from(start_frame, frame_indices):
        followed = region
        for frame_index in direction:
            match = matching_region(label_maps[frame_index], followed, class_ids, smallest_overlap)
            if match is None:
                break
            yield frame_index, match
            followed = match


def directions_from(start_frame: int, frame_indices: Sequence[int]) -> tuple[list[int], list[int]]:
    """The frames after `start_frame`, ascending, and those before it, descending."""
    distinct = sorted(set(frame_indices))
    return [index for index in distinct if index > start_frame], [index for index in distinct[::-1] if index < start_frame]


def matching_region(
    label_map: np.ndarray,
    region: np.ndarray,
    class_ids: Collection[int] | None = None,
    smallest_overlap: float = SMALLEST_OVERLAP,
) -> np.ndarray | None:
    """The region in this frame that matches a region of a neighbouring frame, (H, W) bool; None if the overlap is too small.

    It is the connected region of one class with the largest overlap, plus every region that lies mostly inside. So an
    instrument with two classes is followed as one.

    Parameters
    ----------
    label_map : (H, W) uint8
    region : (H, W) bool, in the neighbouring frame
    class_ids, smallest_overlap : as for `follow_region`
    """
    if class_ids is not None:
        label_map = np.where(np.isin(label_map, list(class_ids)), label_map, 0)
    window = window_of(label_map != 0)
    if window is None:
        return None
    components = label(label_map[window], connectivity=EIGHT_NEIGHBOURS)
    areas = np.bincount(components.ravel())
    shared = np.bincount(components[region[window]], minlength=len(areas))
    shared[0] = 0
    region_area = np.count_nonzero(region)
    belongs = 2 * shared > areas
    belongs[np.argmax(shared / (areas + region_area - shared))] = True
    belongs[0] = False
    overlap = shared[belongs].sum()
    union = areas[belongs].sum() + region_area - overlap
    if not overlap or overlap < smallest_overlap * union:
        return None
    match = np.zeros(label_map.shape, bool)
    match[window] = belongs[components]
    return match


def window_of(mask: np.ndarray, margin: int = 0) -> Window | None:
    """The smallest window that contains a mask, plus `margin` pixels inside the frame; None for an empty mask.

    Parameters
    ----------
    mask : (H, W) bool
    """
    spans = []
    for axis in (1, 0):
        occupied = np.flatnonzero(mask.any(axis=axis))
        if not len(occupied):
            return None
        spans.append(slice(max(int(occupied[0]) - margin, 0), int(occupied[-1]) + 1 + margin))
    return spans[0], spans[1]
