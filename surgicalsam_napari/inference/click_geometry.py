"""What a click says about a mask by its place alone: how large the wrong region is, and where the border belongs.

A person clicks in the middle of what is wrong. So the wrong region reaches as far beyond the click as the mask's border is
on this side, and the border belongs there. On real video this is worth more than a decoder's answer: annotated borders
often lie beside the edges of the picture.
"""

from __future__ import annotations

import cv2
import numpy as np

SPREAD = 2.0  # how far the border moves along with the clicked place, in units of the click's reach
SMOOTHNESS = 0.3  # details of a proposal finer than this are noise, in units of its inscribed radius at the click


def reach_of(mask: np.ndarray, row: int, column: int, is_positive: bool) -> float:
    """Pixels from a place in (H, W) to the nearest pixel that already is as the click says; inf if there is none."""
    wrong = ~mask if is_positive else mask
    if wrong.all():
        return float("inf")
    return float(_depths(wrong)[row, column])


def inscribed_radius(region: np.ndarray, row: int, column: int) -> float:
    """Pixels from a place in a region (H, W) to the nearest pixel outside; the border of the frame is no end."""
    return reach_of(region, row, column, is_positive=False)


def disc(shape: tuple[int, int], row: float, column: float, radius: float) -> tuple[tuple[slice, slice], np.ndarray]:
    """The window of a disc in a frame (H, W), and which pixels in it belong to the disc; bool."""
    window, rows, columns = _offsets(shape, row, column, radius)
    return window, rows**2 + columns**2 <= radius**2


def with_moved_border(mask: np.ndarray, row: int, column: int, is_positive: bool, reach: float) -> np.ndarray:
    """The mask after its border near a click moved to as far beyond the click as it was before.

    The signed distance to the border changes by twice the reach at the click, and by less around it, as a Gaussian of
    `SPREAD` times the reach. All pixels nearer to the click than `reach` become as the click says.

    Parameters
    ----------
    mask : (H, W) bool
    reach : pixels from the click to the nearest pixel that already is as the click says

    Returns
    -------
    (H, W) bool
    """
    sigma = SPREAD * reach
    # beyond it the distance changes by less than a pixel, and no border can move
    radius = sigma * np.sqrt(2 * np.log(max(2 * reach, np.e)))
    window, rows, columns = _offsets(mask.shape, row, column, radius)
    change = 2 * reach * np.exp(-(rows**2) / (2 * sigma**2)) * np.exp(-(columns**2) / (2 * sigma**2))
    wider, _, _ = _offsets(mask.shape, row, column, radius + 2 * reach)
    inner = tuple(slice(part.start - out.start, part.stop - out.start) for part, out in zip(window, wider, strict=True))
    distance = _signed_distance(mask[wider])[inner]
    moved = mask.copy()
    moved[window] = distance + change > 0 if is_positive else distance - change > 0
    return moved


def smoothed(region: np.ndarray, row: int, column: int, radius: float) -> np.ndarray:
    """The part of a region that contains a place, without holes, gaps and threads finer than `SMOOTHNESS` of the radius."""
    size = int(SMOOTHNESS * radius)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * size + 1, 2 * size + 1))
    padded = np.pad(region, 2 * size + 1, mode="edge").astype(np.uint8)  # the region goes on beyond the frame
    closed = cv2.morphologyEx(cv2.morphologyEx(padded, cv2.MORPH_CLOSE, kernel), cv2.MORPH_OPEN, kernel)
    solid = closed[2 * size + 1 : -2 * size - 1, 2 * size + 1 : -2 * size - 1]
    window, inside = disc(region.shape, row, column, radius)
    solid[window][inside] = 1
    return connected_part(solid > 0, row, column)


def connected_part(region: np.ndarray, row: int, column: int) -> np.ndarray:
    """The connected part of a region (H, W) bool that contains a place; empty if the place is outside."""
    if not region[row, column]:
        return np.zeros_like(region)
    _, parts = cv2.connectedComponents(region.astype(np.uint8), connectivity=4)
    return parts == parts[row, column]


def _offsets(
    shape: tuple[int, ...], row: float, column: float, radius: float
) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """The window within `radius`, and in it the rows' (h, 1) and the columns' (1, w) distances from the place."""
    top, left = max(int(row - radius), 0), max(int(column - radius), 0)
    bottom, right = min(int(row + radius) + 2, shape[0]), min(int(column + radius) + 2, shape[1])
    rows, columns = np.ogrid[top:bottom, left:right]
    return (slice(top, bottom), slice(left, right)), rows - np.float32(row), columns - np.float32(column)


def _depths(region: np.ndarray) -> np.ndarray:
    return cv2.distanceTransform(region.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)


def _signed_distance(mask: np.ndarray) -> np.ndarray:
    """(H, W) pixels to the border, positive inside; minus or plus a very large number if there is no border."""
    if mask.all() or not mask.any():
        return np.full(mask.shape, np.float32(1e6 if mask.all() else -1e6))
    return _depths(mask) - _depths(~mask)
