"""Dense optical flow: where each pixel of a frame was in an earlier or later frame, and how well the two pictures agree.

The flow is OpenCV's dense inverse search (Kroeger et al., ECCV 2016).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

LARGEST_SIDE = 720  # pixels; larger frames are reduced. On real video 576 is as good, 432 costs one point of IoU
SMALLEST_SIDE = 16  # pixels; the flow needs more than its patch of 8
THUMBNAIL_SIDE = 160  # pixels; enough to see whether the scene changes
LEAST_CORRELATION = 0.8  # of neighbouring pictures after the flow; real video at a sixteenth of its rate keeps 0.89
RESIDUAL_SIGMA = 4.5  # pixels over which the residual is averaged


@dataclass(frozen=True)
class Correspondence:
    """Where each pixel of a frame is in another frame, the anchor; both at the working size (h, w).

    Attributes
    ----------
    positions : (h, w, 2) float32, column and row in the anchor
    residual : (h, w) float32, how much the colours differ there, in grey levels
    """

    positions: np.ndarray
    residual: np.ndarray

    def carried(self, field: np.ndarray) -> np.ndarray:
        """A field of the anchor, (h, w) float32, carried into the frame."""
        return sampled(field, self.positions)


class FlowTracker:
    """Follows the pixels of one frame, the anchor, from frame to frame.

    The steps between neighbouring frames are joined to one map into the anchor, so that nothing is blurred by repeated
    interpolation. At each frame the map is refined by the flow straight to the anchor, and each pixel keeps the
    one that agrees better with the anchor's picture. This stops the drift that steps add up to.

    Parameters
    ----------
    anchor : (H, W, 3) uint8, RGB
    """

    def __init__(self, anchor: np.ndarray) -> None:
        self.size = working_size(anchor.shape[:2])
        self._anchor = self._previous = _Picture(reduced(anchor, self.size))
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._grid = pixel_grid(self.size)
        self._positions = self._grid

    @property
    def anchor(self) -> np.ndarray:
        """The anchor at the working size, (h, w, 3) uint8."""
        return self._anchor.colours

    @property
    def picture(self) -> np.ndarray:
        """The latest frame at the working size, (h, w, 3) uint8."""
        return self._previous.colours

    def advance(self, frame: np.ndarray) -> Correspondence:
        """Follow the pixels into the next frame, (H, W, 3) uint8 RGB."""
        picture = _Picture(reduced(frame, self.size))
        step = self._flow.calc(picture.grey, self._previous.grey, None)
        joined = sampled(self._positions, self._grid + step)
        straight = self._grid + self._flow.calc(picture.grey, self._anchor.grey, joined - self._grid)
        residuals = [self._residual(picture, positions) for positions in (joined, straight)]
        is_straight = residuals[1] < residuals[0]
        self._positions = np.where(is_straight[..., None], straight, joined)
        self._previous = picture
        return Correspondence(self._positions, np.where(is_straight, residuals[1], residuals[0]))

    def _residual(self, picture: _Picture, positions: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(
            difference(picture.colours, sampled(self._anchor.colours, positions)), (0, 0), RESIDUAL_SIGMA
        )


class _Picture:
    """A frame at the working size: colours, (h, w, 3) uint8, and grey, (h, w) uint8."""

    def __init__(self, colours: np.ndarray) -> None:
        self.colours = colours
        self.grey = cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY)


def scene_changes(previous: np.ndarray, frame: np.ndarray) -> bool:
    """Whether another scene begins between two neighbouring frames, (H, W, 3) uint8 RGB: no flow explains the picture.

    A black frame, or any frame without a picture, counts as another scene.
    """
    size = working_size(frame.shape[:2], THUMBNAIL_SIDE)
    before, after = (cv2.cvtColor(reduced(image, size), cv2.COLOR_RGB2GRAY) for image in (previous, frame))
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(after, before, None)
    moved = sampled(before, pixel_grid(after.shape) + flow)
    if min(moved.std(), after.std()) < 1:
        return bool(max(before.std(), after.std()) >= 1)
    return float(np.corrcoef(moved.ravel(), after.ravel())[0, 1]) < LEAST_CORRELATION


def working_size(size: tuple[int, int], largest_side: int = LARGEST_SIDE) -> tuple[int, int]:
    """The size (h, w) at which the flow of frames of a size (H, W) is computed."""
    share = min(1.0, largest_side / max(size))
    return max(round(size[0] * share), SMALLEST_SIDE), max(round(size[1] * share), SMALLEST_SIDE)


def reduced(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image, (H, W) or (H, W, C), at a size (h, w)."""
    if image.shape[:2] == size:
        return np.ascontiguousarray(image)
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)


def pixel_grid(size: tuple[int, int]) -> np.ndarray:
    """(h, w, 2) float32: column and row of each pixel."""
    rows, columns = np.indices(size, np.float32)
    return np.stack([columns, rows], axis=2)


def difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(h, w) float32: the mean difference of the three colours of two pictures, (h, w, 3) uint8."""
    return cv2.transform(cv2.absdiff(first, second).astype(np.float32), np.full((1, 3), 1 / 3, np.float32))


def sampled(image: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """An image, (h, w) or (h, w, C), at positions, (h', w', 2): column and row; outside it continues with its border."""
    return cv2.remap(image, positions, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
