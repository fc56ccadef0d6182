"""Link the label maps of a video: a number for each instance in each frame, and the tracks that the numbers stand for."""

from __future__ import annotations

import zlib
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from surgicalsam_napari.tracking.linker import Linker
from surgicalsam_napari.tracking.regions import nearest_values
from surgicalsam_napari.tracking.stitching import stitched
from surgicalsam_napari.tracking.tracklets import Stretch, stretch_of

LARGEST_NUMBER = 255
FOREVER = 2**62
NO_NUMBER = 256
CRUMB_REACH = 0.06  # picture widths: a crumb that is so near to an instance of its class is a piece of it
DELAY = 500  # frames that wait until it is clear which pieces belong to one instrument


@dataclass(frozen=True)
class LabelledFrame:
    """A frame to link.

    Attributes
    ----------
    index : of the video
    picture : (H, W, 3) uint8 RGB
    labels : (H, W) uint8 class ids, 0 background
    embedding : (D, h', w'), the part of the image embedding that shows the picture; None without one
    """

    index: int
    picture: np.ndarray
    labels: np.ndarray
    embedding: np.ndarray | None = None


@dataclass(frozen=True)
class LinkedFrame:
    """A frame with its instances.

    Attributes
    ----------
    index : of the video
    coarse_numbers : (h, w) int32 at the working size, 0 without an instance, `NO_NUMBER` where none was free
    without_number : instances that got none, because more than 255 are in the frame
    is_cut : whether a new scene begins with it
    """

    index: int
    coarse_numbers: np.ndarray
    without_number: int
    is_cut: bool

    def numbers(self, labels: np.ndarray) -> np.ndarray:
        """(H, W) uint8: the number of each labelled pixel, of the nearest instance that has its class; 0 far from each.

        Parameters
        ----------
        labels : (H, W) uint8, those that were linked
        """
        coarse = cv2.resize(labels, self.coarse_numbers.shape[::-1], interpolation=cv2.INTER_NEAREST)
        result = np.zeros(labels.shape, np.uint8)
        for class_id in np.flatnonzero(np.bincount(coarse.ravel(), minlength=256)[1:]).tolist():
            here = nearest_values(np.where(coarse == class_id + 1, self.coarse_numbers, 0), CRUMB_REACH * coarse.shape[1])
            numbers = np.where(here == NO_NUMBER, 0, here).astype(np.uint8)
            enlarged = cv2.resize(numbers, labels.shape[::-1], interpolation=cv2.INTER_NEAREST)
            cv2.copyTo(enlarged, (labels == class_id + 1).view(np.uint8), result)
        return result


@dataclass(frozen=True)
class LinkedTrack:
    """An instance followed over frames.

    Attributes
    ----------
    class_id : of most of its frames
    spans : first frame, last frame, number: in these frames this number is the instance, and no other track
    """

    class_id: int
    spans: tuple[tuple[int, int, int], ...]


class Linking:
    """Numbers the instances of frames, given in their order.

    A frame comes out when `delay` more have been given, or its scene has ended: only then it is clear that two jaws that
    entered one after the other are one instrument. What was followed before and after an occlusion is one track at the end,
    though its number may differ.

    Parameters
    ----------
    size : (H, W) of the frames
    """

    def __init__(self, size: tuple[int, int], delay: int = DELAY) -> None:
        self._linker, self._delay = Linker(size), delay
        self._scene = _Scene()
        self._tracks: list[LinkedTrack] = []

    def add(self, frame: LabelledFrame) -> Iterator[LinkedFrame]:
        """The frames that come out when this one is given; read them all."""
        picture = self._linker.reduced(frame.picture)
        is_cut = self._linker.is_cut(picture)
        if is_cut:
            yield from self.rest()
            self._tracks += self._scene.tracks(self._linker)
            self._linker.begin_scene()
            self._scene = _Scene()
        keys = self._linker.advance(frame.index, picture, frame.labels, frame.embedding)
        self._scene.add(frame.index, keys, is_cut)
        if len(self._scene) > self._delay:
            yield self._scene.next_frame(self._linker)

    def rest(self) -> Iterator[LinkedFrame]:
        """The frames that still wait, after the last one was given."""
        while len(self._scene):
            yield self._scene.next_frame(self._linker)

    def tracks(self) -> tuple[LinkedTrack, ...]:
        """The tracks of the frames that have come out."""
        return (*self._tracks, *self._scene.tracks(self._linker))


def link_frames(frames: Iterable[LabelledFrame]) -> Generator[LinkedFrame, None, tuple[LinkedTrack, ...]]:
    """Number the instances of each frame, in the order given; at the end, return the tracks. See `Linking`."""
    linking: Linking | None = None
    for frame in frames:
        linking = linking or Linking(frame.labels.shape)
        yield from linking.add(frame)
    if linking is None:
        return ()
    yield from linking.rest()
    return linking.tracks()


