"""What is followed without interruption, and which of it belongs to one instrument."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from surgicalsam_napari.tracking.looks import Look

NEAR_END = 10  # frames: the pieces that an instrument has so near to its first or last frame say how it looks there


@dataclass
class Tracklet:
    """A region that is followed from frame to frame: an instrument, or a piece of one.

    Attributes
    ----------
    key : identifies it among all of a linking
    begin, end : the looks of its first and of its latest frames
    classes, areas : by frame index, its class and its area in pixels of the working size
    part_of : the key of the tracklet of which it is a piece; None for an instrument
    unseen : frames since it was seen
    area : its usual area, in pixels of the working size
    shown : the areas of the frames in the memory of its look, the older ones with less weight
    apart : frames in a row in which it was far from the rest of its instrument
    """

    key: int
    begin: Look
    end: Look
    classes: dict[int, int] = field(default_factory=dict)
    areas: dict[int, int] = field(default_factory=dict)
    part_of: int | None = None
    unseen: int = 0
    apart: int = 0
    area: float = 0.0
    shown: float = 0.0

    @property
    def age(self) -> int:
        """The number of frames that show it."""
        return len(self.classes)

    @property
    def class_id(self) -> int:
        """The class of most of its frames."""
        return int(np.bincount(list(self.classes.values())).argmax())

    @property
    def latest_class(self) -> int:
        return next(reversed(self.classes.values()))


class Tracklets:
    """All tracklets of a scene, by key; those of one instrument have one root."""

    def __init__(self) -> None:
        self._by_key: dict[int, Tracklet] = {}
        self.live: dict[int, Tracklet] = {}

    def __getitem__(self, key: int) -> Tracklet:
        return self._by_key[key]

    def begin(self, key: int, look: Look, part_of: int | None) -> Tracklet:
        """A new tracklet."""
        tracklet = self._by_key[key] = self.live[key] = Tracklet(key, look, look, part_of=part_of)
        return tracklet

    def end(self, key: int) -> None:
        """It is out of sight for good."""
        del self.live[key]

    def root(self, key: int) -> int:
        """The key that stands for the instrument."""
        while (parent := self._by_key[key].part_of) is not None:
            key = parent
        return key

    def join(self, key: int, other: int) -> None:
        """Both are pieces of one instrument, that of `other`."""
        first, second = self.root(key), self.root(other)
        if first != second:
            self._by_key[first].part_of = second

    def roots(self) -> dict[int, list[Tracklet]]:
        """The tracklets of each instrument, by the key of their root."""
        groups: dict[int, list[Tracklet]] = {}
        for key, tracklet in self._by_key.items():
            groups.setdefault(self.root(key), []).append(tracklet)
        return groups

    def last_frames(self) -> dict[int, int]:
        """The last frame that showed each instrument, by the key of its root."""
        last: dict[int, int] = {}
        for key, tracklet in self._by_key.items():
            if tracklet.classes:
                root = self.root(key)
                last[root] = max(last.get(root, -1), next(reversed(tracklet.classes)))
        return last


@dataclass(frozen=True)
class Stretch:
    """An instrument in the frames in which it was followed without interruption.

    Attributes
    ----------
    first, last : frame indices
    begin, end : the looks of its first and of its latest frames
    classes : by frame index, the class of most of its pixels
    """

    key: int
    first: int
    last: int
    begin: Look
    end: Look
    classes: dict[int, int]

    @property
    def class_id(self) -> int:
        """The class of most of its frames."""
        return int(np.bincount(list(self.classes.values())).argmax())


def stretch_of(key: int, pieces: Iterable[Tracklet], until: int) -> Stretch | None:
    """The pieces of one instrument together, up to the frame `until`; None if it is not seen there."""
    pieces = [piece for piece in pieces if piece.classes]
    areas: dict[int, dict[int, int]] = {}
    for piece in pieces:
        for index, class_id in piece.classes.items():
            if index > until:
                break
            by_class = areas.setdefault(index, {})
            by_class[class_id] = by_class.get(class_id, 0) + piece.areas[index]
    classes = {index: max(by_class, key=by_class.__getitem__) for index, by_class in sorted(areas.items())}
    if not classes:
        return None
    first, last = min(classes), max(classes)
    begin = _look(pieces, [index for index in classes if index < first + NEAR_END], "begin")
    end = _look(pieces, [index for index in classes if index > last - NEAR_END], "end")
    return Stretch(key, first, last, begin, end, classes)


def _look(pieces: Sequence[Tracklet], frames: Sequence[int], which: str) -> Look:
    """The look of the largest piece in these frames, and where the pieces enter the picture."""
    sizes = [(sum(piece.areas.get(index, 0) for index in frames), piece.key, getattr(piece, which)) for piece in pieces]
    looks = [(size, look) for size, _, look in sorted(sizes, key=lambda one: -one[0]) if size]
    entering = [(size, look.entry) for size, look in looks if look.entry is not None]
    if not entering:
        return looks[0][1]
    weights, entries = zip(*entering, strict=True)
    return replace(looks[0][1], entry=np.average(entries, axis=0, weights=weights))
