"""Masks of one frame that overlap: which class gets the pixels that several masks cover."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.instruments import ClassSet

FILE_ORDER, LARGER_BELOW = "file-order", "larger-below"
ORDERS_HELP = f"{FILE_ORDER} (later masks on top), {LARGER_BELOW} (small masks on top), or the name of the class on top"


def order_in_words(order: str) -> str:
    """Which mask is on top, for the user."""
    known = {FILE_ORDER: "later masks on top", LARGER_BELOW: "small masks on top"}
    return known.get(order, f"{order} on top, of other classes the later masks")


@dataclass(frozen=True)
class ClassMask:
    """One mask of a frame, such as one annotation of a COCO file.

    Attributes
    ----------
    mask : (H, W) bool
    track_id : 1 to 65535, the same in all frames of a video in which this instrument is; None if it is not known
    instance : without a track, a number that tells the instances of this frame apart; None if it is no single instrument
    parts : (H, W) uint8, ids of parts, used inside the mask; None if no parts are known
    """

    class_id: int
    mask: np.ndarray
    track_id: int | None = None
    instance: int | None = None
    parts: np.ndarray | None = None


@dataclass(frozen=True)
class Overlap:
    """The pixels that masks of two classes share in a frame; the class ids are in ascending order."""

    class_ids: tuple[int, int]
    pixels: int


def overlaps(masks: Sequence[ClassMask]) -> tuple[Overlap, ...]:
    """The pixels that several classes cover; masks of the same class may overlap."""
    shared: Counter[tuple[int, int]] = Counter()
    by_class = masks_by_class(masks)
    ids = sorted(by_class)
    for position, first in enumerate(ids):
        for second in ids[position + 1 :]:
            shared[first, second] += int(np.count_nonzero(by_class[first] & by_class[second]))
    return tuple(Overlap(pair, pixels) for pair, pixels in shared.items() if pixels)


def masks_by_class(masks: Sequence[ClassMask]) -> dict[int, np.ndarray]:
    """(H, W) bool by class id."""
    merged: dict[int, np.ndarray] = {}
    for one in masks:
        merged[one.class_id] = one.mask | merged[one.class_id] if one.class_id in merged else one.mask
    return merged


def stacked(
    masks: Sequence[ClassMask], size: tuple[int, int], order: str | None, name: str, classes: ClassSet
) -> np.ndarray:
    """The label map (H, W) uint8 of a frame.

    Parameters
    ----------
    masks : in the order of the file
    order : "file-order", "larger-below", or the name of the class on top (later masks are over earlier ones below it); None
        if no overlap is allowed
    name : of the frame, for messages

    Raises
    ------
    ExchangeError
        masks differ in size, or they overlap and no order is given
    """
    return painted(from_below(masks, order, name, classes), size)


def painted(masks: Sequence[ClassMask], size: tuple[int, int]) -> np.ndarray:
    """The label map (H, W) uint8 of masks, the lowest first; `size` if there are none."""
    label_map = np.zeros(masks[0].mask.shape if masks else size, np.uint8)
    for one in masks:
        label_map[one.mask] = one.class_id
    return label_map


def from_below(masks: Sequence[ClassMask], order: str | None, name: str, classes: ClassSet) -> Sequence[ClassMask]:
    """The masks in the order in which they are painted, the lowest first; parameters and errors as in `stacked`."""
    for one in masks:
        if one.mask.shape != masks[0].mask.shape:
            raise ExchangeError(
                f"{name} has masks of {_pixels(one.mask.shape)} and of {_pixels(masks[0].mask.shape)}, but all masks of a "
                "frame must have the same size. Replace the mask that has the wrong size."
            )
    if order is None and (shared := overlaps(masks)):
        first, second = (classes.by_id(class_id).name for class_id in shared[0].class_ids)
        raise ExchangeError(
            f"{name} has {shared[0].pixels} pixels that are both {first} and {second}, but a pixel can have only one class. "
            f"Choose which mask is on top (--overlaps on the command line): {ORDERS_HELP}."
        )
    if order is None or order == FILE_ORDER:
        return masks
    if order == LARGER_BELOW:
        return sorted(masks, key=lambda one: -np.count_nonzero(one.mask))
    on_top = classes.find(order)
    if on_top is None and overlaps(masks):
        raise ExchangeError(
            f'"{order}" is no order of overlapping masks, and no class of the dataset, which has '
            f"{', '.join(classes.names)}. Use {ORDERS_HELP}."
        )
    return sorted(masks, key=lambda one: on_top is not None and one.class_id == on_top.id)


def class_masks(masks: Mapping[int, np.ndarray]) -> tuple[ClassMask, ...]:
    """Masks that are already merged by class, in the order of the mapping."""
    return tuple(ClassMask(class_id, mask) for class_id, mask in masks.items())


def _pixels(size: tuple[int, ...]) -> str:
    return f"{size[1]} x {size[0]} pixels"
