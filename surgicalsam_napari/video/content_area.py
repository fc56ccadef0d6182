"""The content area of a video: the part of the picture that the endoscope fills; outside it lies a black border.

Every usual content area is convex: a circle, a circle cut by the frame, a rectangle, a rectangle with round or cut corners.
So it is found as an intersection of half-planes, each bounded by a tangent to the pixels that are bright in any of a few
frames. A tangent counts only if the picture ends there with a step in brightness. What is uncertain stays inside.
(The library torchcontentarea, Budd et al. 2022, looks for circles alone, and in one image at a time.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image
from scipy.ndimage import binary_erosion, binary_opening, label

DIRECTIONS = 64  # tangents to a circle leave 0.12 % of its radius outside the circle, at most
LONGEST_SIDE = 480  # cells; frames are reduced to this or a little more, which averages noise and compression artefacts
DARKEST_EDGE = 40  # of 255; a brighter edge of the frame is no black border
LEAST_CONTENT = 12  # levels above the border's
LEAST_DIM = 4  # levels above the border's; more than noise, and less than LEAST_CONTENT: tissue in the dark
DIM_PART = 0.05  # of what lies beyond a side; with more, the picture goes on there
LEAST_STEP = 15  # levels from 2 cells outside to 2 cells inside; dark tissue fades out more slowly
LEAST_CONTACT = 10  # cells of the content's outline at a tangent; a highlight in dark tissue touches it with fewer
PART_OF_CONTENT = 0.1  # of the largest bright region; logos and letters are smaller, a second picture is not
SMALLEST_AREA = 0.05  # of the frame; with less, the clip is (nearly) black
THINNEST_BORDER = 1 / 32  # of the longer side. Thinner strips come from digitising; datasets label instruments through them


@dataclass(frozen=True)
class Side:
    """A half-plane: x cos(angle) + y sin(angle) <= distance, in pixels from the frame's upper left corner, y downwards.

    Attributes
    ----------
    angle : radians; 0 is a limit on the right, pi / 2 one at the bottom
    """

    angle: float
    distance: float


@dataclass(frozen=True)
class ContentArea:
    """The pixels inside all `sides`; without any, the whole frame.

    Attributes
    ----------
    size : (H, W) of the frame
    """

    size: tuple[int, int]
    sides: tuple[Side, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether the frame has no border."""
        return not self.sides

    @cached_property
    def mask(self) -> np.ndarray:
        """(H, W) bool, read-only: True inside."""
        first, last = self._row_spans
        columns = np.arange(self.size[1]) + 0.5
        mask = (columns >= first[:, None]) & (columns <= last[:, None])
        mask.flags.writeable = False
        return mask

    @cached_property
    def bounding_box(self) -> tuple[int, int, int, int]:
        """(top, left, bottom, right) of the area; bottom and right are exclusive."""
        rows, columns = (np.flatnonzero(self.mask.any(axis=axis)) for axis in (1, 0))
        return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1

    @cached_property
    def border_share(self) -> float:
        """The share of the frame outside the area, 0 to 1."""
        return 0.0 if self.is_whole else 1.0 - float(self.mask.mean())

    @property
    def _row_spans(self) -> tuple[np.ndarray, np.ndarray]:
        """(H,) and (H,): the smallest and the largest x inside, for the middle of each row."""
        height, width = self.size
        y = np.arange(height) + 0.5
        first, last = np.zeros(height), np.full(height, float(width))
        for side in self.sides:
            along, across = np.cos(side.angle), np.sin(side.angle)
            left_over = side.distance - across * y
            if abs(along) < 1e-9:
                last[left_over < 0] = -1.0
            elif along > 0:
                last = np.minimum(last, left_over / along)
            else:
                first = np.maximum(first, left_over / along)
        return first, last


