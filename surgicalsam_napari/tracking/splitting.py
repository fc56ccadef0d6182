"""Split a region into the instruments that share it: the shape of each is carried on, also where others hide it."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from surgicalsam_napari.tracking.regions import nearest_values

COARSE = 4  # pixels: the step of the first search for where a shape is now
REACH = 32  # pixels: an instrument moves no farther between two frames
FINE = 3  # pixels: reach of the second search
MOST_POINTS = 1500  # pixels of an instrument that are compared with the frame before
PLACES = 4  # places of the first search that are looked at closely
FAR_COST = 0.02  # of the pixels of a shape, for each step of the first search that it is from where it was expected
MOST_RESIDUAL = 60.0  # grey levels, of a shape that was not seen there before
CARRIED_BONUS = 8.0  # grey levels, of the instrument to which dense flow gives a pixel
RESIDUAL_SIGMA = 1.5  # pixels


@dataclass
class Before:
    """The frame before, at the working size.

    Attributes
    ----------
    picture : (h, w, 3) uint8
    keys : (h, w) int32
    hidden : by key, (h, w) bool, where other instruments of its region cover it
    shifts : by key, (2,) columns and rows by which it moved to get there, as far as that is known
    """

    picture: np.ndarray
    keys: np.ndarray
    hidden: dict[int, np.ndarray] = field(default_factory=dict)
    shifts: dict[int, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Split:
    """A region that is split.

    Attributes
    ----------
    keys : (h, w) int32, of each of its pixels; 0 outside
    hidden, shifts : as in `Before`, of this frame
    """

    keys: np.ndarray
    hidden: dict[int, np.ndarray] = field(default_factory=dict)
    shifts: dict[int, np.ndarray] = field(default_factory=dict)


def split(
    region: np.ndarray, group: list[int], carried: np.ndarray, before: Before, picture: np.ndarray, positions: np.ndarray
) -> Split:
    """Split a region between the instruments that share it.

    The shape of each in the frame before is moved to where the shapes together cover the region best, and look as before.
    Where shapes overlap, the one that looks as before is on top.

    Parameters
    ----------
    region : (h, w) bool
    group : the keys that share it
    carried : (h, w) int32, the key of each pixel by dense flow, and by the places where instruments enter
    picture : (h, w, 3) uint8
    positions : (h, w, 2) float32, the column and row of each pixel in the frame before
    """
    shapes = {key: (before.keys == key) | before.hidden.get(key, False) for key in group}
    known = [key for key in group if shapes[key].any()]
    is_carried = region & np.isin(carried, group)
    if len(known) < 2:
        return Split(np.where(region, nearest_values(np.where(is_carried, carried, 0)), 0))
    shifts = {key: _flow_shift(carried == key, positions) for key in known}
    expected = {key: [shifts[key], before.shifts.get(key, shifts[key])] for key in known}
    placed = {key: _moved(shapes[key], shifts[key]) for key in known}
    for key in known:
        others = np.any([placed[other] for other in known if other != key], axis=0)
        gain = np.where(region, np.where(others, 0.0, 1.0), -1.0).astype(np.float32)
        seen = _Seen(before.keys == key, before.picture, picture, region)
        shifts[key] = _fitting_shift(shapes[key], gain, expected[key], seen)
        placed[key] = _moved(shapes[key], shifts[key])
    costs = [
        _cost(before.keys == key, placed[key], before.picture, picture, shifts[key]) - CARRIED_BONUS * (carried == key)
        for key in known
    ]
    best = np.where(np.stack(list(placed.values())), np.stack(costs), np.inf).argmin(axis=0)
    is_placed = np.any(list(placed.values()), axis=0) & region
    seeds = np.where(is_placed, np.array(known, np.int32)[best], np.where(is_carried, carried, 0))
    is_begun = region & np.isin(carried, [key for key in group if key not in known])
    keys = np.where(region, nearest_values(np.where(is_begun, carried, seeds)), 0)
    return Split(keys, {key: placed[key] & region & (keys != key) for key in known}, shifts)


def _flow_shift(own: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """(2,) the columns and rows by which most pixels of an instrument moved."""
    rows, columns = np.nonzero(own)
    if not len(rows):
        return np.zeros(2)
    return np.rint(np.median(np.stack([columns, rows], axis=1) - positions[rows, columns], axis=0))


def _moved(shape: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """A shape, (h, w) bool, moved; at the border of the picture it goes on outside."""
    return _shifted(shape.view(np.uint8), shift, cv2.INTER_NEAREST).view(bool)


def _shifted(image: np.ndarray, shift: np.ndarray, interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
    motion = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
    size = image.shape[1::-1]
    return cv2.warpAffine(image, motion, size, flags=interpolation, borderMode=cv2.BORDER_REPLICATE)


def _cost(own: np.ndarray, placed: np.ndarray, before: np.ndarray, picture: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """(h, w) float32: how little each pixel looks like an instrument did before, in grey levels."""
    different = cv2.absdiff(picture, _shifted(before, shift, cv2.INTER_NEAREST)).astype(np.float32)
    residual = cv2.transform(different, np.full((1, 3), 1 / 3, np.float32))
    cost = np.where(_moved(own, shift) & placed, np.minimum(residual, MOST_RESIDUAL), np.float32(MOST_RESIDUAL))
    return cv2.GaussianBlur(cost, (0, 0), RESIDUAL_SIGMA)


class _Seen:
    """What was seen of an instrument in the frame before, to find it in this one."""

    def __init__(self, own: np.ndarray, before: np.ndarray, picture: np.ndarray, region: np.ndarray) -> None:
        rows, columns = np.nonzero(own)
        self._share = max(len(rows) // MOST_POINTS, 1)
        self._rows, self._columns = rows[:: self._share], columns[:: self._share]
        self._colours = before[self._rows, self._columns].astype(np.int16)
        self._picture, self._region = picture, region

    def gain(self, shift: np.ndarray) -> float:
        """How well it looks as before after a shift: pixels that do, less those that do not."""
        (height, width), (by_columns, by_rows) = self._region.shape, shift.astype(int).tolist()
        rows, columns = self._rows + by_rows, self._columns + by_columns
        is_inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        rows, columns = rows[is_inside], columns[is_inside]
        residual = np.abs(self._picture[rows, columns] - self._colours[is_inside]).mean(axis=1)
        gains = 0.5 - np.minimum(residual / MOST_RESIDUAL, 1.0) * 2
        return self._share * float(gains[self._region[rows, columns]].sum())


def _fitting_shift(shape: np.ndarray, gain: np.ndarray, expected: list[np.ndarray], seen: _Seen) -> np.ndarray:
    """The shift with the largest gain: of the outline, of what it looks like, and for being near to where it is expected."""
    scores, shifts = _outline_gains(shape, gain, np.zeros(2), REACH, COARSE)
    away = np.min([np.hypot(*(shifts - one).transpose(2, 0, 1)) for one in expected], axis=0)
    scores = (scores - FAR_COST * np.count_nonzero(shape) * away / COARSE).ravel()
    flat = shifts.reshape(-1, 2)
    places = np.argsort(-scores)[:PLACES].tolist()
    totals = {(scores[place] + seen.gain(flat[place]), place): flat[place] for place in places}
    for place, one in enumerate(expected, start=len(flat)):
        nearest = np.abs(flat - one).sum(axis=1).argmin()
        totals[scores[nearest] + seen.gain(one), place] = one
    scores, shifts = _outline_gains(shape, gain, totals[max(totals)], FINE, 1)
    return shifts.reshape(-1, 2)[int(scores.argmax())]


def _outline_gains(
    shape: np.ndarray, gain: np.ndarray, start: np.ndarray, reach: int, step: int
) -> tuple[np.ndarray, np.ndarray]:
    """(N, N) the gain under a shape that is shifted by up to `reach` pixels from `start`, and (N, N, 2) these shifts."""
    steps = reach // step
    size = (shape.shape[1] // step, shape.shape[0] // step)
    small = cv2.resize(_moved(shape, start).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    gain = cv2.resize(gain, size, interpolation=cv2.INTER_AREA)
    # Beyond the border of the picture the shape goes on, and nothing is gained or lost.
    small = np.pad(small, steps, mode="edge")
    gain = np.pad(gain, 2 * steps)
    offsets = step * np.arange(-steps, steps + 1)
    shifts = np.stack(np.meshgrid(offsets, offsets), axis=2) + start
    rows, columns = (np.flatnonzero(small.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return np.zeros(shifts.shape[:2]), shifts
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    window = gain[top : bottom + 2 * steps, left : right + 2 * steps]
    return step**2 * cv2.matchTemplate(window, small[top:bottom, left:right], cv2.TM_CCORR), shifts
