"""Instances of a frame: which pixels are one instrument, and which track it is in the other frames."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.overlaps import ClassMask
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.store.label_maps import present_ids

NO_TRACKS = "The numbers of instances are those of a frame, not of a video: they come as instances without tracks."
LARGEST_TRACK_ID = 65535  # maps of track ids are uint16, and 0 is no track


@dataclass(frozen=True)
class Instances:
    """The instances of a frame.

    Attributes
    ----------
    numbers : (H, W) uint16, 0 for no instance; a number has a meaning only in this frame
    tracks : the track id of each number; a number that is not listed is an instance of this frame alone
    """

    numbers: np.ndarray
    tracks: Mapping[int, int] = field(default_factory=dict)

    def track_ids(self) -> np.ndarray:
        """(H, W) uint16, 0 where there is no track; uint32 for a track of an export with a larger id."""
        largest = max(self.tracks.values(), default=0)
        table = np.zeros(int(self.numbers.max(initial=0)) + 1, np.uint16 if largest <= LARGEST_TRACK_ID else np.uint32)
        for number, track_id in self.tracks.items():
            if number < len(table):
                table[number] = track_id
        return table[self.numbers]


def instances_of(masks: Iterable[ClassMask], shape: tuple[int, ...]) -> Instances:
    """The instances of masks, the lowest first. Masks of one track, or of one instance, have the same number."""
    numbers = np.zeros(shape, np.uint16)
    known: dict[tuple[str, int], int] = {}
    for one in masks:
        number = 0
        if one.track_id is not None:
            number = known.setdefault(("track", one.track_id), len(known) + 1)
        elif one.instance is not None:
            number = known.setdefault(("instance", one.instance), len(known) + 1)
        if number > LARGEST_TRACK_ID:
            raise ExchangeError(f"A frame has more than {LARGEST_TRACK_ID:,} instances. Remove the smallest ones.")
        numbers[one.mask] = number
    return Instances(numbers, {number: key[1] for key, number in known.items() if key[0] == "track"})


def instance_masks(label_map: np.ndarray, instances: Instances | None) -> Iterator[ClassMask]:
    """A mask for each instance of each class; the pixels of a class that are no instance are one mask.

    Parameters
    ----------
    label_map : (H, W) uint8, class ids
    """
    for class_id in present_ids(label_map):
        of_class = label_map == class_id
        if instances is None:
            yield ClassMask(class_id, of_class)
            continue
        for number in np.flatnonzero(np.bincount(instances.numbers[of_class])).tolist():
            mask = of_class & (instances.numbers == number)
            track_id = instances.tracks.get(number)
            yield ClassMask(class_id, mask, track_id, number if number and track_id is None else None)


def numbered_tracks(raw_ids: Iterable[Hashable]) -> tuple[dict[Hashable, int], str]:
    """Track ids for the ids that a file has: whole numbers from 1 to 65535 stay, others get the lowest free ones.

    Returns
    -------
    the track id of each id, and what to say about those that changed; "" if all stay

    Raises
    ------
    ExchangeError
        there are more than 65535
    """
    ids = list(dict.fromkeys(raw_ids))
    numbers: dict[Hashable, int] = {}
    taken: set[int] = set()
    for raw in ids:
        number = _whole(raw)
        if number is not None and number not in taken:
            numbers[raw] = number
            taken.add(number)
    changed = [raw for raw in ids if raw not in numbers]
    if len(ids) > LARGEST_TRACK_ID:
        raise ExchangeError(f"A video has {len(ids):,} tracks, but at most {LARGEST_TRACK_ID:,} can be read. Split it.")
    free = iter(number for number in range(1, LARGEST_TRACK_ID + 1) if number not in taken)
    for raw in changed:
        numbers[raw] = next(free)
    if not changed:
        return numbers, ""
    have = "has an id that is" if len(changed) == 1 else "have ids that are"
    return numbers, (
        f"{counted(len(changed), 'track')} {have} no free whole number from 1 to {LARGEST_TRACK_ID}: the id "
        f"{_quoted(changed[0])} becomes {numbers[changed[0]]}"
    )


def _quoted(raw: Hashable) -> str:
    return f'"{raw[:40]}"' if isinstance(raw, str) else str(raw)[:40]


def _whole(raw: Hashable) -> int | None:
    if isinstance(raw, bool):
        return None
    if isinstance(raw, str) and raw.strip().isdecimal() and len(raw) < 20:
        raw = int(raw)
    if isinstance(raw, float) and raw.is_integer():
        raw = int(raw)
    return raw if isinstance(raw, int) and 1 <= raw <= LARGEST_TRACK_ID else None


@dataclass
class ObjectNumbers:
    """Numbers of the objects in a format where an object has one class and one number in all frames of a video.

    A track that changes its class is several objects. `tracks` says which track each number is, for classes.json: 0 for the
    pixels of a class that are no instance; instances of a single frame are left out.

    Attributes
    ----------
    known : by video, class and instance
    """

    known: dict[tuple[Hashable, ...], int] = field(default_factory=dict)
    tracks: dict[str, dict[int, int]] = field(default_factory=dict)

    def number(self, sequence: str, frame_index: int, one: ClassMask, free: Iterable[int]) -> int:
        """The number of an object.

        Parameters
        ----------
        free : numbers in the order in which they are preferred; those of the video's other objects are skipped
        """
        instance = ("instance", frame_index, one.instance) if one.instance is not None else ("track", one.track_id)
        key = (sequence, one.class_id, *instance)
        if key not in self.known:
            taken = {number for (video, *_), number in self.known.items() if video == sequence}
            self.known[key] = next(number for number in free if number not in taken)
            if one.instance is None:
                self.tracks.setdefault(sequence, {})[self.known[key]] = one.track_id or 0
        return self.known[key]


def read_object(one: ClassMask, number: int | str, exported: Mapping[int, int] | None) -> ClassMask:
    """The mask of an object of an export, with its track or instance.

    Parameters
    ----------
    number : of the object in the file
    exported : `ObjectNumbers.tracks` of its video; None if the export has no instances
    """
    if exported is None:
        return one
    if isinstance(number, str):
        number = int(number) if number.isdecimal() and len(number) < 20 else -1
    if number not in exported:
        return replace(one, instance=number)
    return replace(one, track_id=exported[number] or None)
