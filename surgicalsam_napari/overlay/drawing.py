"""Draw the masks of one frame over it: filled or as outlines, in the colours of the classes, with their names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from surgicalsam_napari.errors import ClassSetError
from surgicalsam_napari.instruments import ClassSet, InstrumentClass
from surgicalsam_napari.overlay.name_tags import Place, draw_tag, name_tag, place_tag

FRAME_PER_LINE = 360  # the shorter side of the frame, in widths of an outline
NAMED_SHARE = 1 / 3  # a further region of a class gets a name if it has this share of the largest one's pixels


@dataclass(frozen=True)
class OverlayStyle:
    """How masks are drawn.

    Attributes
    ----------
    opacity : of the masks, from 0 (invisible) to 1
    outlines : draw only the outlines of the masks
    names : write the name of each class beside its masks
    class_ids : the classes to draw; None for all
    """

    opacity: float = 0.5
    outlines: bool = False
    names: bool = True
    class_ids: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.opacity <= 1:
            raise ClassSetError(f"The opacity of an overlay is from 0 to 1; got {self.opacity}. Choose a value between.")


DEFAULT_STYLE = OverlayStyle()


def draw_overlay(
    image: np.ndarray, label_map: np.ndarray, classes: ClassSet, style: OverlayStyle = DEFAULT_STYLE
) -> np.ndarray:
    """The frame with its masks.

    Parameters
    ----------
    image : (H, W, 3) uint8 RGB; it is not changed
    label_map : (H, W) uint8, ids of `classes`, 0 for background

    Returns
    -------
    (H, W, 3) uint8

    Raises
    ------
    ClassSetError
        `style.class_ids` has an id that `classes` does not have
    """
    shown = [instrument for instrument in _chosen(classes, style) if (label_map == instrument.id).any()]
    drawn = _outlines(label_map, shown) if style.outlines else _only(label_map, shown)
    picture = image.copy()
    box = _bounding_box(drawn)  # the rest of the frame stays as it is
    _blend(picture[box], drawn[box], shown, style.opacity)
    if style.names:
        _draw_names(picture, label_map, shown)
    return picture


def _bounding_box(drawn: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns with any pixel; empty if there is none."""
    rows, columns = (np.flatnonzero(drawn.any(axis=axis)) for axis in (1, 0))
    return (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)) if len(rows) else (slice(0), slice(0))


def _blend(picture: np.ndarray, drawn: np.ndarray, classes: list[InstrumentClass], opacity: float) -> None:
    """Blend the colours of the drawn pixels into (h, w, 3) uint8."""
    if not drawn.size:
        return
    palette = np.zeros((256, 3), np.uint8)
    for instrument in classes:
        palette[instrument.id] = instrument.rgb
    mixed = cv2.addWeighted(picture, 1 - opacity, palette[drawn], opacity, 0)
    np.copyto(picture, mixed, where=(drawn > 0)[..., None])


def _chosen(classes: ClassSet, style: OverlayStyle) -> Iterable[InstrumentClass]:
    return classes if style.class_ids is None else [classes.by_id(class_id) for class_id in style.class_ids]


def _only(label_map: np.ndarray, classes: list[InstrumentClass]) -> np.ndarray:
    """The label map with the pixels of other classes as background."""
    kept = np.zeros(256, np.uint8)
    for instrument in classes:
        kept[instrument.id] = instrument.id
    return kept[label_map]


def _outlines(label_map: np.ndarray, classes: list[InstrumentClass]) -> np.ndarray:
    """(H, W) uint8: class ids on the outlines of the masks, with lines that suit the size of the frame."""
    lines = np.zeros_like(label_map)
    thickness = max(1, round(min(label_map.shape) / FRAME_PER_LINE))
    for instrument in classes:
        mask = (label_map == instrument.id).astype(np.uint8)
        contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(lines, contours, -1, instrument.id, thickness)
    return lines


def _draw_names(picture: np.ndarray, label_map: np.ndarray, classes: list[InstrumentClass]) -> None:
    """Write the names of the classes beside their large regions, without covering one name with another."""
    taken: list[Place] = []
    for instrument in classes:
        tag = name_tag(instrument.name, instrument.color, label_map.shape)
        named: list[Place] = []
        for region in _large_regions(label_map == instrument.id):
            if any(region.grown(tag.shape[0]).overlaps(other) for other in named):
                continue  # a piece of the same instrument: one name is enough
            place = place_tag(tag.shape[:2], region, taken, label_map.shape)
            draw_tag(picture, tag, place)
            named.append(region)
            taken.append(place)


def _large_regions(mask: np.ndarray) -> list[Place]:
    """The bounding boxes of the largest region (8 neighbours) and of those nearly as large, the largest first."""
    _, _, table, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    regions = sorted(table[1:].tolist(), key=lambda row: -row[cv2.CC_STAT_AREA])
    return [
        Place(top, left, height, width)
        for left, top, width, height, area in regions
        if area >= NAMED_SHARE * regions[0][cv2.CC_STAT_AREA]
    ]
