"""Polygons of annotation files as masks, drawn as each tool draws them; impossible coordinates are refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as run_lengths

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.coordinates import check_coordinates


def polygon_mask(polygons: Sequence[Sequence[Any]], size: tuple[int, int], place: str) -> np.ndarray:
    """The union of polygons as a mask (H, W) bool, with COCO's own rasterisation (pycocotools).

    Parameters
    ----------
    polygons : each [x0, y0, x1, y1, …] in pixels, with at least three points
    place : where they are, for messages, such as 'annotations[3] of labels.json'

    Raises
    ------
    ExchangeError
        a polygon has too few points, or a coordinate is no number, not finite, or far outside the picture
    """
    height, width = size
    for number, polygon in enumerate(polygons):
        _check(polygon, size, f"{place}, polygon {number}" if len(polygons) > 1 else place)
    parts = run_lengths.frPyObjects([list(map(float, polygon)) for polygon in polygons], height, width)
    return run_lengths.decode(run_lengths.merge(parts)).astype(bool)


def filled_polygon_mask(polygon: Sequence[Any], size: tuple[int, int], place: str) -> np.ndarray:
    """A polygon as a mask (H, W) bool, with its outline, as OpenCV fills it after rounding down; otherwise as above."""
    _check(polygon, size, place)
    points = np.floor(np.reshape(polygon, (-1, 2))).astype(np.int32)
    return cv2.fillPoly(np.zeros(size, np.uint8), [points], 1).astype(bool)


def outlined_polygon_mask(polygon: Sequence[Any], size: tuple[int, int], place: str) -> np.ndarray:
    """A polygon as a mask (H, W) bool, with its outline, as Pillow draws it; otherwise as above."""
    _check(polygon, size, place)
    image = Image.fromarray(np.zeros(size, np.uint8))
    ImageDraw.Draw(image).polygon([float(value) for value in polygon], fill=1, outline=1)
    return np.asarray(image).astype(bool)


def _check(polygon: Sequence[Any], size: tuple[int, int], place: str) -> None:
    if not isinstance(polygon, list | tuple) or len(polygon) < 6 or len(polygon) % 2:
        raise ExchangeError(f"{place} has a polygon without x and y of at least three points. Correct or remove it.")
    check_coordinates(polygon, size, place)
