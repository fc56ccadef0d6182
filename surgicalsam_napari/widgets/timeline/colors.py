"""The colours of the timeline: a dark track in every napari theme, and hues that colour-blind people can distinguish.

Hue shows provenance, brightness shows quality, and a thin line shows absence. Predicted (of any quality), edited and
verified differ by at least 35 units of CIELAB, also with protanopia, deuteranopia and tritanopia.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from qtpy.QtGui import QImage

from surgicalsam_napari.review.overview import NOT_PREDICTED, QUALITY_LEVELS, VOTED
from surgicalsam_napari.store.provenance import Provenance

TRACK = "#17181d"
GAP = "#2b2d35"  # between rows, and between frames that are wide enough
ABSENT_LINE = "#6a717e"
PREDICTED_RAMP = ("#5b3fb5", "#4a74dc", "#58b8f2")  # worst to best
EDITED, VERIFIED = "#f2a11f", "#cfe8b8"
MARK_RAMP = ("#17181d", "#8a2560", "#ff78b6")  # from no to strong need of review
NOTE, PAGE = "#ffffff", "#fff3b0"
VOTE_LINE = "#ffffff"  # at the top of a cell that the vote over time changed
MARK_LEVELS, VOTE_HEIGHT = 64, 3
_KIND_COUNT = 1 << (VOTED + 1)


def rgb_pixels(colors: np.ndarray) -> np.ndarray:
    """(..., 3) 8-bit RGB as (...,) uint32 pixels of a `QImage` of Format_RGB32."""
    red, green, blue = np.moveaxis(np.asarray(colors).astype(np.uint32), -1, 0)
    return (np.uint32(0xFF) << 24) | (red << 16) | (green << 8) | blue


def ramp(stops: tuple[str, ...], count: int) -> np.ndarray:
    """(count,) pixels, evenly spaced from the first stop to the last."""
    colors = np.array([_rgb(stop) for stop in stops], dtype=float)
    places = np.linspace(0, len(stops) - 1, count)
    mixed = np.stack([np.interp(places, np.arange(len(stops)), channel) for channel in colors.T], axis=-1)
    return rgb_pixels(np.rint(mixed))


@lru_cache(maxsize=32)
def cell_pixels(height: int) -> np.ndarray:
    """The pixels of a cell, from top to bottom, for each set of provenances and each quality.

    A bin with several of predicted, edited and verified is divided among them, so that each stays visible.

    Returns
    -------
    (height, K) pixels; kinds and levels from `Overview.binned` have the column `cell_codes(kinds, levels)`
    """
    pixels = np.empty((height, _KIND_COUNT, QUALITY_LEVELS), dtype=np.uint32)
    pixels[:] = _pixel(TRACK)
    hues = {
        Provenance.PREDICTED: ramp(PREDICTED_RAMP, QUALITY_LEVELS),
        Provenance.EDITED: _pixel(EDITED),
        Provenance.VERIFIED: _pixel(VERIFIED),
    }
    middle = (height - 1) // 2
    for kinds in range(_KIND_COUNT):
        shown = [hue for provenance, hue in hues.items() if kinds >> provenance & 1]
        bounds = np.linspace(0, height - 1, len(shown) + 1).round().astype(int)
        for hue, top, bottom in zip(shown, bounds, bounds[1:], strict=False):
            pixels[top:bottom, kinds] = hue
        if not shown and kinds >> Provenance.ABSENT & 1:
            pixels[middle - 1 : middle + 1, kinds] = _pixel(ABSENT_LINE)
        if kinds >> VOTED & 1:
            pixels[:VOTE_HEIGHT, kinds] = _pixel(VOTE_LINE)
    pixels[-1] = _pixel(GAP)
    table = pixels.reshape(height, -1)
    table.flags.writeable = False
    return table


def track_pixels(height: int, color: str) -> np.ndarray:
    """(height, 2) pixels of a row of a track, from top to bottom: where it is out of view, and where it is in view."""
    pixels = np.full((height, 2), _pixel(TRACK), np.uint32)
    pixels[2 : height - 3, 1] = _pixel(color)
    pixels[-1] = _pixel(GAP)
    return pixels


def cell_codes(kinds: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Columns of `cell_pixels`, in the shape of both arguments."""
    shown_levels = np.where(levels == NOT_PREDICTED, 0, levels)
    return kinds.astype(np.int16) * QUALITY_LEVELS + shown_levels


def mark_pixels(marks: np.ndarray) -> np.ndarray:
    """(N,) pixels for marks from 0 to 1; the track colour for NaN."""
    levels = np.clip(np.nan_to_num(marks) * (MARK_LEVELS - 1), 0, MARK_LEVELS - 1).astype(int)
    return ramp(MARK_RAMP, MARK_LEVELS)[levels]


def image_over(pixels: np.ndarray) -> QImage:
    """A QImage over (height, width) uint32 pixels; it shares their memory, so they must outlive it and stay contiguous."""
    height, width = pixels.shape
    return QImage(pixels.data, width, height, pixels.strides[0], QImage.Format.Format_RGB32)


def gap_pixel() -> np.uint32:
    return _pixel(GAP)


def _rgb(color: str) -> tuple[int, ...]:
    return tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))


def _pixel(color: str) -> np.uint32:
    return np.uint32(rgb_pixels(np.array(_rgb(color))))
