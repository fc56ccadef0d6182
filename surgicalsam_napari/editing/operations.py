"""Corrections of one frame's label map: pure functions that return a new (H, W) uint8 array.

**Other classes do not change.** Only `reassign` and `swap` turn one class into another. All others only turn background into
their class or their class into background.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from skimage.filters.rank import median
from skimage.measure import label
from skimage.morphology import disk, isotropic_dilation, isotropic_erosion

from surgicalsam_napari.editing.regions import EIGHT_NEIGHBOURS, window_of
from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.store.label_maps import looked_up

FOUR_NEIGHBOURS = 1  # for holes, because the class around them uses eight


def reassign(label_map: np.ndarray, where: np.ndarray, class_id: int) -> np.ndarray:
    """Give pixels to a class, independent of their current class.

    Parameters
    ----------
    label_map : (H, W) uint8
    where : (H, W) bool
    class_id : 0 for background
    """
    edited = label_map.copy()
    edited[where] = class_id
    return edited


def swap(label_map: np.ndarray, first: int, second: int, where: np.ndarray | None = None) -> np.ndarray:
    """Exchange two classes.

    Parameters
    ----------
    label_map : (H, W) uint8
    first, second : class ids
    where : (H, W) bool, the pixels to exchange; by default all
    """
    exchanged = np.arange(256, dtype=np.uint8)
    exchanged[[first, second]] = second, first
    edited = looked_up(exchanged, label_map)
    return edited if where is None else np.where(where, edited, label_map)


def fill(label_map: np.ndarray, source: np.ndarray, class_id: int) -> np.ndarray:
    """Give a class the mask that it has in another frame.

    It replaces the class's own mask. Pixels of other classes do not change.

    Parameters
    ----------
    label_map, source : (H, W) uint8
    """
    return _redrawn(label_map, class_id, source == class_id)


def clear(label_map: np.ndarray, class_id: int, where: np.ndarray | None = None) -> np.ndarray:
    """Make a class background.

    Parameters
    ----------
    label_map : (H, W) uint8
    where : (H, W) bool, by default everywhere
    """
    mask = label_map == class_id
    return reassign(label_map, mask if where is None else mask & where, 0)


def keep_largest(label_map: np.ndarray, class_id: int) -> np.ndarray:
    """Keep a class's largest connected region (8 neighbours); the rest of the class becomes background.

    Parameters
    ----------
    label_map : (H, W) uint8
    """
    return _reshaped(label_map, class_id, _largest_component, margin=0)


def fill_holes(label_map: np.ndarray, class_id: int) -> np.ndarray:
    """Fill background that a class surrounds. Background that touches the border of the frame is no hole.

    Parameters
    ----------
    label_map : (H, W) uint8
    """
    return _reshaped(label_map, class_id, _without_holes, margin=1)


def smooth(label_map: np.ndarray, class_id: int, radius: int) -> np.ndarray:
    """Smooth a class's outline: a pixel belongs to the class if most pixels within `radius` do.

    Straight outlines do not move. Parts, gaps and holes thinner than `radius` are removed.

    Parameters
    ----------
    label_map : (H, W) uint8
    radius : pixels, at least 1

    Raises
    ------
    ProjectError
        the radius is below 1
    """
    footprint = disk(_checked(radius))
    return _reshaped(label_map, class_id, lambda mask: median(mask.view(np.uint8), footprint) > 0, margin=radius + 1)


def grow(label_map: np.ndarray, class_id: int, radius: int) -> np.ndarray:
    """Extend a class into the background within `radius` of it.

    Parameters
    ----------
    label_map : (H, W) uint8
    radius : pixels, at least 1

    Raises
    ------
    ProjectError
        the radius is below 1
    """
    radius = _checked(radius)
    return _reshaped(label_map, class_id, lambda mask: isotropic_dilation(mask, radius), margin=radius + 1)


def shrink(label_map: np.ndarray, class_id: int, radius: int) -> np.ndarray:
    """Turn the pixels of a class within `radius` of its outline into background.

    The border of the frame is no outline, because an instrument continues outside.

    Parameters
    ----------
    label_map : (H, W) uint8
    radius : pixels, at least 1

    Raises
    ------
    ProjectError
        the radius is below 1
    """
    radius = _checked(radius)
    # in a mask without an outline, distances to the outline are undefined
    return _reshaped(label_map, class_id, lambda mask: mask if mask.all() else isotropic_erosion(mask, radius), margin=1)


def _reshaped(
    label_map: np.ndarray, class_id: int, change: Callable[[np.ndarray], np.ndarray], *, margin: int
) -> np.ndarray:
    """The label map after `change` is applied to the class's mask, in a window around the mask."""
    mask = label_map == class_id
    window = window_of(mask, margin)
    edited = label_map.copy()
    if window is not None:
        edited[window] = _redrawn(edited[window], class_id, change(np.ascontiguousarray(mask[window])))
    return edited


def _redrawn(label_map: np.ndarray, class_id: int, mask: np.ndarray) -> np.ndarray:
    """The label map with this mask for the class; pixels of other classes do not change."""
    edited = label_map.copy()
    edited[(label_map == class_id) & ~mask] = 0
    edited[(label_map == 0) & mask] = class_id
    return edited


def _largest_component(mask: np.ndarray) -> np.ndarray:
    components = label(mask, connectivity=EIGHT_NEIGHBOURS)
    areas = np.bincount(components.ravel())
    areas[0] = 0
    return components == np.argmax(areas)


def _without_holes(mask: np.ndarray) -> np.ndarray:
    components = label(~mask, connectivity=FOUR_NEIGHBOURS)
    is_hole = np.ones(components.max() + 1, bool)
    for edge in (components[0], components[-1], components[:, 0], components[:, -1]):
        is_hole[edge] = False
    is_hole[0] = True  # the class itself
    return is_hole[components]


def _checked(radius: int) -> int:
    if radius < 1:
        raise ProjectError(f"The radius must be at least 1 pixel; got {radius}. Choose a larger radius.")
    return radius
