"""Rasterise tubes: polylines with a radius at each point, drawn anti-aliased, shaded and labelled in one pass.

Coordinates are relative to the frame's width (x right, y down), so that a scene is the same at any resolution.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

TONES = 64  # steps of the lookup tables across a tube


@dataclass(frozen=True)
class Finish:
    """How a tube's surface reflects light: lookup tables across it.

    Attributes
    ----------
    diffuse : (TONES,) factor on the skin's colour, from the left edge to the right edge
    gleam : (TONES, 3) added highlights
    """

    diffuse: np.ndarray
    gleam: np.ndarray


@dataclass(frozen=True)
class Tube:
    """One rounded part of an instrument.

    Attributes
    ----------
    points : (N, 2) centre line; radii : (N,)
    skin : (lengthwise, across, 3) colours, stretched over `skin_length` from the end of the tube backwards
    finish : how the surface reflects light
    slots : openings, each (2 points, radius), cut out of both the picture and the mask
    flat : whether start and end are cut flat rather than rounded
    teeth : (length of one, depth, side -1 or 1), or None
    part : the part of the instrument that it belongs to, an id of PHANTOM_PARTS
    """

    points: np.ndarray
    radii: np.ndarray
    skin: np.ndarray
    finish: Finish
    skin_length: float
    slots: tuple[tuple[np.ndarray, float], ...] = ()
    flat: tuple[bool, bool] = (False, False)
    teeth: tuple[float, float, int] | None = None
    part: int = 1


@dataclass
class Layer:
    """What the instruments are drawn on: premultiplied colour, cover and labels."""

    size: tuple[int, int]
    rgb: np.ndarray = field(init=False)
    cover: np.ndarray = field(init=False)
    labels: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.rgb = np.zeros((*self.size, 3), np.float32)
        self.cover = np.zeros(self.size, np.float32)
        self.labels = np.zeros(self.size, np.uint8)

    def draw(self, tube: Tube, label: int) -> None:
        """Draw a tube over the earlier ones; a pixel gets the label (1 to 255) if at least half of it is covered."""
        height, width = self.size
        points, radii = tube.points * width, tube.radii * width
        reach = radii.max() + 2
        low = np.floor(points.min(0) - reach).astype(int)
        high = np.ceil(points.max(0) + reach).astype(int)
        left, top = max(low[0], 0), max(low[1], 0)
        right, bottom = min(high[0], width), min(high[1], height)
        if left >= right or top >= bottom:
            return
        x = (np.arange(left, right, dtype=np.float32) + 0.5)[None, :]
        y = (np.arange(top, bottom, dtype=np.float32) + 0.5)[:, None]
        outside, across, along = _tube_field(x, y, points, radii, tube.flat)
        if tube.teeth is not None:
            length, depth, side = tube.teeth
            outside = outside + (depth * width) * (across * side > 0.2) * (np.sin(along * (6.2832 / (length * width))) > 0)
        for ends, radius in tube.slots:
            hole, _, _ = _tube_field(x, y, ends * width, np.full(2, radius * width), (False, False))
            outside = np.maximum(outside, -hole)
        rows, columns = np.nonzero(outside < 0.5)
        if not len(rows):
            return
        alpha = np.minimum(0.5 - outside[rows, columns], 1)
        u = np.clip(across[rows, columns], -1, 1)
        skin_rows, skin_columns = tube.skin.shape[:2]
        total = np.hypot(*np.diff(points, axis=0).T).sum()
        s = (total - along[rows, columns]) * (skin_rows / (tube.skin_length * width))
        tone = ((u + 1) * ((TONES - 1) / 2)).astype(np.intp)
        skin = tube.skin[np.clip(s.astype(np.intp), 0, skin_rows - 1), ((u + 1) * ((skin_columns - 1) / 2)).astype(np.intp)]
        color = skin * tube.finish.diffuse[tone, None] + tube.finish.gleam[tone]
        rows += top
        columns += left
        pixels = rows * width + columns
        flat_rgb, flat_cover, flat_labels = self.rgb.reshape(-1, 3), self.cover.reshape(-1), self.labels.reshape(-1)
        keep = 1 - alpha
        flat_rgb[pixels] = flat_rgb[pixels] * keep[:, None] + color * alpha[:, None]
        flat_cover[pixels] = flat_cover[pixels] * keep + alpha
        flat_labels[pixels[alpha >= 0.5]] = label

    def bounds(self, margin: int) -> tuple[slice, slice] | None:
        """Rows and columns of the drawn pixels plus `margin` pixels around them; None if nothing was drawn."""
        rows, columns = np.flatnonzero(self.cover.any(1)), np.flatnonzero(self.cover.any(0))
        if not len(rows):
            return None
        return (
            slice(max(0, rows[0] - margin), rows[-1] + 1 + margin),
            slice(max(0, columns[0] - margin), columns[-1] + 1 + margin),
        )


def _tube_field(
    x: np.ndarray, y: np.ndarray, points: np.ndarray, radii: np.ndarray, flat: tuple[bool, bool]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signed distance to the tube's outline, place across (-1 to 1) and distance along; pixels, each (rows, columns)."""
    nearest: list[np.ndarray] = []  # distance, across, along of the segment that is closest so far
    start = 0.0
    last = len(points) - 2
    for i in range(len(points) - 1):
        direction = points[i + 1] - points[i]
        length = max(float(np.hypot(*direction)), 1e-6)
        dx, dy = (direction / length).astype(np.float32)
        x0, y0 = points[i].astype(np.float32)
        forward = (x - x0) * dx + (y - y0) * dy
        lateral = (y - y0) * dx - (x - x0) * dy
        on = np.clip(forward, 0, length)
        radius = radii[i] + on * np.float32((radii[i + 1] - radii[i]) / length)
        beyond = forward - on
        distance = np.sqrt(lateral * lateral + beyond * beyond) - radius
        if i == 0 and flat[0]:
            distance = np.maximum(distance, -forward)
        if i == last and flat[1]:
            distance = np.maximum(distance, forward - length)
        place = lateral / radius
        segment = [distance, place, on + start]
        if nearest:
            closer = distance < nearest[0]
            segment = [np.where(closer, new, old) for new, old in zip(segment, nearest, strict=True)]
        nearest = segment
        start += length
    distance, across, along = nearest
    return distance, across, along
