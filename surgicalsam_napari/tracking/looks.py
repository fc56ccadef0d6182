"""What a region looks like and where it enters the picture, to find an instrument again that was out of sight."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

COLOUR_BINS = 8  # per channel
REACH = 3  # pixels of the working size: so near to the border of the picture, a region enters there
DARKEST = 12  # grey levels: darker rows and columns at the border of a picture are not part of it
NEAR_ENTRY = 0.2  # picture widths: what enters so near may be pieces of one instrument, such as its jaws
JAWS_SHARE = 0.02  # of the picture: of a smaller instrument that enters, only the jaws are in sight
LEAST_LENGTH = 1.6  # length to width from which the direction of a region counts

# Weights and scales of the differences between two looks; a difference of one scale counts fully
ENTRY_WEIGHT, ENTRY_SCALE = 3.0, 0.3  # picture widths
DIRECTION_WEIGHT, DIRECTION_SCALE = 1.5, np.pi / 4
COLOUR_WEIGHT, COLOUR_SCALE = 1.0, 0.5
EMBEDDING_WEIGHT, EMBEDDING_SCALE = 1.0, 0.3


@dataclass(frozen=True)
class Look:
    """A description of a region.

    Attributes
    ----------
    colour : (24,) float32, a histogram of the three channels, sum 1; None for jaws without a shaft
    entry : (2,) column and row where the region meets the border of the picture, in picture widths; None inside it
    direction : angle of the long axis, in radians, 0 to pi; None for a compact region, and for jaws without a shaft
    embedding : (D,) float32, the mean of the image embedding, of length 1; None without embeddings
    border : (N, 2) the pixels where the region enters, in picture widths; None inside the picture
    """

    colour: np.ndarray | None
    entry: np.ndarray | None = None
    direction: float | None = None
    embedding: np.ndarray | None = None
    border: np.ndarray | None = None

    @property
    def is_of_jaws(self) -> bool:
        """Whether only jaws were seen on their way in or out: they say little but where they enter."""
        return self.entry is not None and self.colour is None

    def mixed(self, other: Look, share: float) -> Look:
        """This look, moved by a share towards another one; what only one of them has is kept."""
        embedding = _mixed(self.embedding, other.embedding, share)
        return Look(
            _mixed(self.colour, other.colour, share),
            _mixed(self.entry, other.entry, share),
            _mixed_angle(self.direction, other.direction, share),
            None if embedding is None else embedding / max(float(np.linalg.norm(embedding)), 1e-6),
        )

    def difference(self, other: Look) -> float:
        """0 to 1: how different two looks are; 1 if they have nothing in common to compare.

        Where an instrument enters counts most: two of one kind look alike.
        """
        terms = []
        if self.colour is not None and other.colour is not None:
            terms.append((COLOUR_WEIGHT, float(np.abs(self.colour - other.colour).sum()) / 2 / COLOUR_SCALE))
        if self.entry is not None and other.entry is not None:
            terms.append((ENTRY_WEIGHT, float(np.hypot(*(self.entry - other.entry))) / ENTRY_SCALE))
        if self.direction is not None and other.direction is not None:
            terms.append((DIRECTION_WEIGHT, _angle_between(self.direction, other.direction) / DIRECTION_SCALE))
        if self.embedding is not None and other.embedding is not None:
            terms.append((EMBEDDING_WEIGHT, (1 - float(self.embedding @ other.embedding)) / EMBEDDING_SCALE))
        weights = sum(weight for weight, _ in terms)
        return sum(weight * min(value, 1.0) for weight, value in terms) / weights if terms else 1.0


def look_of(mask: np.ndarray, picture: np.ndarray, content: tuple[int, int, int, int], embedding: np.ndarray | None) -> Look:
    """The look of a region.

    Parameters
    ----------
    mask : (h, w) bool, with at least one pixel
    picture : (h, w, 3) uint8 RGB
    content : top, bottom, left, right: first and last row and column of the picture inside its black border
    embedding : (D, h', w') of the part of the encoder's square that shows the picture
    """
    rows, columns = np.nonzero(mask)
    entries = entries_of(rows, columns, content, mask.shape[1])
    border = max(entries, key=len) if entries else None
    are_jaws = border is not None and len(rows) < JAWS_SHARE * mask.size
    return Look(
        None if are_jaws else _colour(picture[rows, columns]),
        None if border is None else border.mean(axis=0),
        None if are_jaws else _direction(rows, columns, border, mask.shape[1]),
        None if embedding is None else _mean_embedding(mask, embedding),
        border,
    )


def entries_of(rows: np.ndarray, columns: np.ndarray, content: tuple[int, int, int, int], width: int) -> list[np.ndarray]:
    """The places where a region meets the border of the picture, each (N, 2) column and row in picture widths.

    An instrument has one: pixels that are no farther apart than its jaws may be are one place.
    """
    top, bottom, left, right = content
    is_border = (rows < top + REACH) | (rows > bottom - REACH) | (columns < left + REACH) | (columns > right - REACH)
    if not is_border.any():
        return []
    x, y = columns[is_border] - left, rows[is_border] - top
    wide, high = right - left, bottom - top
    sides = np.stack([y, wide - x, high - y, x])
    along = np.choose(sides.argmin(axis=0), [x, wide + y, 2 * wide + high - x, 2 * (wide + high) - y])
    order = np.argsort(along, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(along[order]) > NEAR_ENTRY * width) + 1)
    if len(groups) > 1 and 2 * (wide + high) - along[order[-1]] + along[order[0]] <= NEAR_ENTRY * width:
        groups[0] = np.concatenate([groups.pop(), groups[0]])
    points = np.stack([columns[is_border], rows[is_border]], axis=1).astype(np.float32) / np.float32(width)
    return [points[group] for group in groups]


def border_gap(first: Look, second: Look) -> float | None:
    """The distance along which two regions meet the border apart from one another, in picture widths; None inside it."""
    if first.border is None or second.border is None:
        return None
    return float(np.sqrt(np.square(first.border[:, None] - second.border).sum(axis=2).min()))


def entry_distance(first: Look, second: Look) -> float | None:
    """The distance of the places where two looks enter the picture, in picture widths; None if one of them does not."""
    if first.entry is None or second.entry is None:
        return None
    return float(np.hypot(*(first.entry - second.entry)))


def content_box(grey: np.ndarray) -> tuple[int, int, int, int]:
    """Top, bottom, left, right: the first and last row and column of a picture, (h, w) uint8, inside its black border."""
    rows, columns = (np.flatnonzero(grey.max(axis=axis) > DARKEST) for axis in (1, 0))
    if not len(rows) or not len(columns):
        return 0, grey.shape[0] - 1, 0, grey.shape[1] - 1
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def _colour(pixels: np.ndarray) -> np.ndarray:
    bins = pixels >> 5
    counts = [np.bincount(bins[:, channel], minlength=COLOUR_BINS) for channel in range(3)]
    return (np.concatenate(counts) / (3 * len(pixels))).astype(np.float32) * 3


def _direction(rows: np.ndarray, columns: np.ndarray, border: np.ndarray | None, width: int) -> float | None:
    """The angle of the long axis of a region; of one that enters and is wider there than deep, little can be said."""
    if len(rows) < 3:
        return None
    if border is not None:
        inwards = np.array([columns.mean(), rows.mean()]) / width - border.mean(axis=0)
        if 2 * np.hypot(*inwards) < LEAST_LENGTH * np.hypot(*np.ptp(border, axis=0)):
            return None
    covariance = np.cov(columns, rows)
    values, vectors = np.linalg.eigh(covariance)
    if values[1] < LEAST_LENGTH**2 * max(values[0], 1e-6):
        return None
    return float(np.arctan2(vectors[1, 1], vectors[0, 1]) % np.pi)


def _mean_embedding(mask: np.ndarray, embedding: np.ndarray) -> np.ndarray:
    share = cv2.resize(mask.astype(np.float32), embedding.shape[:0:-1], interpolation=cv2.INTER_AREA)
    mean = np.tensordot(embedding.astype(np.float32), share, axes=2)
    return mean / max(float(np.linalg.norm(mean)), 1e-6)


def _mixed(first: np.ndarray | None, second: np.ndarray | None, share: float) -> np.ndarray | None:
    if first is None or second is None:
        return first if second is None else second
    return first + (second - first) * np.float32(share)


def _mixed_angle(first: float | None, second: float | None, share: float) -> float | None:
    if first is None or second is None:
        return first if second is None else second
    turn = (second - first + np.pi / 2) % np.pi - np.pi / 2
    return float((first + share * turn) % np.pi)


def _angle_between(first: float, second: float) -> float:
    return abs((second - first + np.pi / 2) % np.pi - np.pi / 2)
