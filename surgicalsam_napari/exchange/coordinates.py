"""Coordinates in annotation files: values that cannot be are refused with their place in the file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from surgicalsam_napari.errors import ExchangeError

LARGEST_SIDE = 2**16  # pixels; OpenCV and Pillow read no larger pictures
MOST_PIXELS = 2**28  # 16,384 x 16,384: a mask takes a byte for each
MOST_FRAMES = 5_000_000  # more than 23 hours at 60 frames a second


def check_coordinates(polygon: Sequence[Any], size: tuple[int, int], place: str) -> None:
    """Check the points of a polygon in a picture of `size` (H, W).

    Parameters
    ----------
    polygon : [x0, y0, x1, y1, …] in pixels
    place : where it is, for messages, such as "annotations[3] of labels.json"

    Raises
    ------
    ExchangeError
        a coordinate is no number, not finite, or far outside the picture
    """
    for position, value in enumerate(polygon):
        extent = size[1 - position % 2]
        if not is_number(value) or not -extent <= value <= 2 * extent:  # tools draw a little over the border
            axis = "xy"[position % 2]
            raise ExchangeError(
                f"{place} has the point {position // 2} with {axis} = {str(value)[:40]}, but the picture has {size[1]} x "
                f"{size[0]} pixels. Correct the coordinate, or remove the annotation."
            )


def picture_size(height: Any, width: Any, place: str) -> tuple[int, int]:
    """(H, W) in pixels; an ExchangeError if a picture cannot have this size."""
    for name, value in (("height", height), ("width", width)):
        number = float(value) if isinstance(value, str) and value.strip().isdigit() else value
        if not is_number(number) or not 1 <= number <= LARGEST_SIDE or number != int(number):
            raise ExchangeError(
                f"{place} has the {name} {str(value)[:40]}, but a picture has 1 to {LARGEST_SIDE} pixels. Correct it in "
                "the file."
            )
    if int(height) * int(width) > MOST_PIXELS:
        raise ExchangeError(f"{place} has {width} x {height} pixels, more than {MOST_PIXELS:,}. Correct it in the file.")
    return int(height), int(width)


def is_number(value: Any) -> bool:
    """Whether this is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
