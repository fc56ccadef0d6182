"""What is seen in one frame: its regions, their looks, where they enter, and how they lie to one another."""

from __future__ import annotations

import cv2
import numpy as np
from scipy import ndimage

from surgicalsam_napari.tracking.looks import REACH, Look, entries_of, look_of
from surgicalsam_napari.tracking.regions import Regions

LEAST_ENTRY = 0.03  # picture widths: a narrower place where a region meets the border is no second shaft
NEAR = 0.06  # picture widths: so near is a piece of an instrument that does not enter the picture itself
LEAST_BRIDGE = 0.8  # of the way between two pieces is covered by other instruments
TOUCH = np.ones((5, 5), np.uint8)  # pixels around a region in which others touch it


class Sight:
    """The regions of a frame, and their looks, each computed when it is first asked for.

    Parameters
    ----------
    picture : (h, w, 3) uint8 RGB
    content, embedding : as for `look_of`
    """

    def __init__(
        self,
        regions: Regions,
        picture: np.ndarray,
        content: tuple[int, int, int, int],
        embedding: np.ndarray | None,
    ) -> None:
        self.regions = regions
        self._picture, self._content, self._embedding = picture, content, embedding
        self._looks: dict[int, Look] = {}
        self._borders: dict[int, np.ndarray] = {}
        self._covered: dict[int, bool] = {}
        self._gaps: dict[int, np.ndarray] = {}  # by region, (R,) the distance of each region to it
        self._centers: dict[int, np.ndarray] = {}

    def look(self, region: int) -> Look:
        if region not in self._looks:
            self._looks[region] = self.look_of(self.regions.mask(region))
        return self._looks[region]

    def look_of(self, mask: np.ndarray) -> Look:
        return look_of(mask, self._picture, self._content, self._embedding)

    def entries(self, region: int) -> list[np.ndarray]:
        """The places where it enters the picture that are wide enough for a shaft; see `entries_of`."""
        least = LEAST_ENTRY * self.regions.map.shape[1] * REACH
        return [entry for entry in self._all_entries(region) if len(entry) >= least]

    def border(self, region: int) -> np.ndarray:
        """(N, 2) where it meets the border of the picture, in picture widths."""
        if region not in self._borders:
            entries = self._all_entries(region)
            self._borders[region] = np.concatenate(entries) if entries else np.zeros((0, 2), np.float32)
        return self._borders[region]

    def _all_entries(self, region: int) -> list[np.ndarray]:
        rows, columns = np.nonzero(self.regions.mask(region))
        return entries_of(rows, columns, self._content, self.regions.map.shape[1])

    def entry_gap(self, region: int, look: Look) -> float:
        """How far a region's border is from where a look enters, in picture widths; 0 if that look does not enter."""
        if look.entry is None:
            return 0.0
        border = self.border(region)
        return float(np.hypot(*(border - look.entry).T).min()) if len(border) else np.inf

    def gap(self, first: int, second: int) -> float:
        """The distance of two regions, in picture widths."""
        if first not in self._gaps:
            distance = cv2.distanceTransform((~self.regions.mask(first)).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_3)
            of_all = ndimage.minimum(distance, self.regions.map, np.arange(1, len(self.regions) + 1))
            self._gaps[first] = np.asarray(of_all) / self.regions.map.shape[1]
        return float(self._gaps[first][second])

    def is_covered(self, region: int) -> bool:
        """Whether another region touches it, below which the rest of its instrument may be."""
        if region not in self._covered:
            around = cv2.dilate(self.regions.mask(region).astype(np.uint8), TOUCH).view(bool)
            others = self.regions.map[around]
            self._covered[region] = bool(((others != 0) & (others != region + 1)).any())
        return self._covered[region]

    def regions_near(self, place: np.ndarray) -> set[int]:
        """The regions that come near to a place, given in picture widths."""
        width = self.regions.map.shape[1]
        (column, row), reach = np.rint(place * width).astype(int).tolist(), round(NEAR * width)
        window = self.regions.map[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1]
        return set((np.unique(window[window > 0]) - 1).tolist())

    def is_bridged(self, first: int, second: int) -> bool:
        """Whether other regions cover the way between two: one instrument passes below another."""
        way = np.rint(np.linspace(self._center(first), self._center(second), 64)).astype(int)
        between = self.regions.map[way[:, 0], way[:, 1]]
        between = between[(between != first + 1) & (between != second + 1)]
        return bool(len(between) and np.count_nonzero(between) >= LEAST_BRIDGE * len(between))

    def _center(self, region: int) -> np.ndarray:
        """(2,) the mean row and column of a region."""
        if region not in self._centers:
            self._centers[region] = np.argwhere(self.regions.mask(region)).mean(axis=0)
        return self._centers[region]