def find_content_area(frames: Iterable[np.ndarray], size: tuple[int, int]) -> ContentArea:
    """The content area of the frames of one video; the whole frame if there is no clear black border.

    Parameters
    ----------
    frames : a few, (H, W, 3) uint8, from all over the video: tissue that is dark in one is bright in another
    size : (H, W)
    """
    whole = ContentArea(size)
    factor = max(1, max(size) // LONGEST_SIDE)
    brightest = _brightest(frames, factor)
    if brightest is None or min(brightest.shape) < 16:
        return whole
    edge = np.concatenate([brightest[[0, -1]].ravel(), brightest[:, [0, -1]].ravel()]).astype(np.float32)
    border_level = float(np.percentile(edge, 5))
    if border_level > DARKEST_EDGE:
        return whole
    is_bright = brightest > border_level + LEAST_CONTENT
    content = _large_regions(is_bright)
    if content.mean() < SMALLEST_AREA:
        return whole
    dark_edge = edge[edge <= border_level + LEAST_CONTENT]
    noise = float(np.median(np.abs(np.diff(dark_edge))))  # from cell to cell: dim tissue is smoother
    is_dim = ~is_bright & (brightest > border_level + max(LEAST_DIM, 4 * noise))
    area = ContentArea(size, tuple(_sides(brightest.astype(np.float32), content, is_dim, factor)))
    return area if _is_border(area) else whole


def _brightest(frames: Iterable[np.ndarray], factor: int) -> np.ndarray | None:
    """(h, w) uint8: the brightest channel of all frames in each cell of factor x factor pixels; None without frames."""
    brightest = None
    for frame in frames:
        reduced = np.asarray(Image.fromarray(frame).reduce(factor)).max(axis=2)
        brightest = reduced if brightest is None else np.maximum(brightest, reduced)
    return brightest


def _large_regions(bright: np.ndarray) -> np.ndarray:
    """`bright` without thin lines and small regions, such as letters and logos on the border."""
    regions, count = label(binary_opening(bright, np.ones((3, 3))))
    cells = np.bincount(regions.ravel(), minlength=count + 1)
    cells[0] = 0
    return (cells >= max(1.0, PART_OF_CONTENT * cells.max()))[regions]


def _sides(brightest: np.ndarray, content: np.ndarray, is_dim: np.ndarray, factor: int) -> Iterator[Side]:
    """The tangents to the content at which the picture ends with a step, and beyond which lies even darkness.

    Parameters
    ----------
    brightest : (h, w) float32
    content : (h, w) bool
    is_dim : (h, w) bool, neither bright nor black
    factor : pixels per cell
    """
    cells = np.indices(content.shape).reshape(2, -1).T.astype(np.float32) + 0.5
    outline = np.argwhere(content & ~binary_erosion(content))  # with the cells at the frame's edge
    for angle in np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS):
        normal = np.array([np.sin(angle), np.cos(angle)])
        reach = (outline + 0.5) @ normal
        farthest = reach.max()
        contact = outline[reach >= farthest - 2]
        if len(contact) < LEAST_CONTACT or _step(brightest, contact, normal) < LEAST_STEP:
            continue
        beyond = is_dim.ravel()[cells @ normal.astype(np.float32) > farthest + 3]
        if beyond.size and beyond.mean() < DIM_PART:
            # a cell has a size, and the edge may be soft
            yield Side(float(angle), float(factor * (farthest + np.abs(normal).sum() / 2 + 1)))


def _step(brightest: np.ndarray, contact: np.ndarray, normal: np.ndarray) -> float:
    """By how much the picture is brighter inside these cells than outside them: the median, in levels."""
    inside, outside = (np.rint(contact + offset * normal).astype(int) for offset in (-2, 2))
    last = np.array(brightest.shape) - 1
    in_frame = ((outside >= 0) & (outside <= last)).all(axis=1)
    if not in_frame.any():
        return 0.0
    inside, outside = inside[in_frame].clip(0, last), outside[in_frame]
    return float(np.median(brightest[tuple(inside.T)] - brightest[tuple(outside.T)]))


def _is_border(area: ContentArea) -> bool:
    """Whether the sides cut off a border: not thin everywhere, nor at a single corner of the frame (a dark shaft)."""
    height, width = area.size
    corners = np.array([(0, 0), (width, 0), (0, height), (width, height)])
    beyond = [corners @ (np.cos(side.angle), np.sin(side.angle)) - side.distance for side in area.sides]  # pixels
    thickest = max((float(distances.max()) for distances in beyond), default=0.0)
    corners_outside = np.count_nonzero(np.max(beyond, axis=0) > 0) if beyond else 0
    is_large = area.mask.mean() >= SMALLEST_AREA
    return bool(is_large and corners_outside >= 2 and thickest > THINNEST_BORDER * max(area.size))
