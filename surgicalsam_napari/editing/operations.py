"""Corrections of one frame's label map: pure functions, each giving a new (H, W) uint8 array.

**Other classes stay.** Only `reassign` and `swap` turn one class into another. All others turn background into their class
and their class into background; no other class loses or gains a pixel.
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

FOUR_NEIGHBOURS = 1  # of a hole, as the class around it has eight


def reassign(label_map: np.ndarray, where: np.ndarray, class_id: int) -> np.ndarray:
    """Give pixels to a class, whatever they are now.

    Parameters
    ----------
    label_map : (H, W) uint8
    where : (H, W) bool
    class_id : 0 makes them background
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

    It takes the place of the class's own mask. Where it lies on another class, that class stays.

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
    """Fill background that a class surrounds. What is open to the border of the frame is no hole.

    Parameters
    ----------
    label_map : (H, W) uint8
    """
    return _reshaped(label_map, class_id, _without_holes, margin=1)


def smooth(label_map: np.ndarray, class_id: int, radius: int) -> np.ndarray:
    """Make a class's outline smooth: a pixel is of the class if most of the pixels within `radius` are.

    Straight outlines stay where they are. Parts, gaps and holes thinner than `radius` go.

    Parameters
    ----------
    label_map : (H, W) uint8
    radius : pixels, from 1

    Raises
    ------
    ProjectError
        the radius is less
    """
    footprint = disk(_checked(radius))
    return _reshaped(label_map, class_id, lambda mask: median(mask.view(np.uint8), footprint) > 0, margin=radius + 1)


def grow(label_map: np.ndarray, class_id: int, radius: int) -> np.ndarray:
    """Let a class take the background within `radius` of it.

    Parameters
    ----------
    label_map : (H, W) uint8
    radius : pixels, from 1

    Raises
    ------
    ProjectError
        the radius is less
    """
    radius = _checked(radius)
    return _reshaped(label_map, class_id, lambda mask: isotropic_dilation(mask, radius), margin=radius + 1)


def shrink(label_map: np.ndarray, class_id: int, radius: int) -> np.ndarray:
    """Make the pixels of a class within `radius` of its outline background.

    The border of the frame is no outline: an instrument goes on outside.

    Parameters
    ----------
    label_map : (H, W) uint8
    radius : pixels, from 1

    Raises
    ------
    ProjectError
        the radius is less
    """
    radius = _checked(radius)
    # in a mask without any outline, distances to it are undefined
    return _reshaped(label_map, class_id, lambda mask: mask if mask.all() else isotropic_erosion(mask, radius), margin=1)


def _reshaped(
    label_map: np.ndarray, class_id: int, change: Callable[[np.ndarray], np.ndarray], *, margin: int
) -> np.ndarray:
    """The class with another mask, which `change` makes of the present one in a window around it."""
    mask = label_map == class_id
    window = window_of(mask, margin)
    edited = label_map.copy()
    if window is not None:
        edited[window] = _redrawn(edited[window], class_id, change(np.ascontiguousarray(mask[window])))
    return edited


def _redrawn(label_map: np.ndarray, class_id: int, mask: np.ndarray) -> np.ndarray:
    """The class with this mask, but for pixels of other classes."""
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
        raise ProjectError(f"A radius is a number of pixels from 1; got {radius}. Choose a larger one.")
    return radius
