"""The frames and pixels that a numpy key selects, so that labels on disk can be read and edited as an array."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import EllipsisType
from typing import Any

import numpy as np


@dataclass(frozen=True)
class FrameEdit:
    """The part of an assignment that concerns one frame.

    Attributes
    ----------
    region : key into the (H, W) frame
    values : shaped like `frame[region]`
    whole_region : True if every pixel of the region counts as set, False if only pixels whose value differs
    """

    frame_index: int
    region: tuple
    values: np.ndarray
    whole_region: bool


def bounds(region: tuple, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """The rows and columns of a frame, step 1, in which all pixels of a region lie.

    Parameters
    ----------
    region : key into the (H, W) frame: two slices, or two index arrays
    """
    rows, columns = (np.arange(length)[item] for item, length in zip(region, shape, strict=True))
    if not rows.size or not columns.size:
        return slice(0, 0), slice(0, 0)
    return slice(int(rows.min()), int(rows.max()) + 1), slice(int(columns.min()), int(columns.max()) + 1)


def as_tuple(key: Any) -> tuple:
    return key if isinstance(key, tuple) else (key,)


def is_basic(key: tuple) -> bool:
    """Whether the key has only integers, slices and an ellipsis."""
    basic = (int, np.integer, slice, EllipsisType)
    return all(isinstance(item, basic) and not isinstance(item, bool) for item in key)


def expanded(key: tuple, ndim: int = 3) -> tuple:
    """A basic key with one item for each axis (frames, rows, columns); an IndexError if it has too many items."""
    given = [item for item in key if item is not Ellipsis]
    if len(given) > ndim or len(key) - len(given) > 1:
        raise IndexError(f"Labels have {ndim} axes (frame, y, x); the index has {len(given)}. Use at most {ndim}.")
    position = next((i for i, item in enumerate(key) if item is Ellipsis), len(key))
    missing = [slice(None)] * (ndim - len(given))
    return (*given[:position], *missing, *given[position:])


def shape_of(shape: tuple[int, ...], key: tuple) -> tuple[int, ...]:
    """The shape of `array[key]` for an array of this shape."""
    return np.broadcast_to(np.uint8(0), shape)[key].shape


def coordinates(key: tuple, shape: tuple[int, int, int]) -> list[np.ndarray]:
    """Frame, row and column of every pixel that a key of index arrays selects, in numpy's order."""
    axes = np.ogrid[tuple(slice(length) for length in shape)]
    return [np.asarray(np.broadcast_to(axis, shape)[key]) for axis in axes]


def frame_edits(key: tuple, values: np.ndarray, shape: tuple[int, int, int]) -> Iterator[FrameEdit]:
    """`array[key] = values` for an array of this shape, frame by frame."""
    return _box_edits(key, values, shape) if is_basic(key) else _scattered_edits(key, values, shape)


def _box_edits(key: tuple, values: np.ndarray, shape: tuple[int, int, int]) -> Iterator[FrameEdit]:
    frames, rows, columns = expanded(key)
    target = shape_of(shape, (frames, rows, columns))
    if values.ndim > len(target):
        values = values.reshape(values.shape[values.ndim - len(target) :])  # numpy drops leading axes of length 1 too
    region = tuple(_as_slice(item, length) for item, length in zip((rows, columns), shape[1:], strict=True))
    frame_indices = range(shape[0])[_as_slice(frames, shape[0])]
    new = np.broadcast_to(values, target).reshape(len(frame_indices), *shape_of(shape[1:], region))
    for position, frame_index in enumerate(frame_indices):
        yield FrameEdit(frame_index, region, new[position], values.ndim == 0)


def _scattered_edits(key: tuple, values: np.ndarray, shape: tuple[int, int, int]) -> Iterator[FrameEdit]:
    frames, rows, columns = coordinates(key, shape)
    values = np.broadcast_to(values, frames.shape)
    for frame_index in np.unique(frames).tolist():
        in_frame = frames == frame_index
        yield FrameEdit(frame_index, (rows[in_frame], columns[in_frame]), values[in_frame], True)


def _as_slice(item: int | slice, length: int) -> slice:
    if isinstance(item, slice):
        return item
    index = range(length)[item]
    return slice(index, index + 1)
