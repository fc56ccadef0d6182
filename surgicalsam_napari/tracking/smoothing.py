"""Smooth masks that flicker: where the neighbouring frames agree against a frame, at its uncertain borders."""

from __future__ import annotations

import cv2
import numpy as np

from surgicalsam_napari.propagation.flow import pixel_grid, reduced, sampled, working_size

FLOW_SIDE = 480  # pixels
BAND_SHARE = 0.01  # of the larger side: so near to a border, a pixel is uncertain


class Smoother:
    """Smooths label maps by those of the frame before and after, carried by dense flow.

    Parameters
    ----------
    size : (H, W) of the frames
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self._size, self._small = size, working_size(size, FLOW_SIDE)
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._grid = pixel_grid(self._small)
        radius = max(round(BAND_SHARE * max(size)), 1)
        self._kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)

    def grey(self, picture: np.ndarray) -> np.ndarray:
        """(h, w) uint8 at the working size, of (H, W, 3) uint8 RGB."""
        return cv2.cvtColor(reduced(picture, self._small), cv2.COLOR_RGB2GRAY)

    def smoothed(self, labels: np.ndarray, grey: np.ndarray, neighbours: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """(H, W) uint8: near a border of the labels, what both neighbours say where they agree.

        Parameters
        ----------
        labels : (H, W) uint8
        grey : of the frame
        neighbours : labels and grey of the frame before and of the frame after
        """
        first, second = (self._carried(other, grey, other_grey) for other, other_grey in neighbours)
        is_border = cv2.dilate(labels, self._kernel) != cv2.erode(labels, self._kernel)
        return np.where((first == second) & is_border, first, labels)

    def _carried(self, labels: np.ndarray, grey: np.ndarray, other_grey: np.ndarray) -> np.ndarray:
        """The labels of another frame where its pixels are in this one; outlines move by parts of a pixel."""
        positions = self._grid + self._flow.calc(grey, other_grey, None)
        scale = np.array([self._size[1] / self._small[1], self._size[0] / self._small[0]], np.float32)
        full = cv2.resize((positions + 0.5) * scale - 0.5, self._size[::-1], interpolation=cv2.INTER_LINEAR)
        best, certainty = np.zeros(self._size, np.uint8), np.full(self._size, 0.5, np.float32)
        for class_id in np.flatnonzero(np.bincount(labels.ravel(), minlength=256)[1:]) + 1:
            share = sampled((labels == class_id).astype(np.float32), full)
            best[share > certainty] = class_id
            np.maximum(share, certainty, out=certainty)
        return best
