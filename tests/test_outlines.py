"""Polygons of a mask, drawn again as other tools draw them, are the same mask."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as run_lengths
from scipy.ndimage import gaussian_filter

from surgicalsam_napari.exchange.outlines import center_polygons, edge_polygons
from surgicalsam_napari.exchange.polygons import filled_polygon_mask, outlined_polygon_mask, polygon_mask

SIZE = (61, 83)


def masks() -> dict[str, np.ndarray]:
    """Noise, smooth shapes, rings inside rings, lines, single pixels, and masks that touch every border."""
    rng = np.random.default_rng(0)
    found = {f"noise {share}": rng.random(SIZE) < share for share in (0.02, 0.3, 0.5, 0.8, 0.99)}
    for sigma in (1, 2, 5):
        found[f"smooth {sigma}"] = gaussian_filter(rng.standard_normal(SIZE), sigma) > 0
    rows, columns = np.indices(SIZE)
    distance = np.hypot(rows - 30, columns - 40)
    found["rings"] = (distance.astype(int) // 4) % 2 == 0
    found["chess"] = (rows + columns) % 2 == 0
    found["diagonal"] = rows == columns
    found["line"] = rows == 7
    found["all"] = np.ones(SIZE, bool)
    found["none"] = np.zeros(SIZE, bool)
    return found


def pycocotools(polygons: list) -> np.ndarray:
    drawn = np.zeros(SIZE, bool)
    for polygon in polygons:
        encoded = run_lengths.frPyObjects([[float(value) for point in polygon for value in point]], *SIZE)
        drawn |= run_lengths.decode(encoded)[..., 0].astype(bool)
    return drawn


def opencv(polygons: list) -> np.ndarray:
    drawn = np.zeros(SIZE, np.uint8)
    for polygon in polygons:
        cv2.fillPoly(drawn, [np.array(polygon, np.int32)], 1)
    return drawn.astype(bool)


def pillow(polygons: list) -> np.ndarray:
    image = Image.fromarray(np.zeros(SIZE, np.uint8))
    for polygon in polygons:
        ImageDraw.Draw(image).polygon(polygon, fill=1, outline=1)
    return np.asarray(image).astype(bool)


@pytest.mark.parametrize("name", masks())
@pytest.mark.parametrize(
    ("polygons_of", "draw"),
    [(edge_polygons, pycocotools), (center_polygons, opencv), (center_polygons, pillow)],
    ids=["edges by pycocotools", "centres by OpenCV", "centres by Pillow"],
)
def test_no_pixel_differs_after_polygons_and_back(name: str, polygons_of: Callable, draw: Callable) -> None:
    mask = masks()[name]
    polygons = polygons_of(mask)
    assert all(len(polygon) >= 3 for polygon in polygons)
    np.testing.assert_array_equal(draw(polygons), mask)


@pytest.mark.parametrize("name", masks())
def test_our_own_readers_draw_the_same_masks(name: str) -> None:
    mask = masks()[name]
    if mask.any():
        drawn = polygon_mask([np.ravel(polygon).tolist() for polygon in edge_polygons(mask)], SIZE, "here")
        np.testing.assert_array_equal(drawn, mask)
    for draw in (filled_polygon_mask, outlined_polygon_mask):
        drawn = np.zeros(SIZE, bool)
        for polygon in center_polygons(mask):
            drawn |= draw(np.ravel(polygon).tolist(), SIZE, "here")
        np.testing.assert_array_equal(drawn, mask)


def test_a_region_with_holes_is_one_polygon() -> None:
    mask = np.zeros(SIZE, bool)
    mask[5:50, 10:70] = True
    mask[10:20, 15:30] = mask[30:40, 40:60] = mask[12:14, 50:52] = False
    assert len(edge_polygons(mask)) == len(center_polygons(mask)) == 1
