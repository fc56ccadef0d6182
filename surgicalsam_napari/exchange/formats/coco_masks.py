"""The masks of COCO annotations: polygons, plain and compressed run lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as run_lengths

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.coordinates import check_coordinates


def has_outline(segmentation: Any) -> bool:
    """Whether an annotation has more than a box: run lengths, or a polygon of at least three points."""
    if not isinstance(segmentation, list):
        return bool(segmentation)
    return any(not isinstance(polygon, list) or len(polygon) >= 6 for polygon in segmentation)


def read_mask(segmentation: Any, size: tuple[int, int], place: str) -> np.ndarray:
    """The mask (H, W) bool of an annotation that has an outline.

    Parameters
    ----------
    size : (H, W) of its picture
    place : where the annotation is, for messages

    Raises
    ------
    ExchangeError
        the mask is damaged, has another size, or a coordinate that cannot be
    """
    height, width = size
    try:
        if isinstance(segmentation, list):
            merged = run_lengths.merge(_polygons(segmentation, size, place))
            segmentation = {**merged, "counts": merged["counts"].decode("ascii")}
        rows, columns = segmentation["size"]
        if (rows, columns) != (height, width):
            raise ExchangeError(
                f"{place} has a mask of {columns} x {rows} pixels in a picture of {width} x {height} pixels. "
                "Correct the size of the image or of the mask in the file."
            )
        counts = segmentation["counts"]
        runs = counts if isinstance(counts, list) else _runs(counts)
        # decoded here: pycocotools accepts runs that are too short, and leaves the other pixels uninitialized
        if not all(isinstance(run, int) and run >= 0 for run in runs) or sum(runs) != height * width:
            raise ValueError(f"its runs do not cover its {height * width} pixels")
        return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T
    except (TypeError, KeyError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise ExchangeError(f"{place} has a damaged mask ({error}). Restore the file, or export again.") from error


def _polygons(segmentation: list, size: tuple[int, int], place: str) -> list[dict]:
    """Run lengths of each polygon; those of fewer than three points have no area."""
    polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
    for number, polygon in enumerate(polygons):
        if len(polygon) % 2:
            raise ValueError("a polygon needs x and y of every point")
        check_coordinates(polygon, size, place if len(polygons) == 1 else f"{place}, polygon {number},")
    return run_lengths.frPyObjects([list(map(float, polygon)) for polygon in polygons], *size)


def _runs(counts: str) -> list[int]:
    """The run lengths in COCO's compressed text: groups of five bits; from the fourth run on, minus the run two before."""
    runs: list[int] = []
    value = shift = 0
    for byte in counts.encode("ascii"):
        group = byte - 48
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:  # the last group of this number, whose highest bit is the sign
            value -= (group & 16) << (shift - 4)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("its text ends within a number")
    return runs