@dataclass
class _Grant:
    """A number that an instrument had from frame `first` to `last`; nothing else had it in these frames.

    Attributes
    ----------
    root : the key that stood for the instrument then
    """

    root: int
    number: int
    first: int
    last: int


class _Scene:
    """The frames of a scene that wait, and the numbers that its instruments got in those that came out.

    Which pieces are one instrument may still change afterwards. A track has what was granted, whatever its pieces are now:
    so a number is one track in a frame.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, bytes, tuple[int, int], bool]] = deque()
        self._grants: list[_Grant] = []
        self._held: dict[int, _Grant] = {}  # by root, those that go on
        self._frames: list[int] = []  # that have come out

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, index: int, keys: np.ndarray, is_cut: bool) -> None:
        self._waiting.append((index, zlib.compress(keys.tobytes(), 1), keys.shape, is_cut))

    def next_frame(self, linker: Linker) -> LinkedFrame:
        """The first of the waiting frames, with its numbers."""
        index, packed, shape, is_cut = self._waiting.popleft()
        self._frames.append(index)
        keys = np.frombuffer(zlib.decompress(packed), np.int32).reshape(shape)
        areas = np.bincount(keys.ravel())
        numbers, without = np.zeros(len(areas), np.int32), set[int]()
        for key in (np.argsort(-areas[1:], kind="stable") + 1).tolist():
            if areas[key]:
                root = linker.tracklets.root(key)
                numbers[key] = NO_NUMBER if root in without else self._number(root, index, linker) or NO_NUMBER
                without |= {root} if numbers[key] == NO_NUMBER else set()
        return LinkedFrame(index, numbers[keys], len(without), is_cut)

    def _number(self, root: int, index: int, linker: Linker) -> int:
        """The number of an instrument in this frame; 0 if none is free."""
        if root not in self._held:
            self._end_grants(index, linker)
            in_use = {grant.number for grant in self._held.values()}
            free = next((number for number in range(1, LARGEST_NUMBER + 1) if number not in in_use), 0)
            if not free:
                return 0
            self._held[root] = _Grant(root, free, index, index)
            self._grants.append(self._held[root])
        self._held[root].last = index
        return self._held[root].number

    def _end_grants(self, index: int, linker: Linker) -> None:
        """Numbers of instruments that are not in this frame or a later one are free."""
        last = linker.tracklets.last_frames()
        self._held = {root: grant for root, grant in self._held.items() if last.get(root, -1) >= index}

    def tracks(self, linker: Linker) -> list[LinkedTrack]:
        """The tracks of the scene in the frames that have come out."""
        if not self._frames:
            return []
        granted: dict[int, list[_Grant]] = {}
        for grant in self._grants:
            granted.setdefault(linker.tracklets.root(grant.root), []).append(grant)
        groups = linker.tracklets.roots().items()
        stretches = [stretch for root, pieces in groups if (stretch := stretch_of(root, pieces, self._frames[-1]))]
        return [track for group in stitched(stretches) for track in self._tracks_of(group, granted)]

    def _tracks_of(self, group: list[Stretch], granted: Mapping[int, list[_Grant]]) -> Iterator[LinkedTrack]:
        """The track of stretches that follow one another, and what else was granted to them in the same frames."""
        main: dict[int, int] = {}
        rests: list[tuple[int, dict[int, int]]] = []
        for stretch, following in zip(group, [*group[1:], None], strict=True):
            until = FOREVER if following is None else following.first - 1
            for grant in sorted(granted.get(stretch.key, []), key=lambda one: one.first - one.last):
                frames = self._frames[bisect_left(self._frames, grant.first) : bisect_right(self._frames, grant.last)]
                free = {index for index in frames if index <= until and index not in main}
                main |= dict.fromkeys(free, grant.number)
                rests.append(
                    (stretch.class_id, dict.fromkeys((index for index in frames if index not in free), grant.number))
                )
        counts = np.bincount([class_id for stretch in group for class_id in stretch.classes.values()])
        for class_id, numbers in ((int(counts.argmax()), main), *rests):
            if numbers:
                yield LinkedTrack(class_id, tuple(_runs(numbers)))


def _runs(numbers: Mapping[int, int]) -> Iterator[tuple[int, int, int]]:
    """First frame, last frame and number of runs of frames with the same number, given by frame."""
    frames = np.array(sorted(numbers))
    values = np.array([numbers[index] for index in frames.tolist()])
    for run in np.split(np.arange(len(frames)), np.flatnonzero((np.diff(frames) != 1) | (np.diff(values) != 0)) + 1):
        yield int(frames[run[0]]), int(frames[run[-1]]), int(values[run[0]])
