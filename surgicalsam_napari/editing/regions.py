"""Regions of one class: found under a click, and followed from frame to frame."""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from typing import Protocol

import numpy as np
from skimage.measure import label
from skimage.segmentation import flood

from surgicalsam_napari.errors import ProjectError

EIGHT_NEIGHBOURS = 2  # scikit-image's `connectivity`: pixels that touch at a corner belong together
# Two instruments of one size that touch and have got the same class overlap with one of them by half at the most: stopping
# there costs a click, going on would take the other one along. Of instruments between neighbouring frames, 93 % pass.
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
            f"The frame has {height} rows and {width} columns; got row {row}, column {column}. Choose a pixel."
        )
    if not label_map[row, column]:
        raise ProjectError(f"Row {row}, column {column} is background, and a region is of a class. Click on an instrument.")
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

    Each frame is read when it is due. A direction ends at the first frame in which nothing overlaps enough with the region
    in the frame before.

    Parameters
    ----------
    region : (H, W) bool, in `start_frame`, which is not yielded
    frame_indices : where to follow it, in any order; where they leave frames out, neighbours are those among them
    class_ids : the region must be of one of these; by default of any class, since a wrong class comes and goes
    smallest_overlap : IoU with the region in the frame before, 0 to 1

    Yields
    ------
    frame index, and the region in it, (H, W) bool
    """
    for direction in directions_from(start_frame, frame_indices):
        followed = region
        for frame_index in direction:
            found = matching_region(label_maps[frame_index], followed, class_ids, smallest_overlap)
            if found is None:
                break
            yield frame_index, found
            followed = found


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
    """The region of a neighbouring frame in this one, (H, W) bool; None if nothing overlaps with it enough.

    That is the connected region of one class that overlaps most, and every other one that lies within for the most part: an
    instrument that is given two classes at once is followed as one.

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
    found = np.zeros(label_map.shape, bool)
    found[window] = belongs[components]
    return found


def window_of(mask: np.ndarray, margin: int = 0) -> Window | None:
    """The smallest window with all of a mask, and `margin` pixels more where the frame has them; None for an empty mask.

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
