"""The connected regions of a label map at the working size of linking."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

LEAST_SHARE = 0.0004  # of the picture: smaller regions are crumbs, without a number of their own


@dataclass(frozen=True)
class Regions:
    """The regions of a frame, numbered from 1.

    Attributes
    ----------
    map : (h, w) int32, the number of the region of each pixel; 0 background and crumbs
    class_ids : (R,) of regions 1 to R
    areas : (R,) in pixels
    """

    map: np.ndarray
    class_ids: np.ndarray
    areas: np.ndarray

    def __len__(self) -> int:
        return len(self.areas)

    def mask(self, index: int) -> np.ndarray:
        """(h, w) bool: region `index`, from 0."""
        return self.map == index + 1


def regions_of(labels: np.ndarray) -> Regions:
    """The connected regions of each class of a label map, (h, w) uint8; crumbs are left out."""
    found = np.zeros(labels.shape, np.int32)
    class_ids: list[int] = []
    areas: list[int] = []
    least = max(LEAST_SHARE * labels.size, 4)
    for class_id in np.flatnonzero(np.bincount(labels.ravel(), minlength=256))[0:].tolist():
        if class_id == 0:
            continue
        count, parts, stats, _ = cv2.connectedComponentsWithStats((labels == class_id).astype(np.uint8))
        numbers = np.zeros(count, np.int32)
        for part in range(1, count):
            if stats[part, cv2.CC_STAT_AREA] >= least:
                class_ids.append(class_id)
                areas.append(int(stats[part, cv2.CC_STAT_AREA]))
                numbers[part] = len(areas)
        found += numbers[parts]
    return Regions(found, np.array(class_ids, int), np.array(areas, int))


def nearest_values(values: np.ndarray, farthest: float = np.inf) -> np.ndarray:
    """(h, w) int32: each pixel has the value of the nearest pixel of `values`, (h, w) int32, that is not 0.

    Parameters
    ----------
    farthest : in pixels; farther pixels are 0
    """
    if not values.any():
        return values.copy()
    distance, nearest = cv2.distanceTransformWithLabels(
        (values == 0).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_3, labelType=cv2.DIST_LABEL_PIXEL
    )
    is_set = values != 0
    by_label = np.zeros(int(nearest.max()) + 1, np.int32)
    by_label[nearest[is_set]] = values[is_set]
    return np.where(distance <= farthest, by_label[nearest], 0)
