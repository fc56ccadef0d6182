"""The rows of the timeline: one for each class, and below a class that is open one for each of its tracks; no Qt."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.store import Track


@dataclass(frozen=True)
class TrackLine:
    """A track as its row shows it.

    Attributes
    ----------
    title : "Large Needle Driver 2"
    color : "#rrggbb", that of the instance in the canvas
    """

    track: Track
    title: str
    color: str

    def covers(self, edges: np.ndarray) -> np.ndarray:
        """(N,) bool: whether the track has a frame in each bin.

        Parameters
        ----------
        edges : (N + 1,) ascending frame indices; bin i holds the frames from edges[i] up to, not including, edges[i + 1]
        """
        firsts, lasts = self._bounds
        span = np.searchsorted(lasts, edges[:-1])  # the first span that does not end before the bin
        is_there = span < len(firsts)
        return is_there & (firsts[np.minimum(span, len(firsts) - 1)] < edges[1:])

    def frame_in(self, frames: range) -> int | None:
        """The first of these frames that the track has; None if it has none of them."""
        firsts, lasts = self._bounds
        span = int(np.searchsorted(lasts, frames.start))
        if span == len(firsts) or firsts[span] >= frames.stop:
            return None
        return max(int(firsts[span]), frames.start)

    @cached_property
    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        spans = np.array([(span.first, span.last) for span in self.track.spans])
        return spans[:, 0], spans[:, 1]


@dataclass(frozen=True)
class Row:
    """A row of a class (`line` is None), or of a track of the class.

    Attributes
    ----------
    place : of the class in the class set
    """

    place: int
    line: TrackLine | None = None


Lines = Mapping[int, tuple[TrackLine, ...]]  # by class id


def rows_of(classes: ClassSet, lines: Lines, opened: Collection[int]) -> tuple[Row, ...]:
    """All rows from top to bottom; the classes in `opened` (ids) show their tracks."""

    def rows() -> Iterator[Row]:
        for place, class_id in enumerate(classes.ids):
            yield Row(place)
            if class_id in opened:
                yield from (Row(place, line) for line in lines.get(class_id, ()))

    return tuple(rows())
