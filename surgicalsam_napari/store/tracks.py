"""The table of tracks: which instrument a number in `instances` is, frame by frame. Every edit returns a new table."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import google_crc32c

from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.instruments import LARGEST_CLASS_ID, ClassSet, shortened
from surgicalsam_napari.untrusted import json_from

LARGEST_ID = 2**31 - 1  # of a track, so that other programs can read it
LARGEST_NUMBER = 255  # `instances` is uint8, and 0 is no instance
LINKED, PERSON, IMPORTED = "linked", "person", "imported"
MAKERS = (LINKED, PERSON, IMPORTED)
FORMAT, VERSION = "surgicalsam-tracks", 1  # of tracks.json
NEW = 0  # the id of a track that gets a free one from `with_linked`


@dataclass(frozen=True)
class Span:
    """From `first` to `last`, both included, the track is the pixels of `instances` with this number.

    A frame of a span may have no such pixels: they were erased, or got another class.
    """

    first: int
    last: int
    number: int

    @property
    def frames(self) -> range:
        return range(self.first, self.last + 1)


@dataclass(frozen=True)
class Track:
    """One instrument, followed over frames.

    Attributes
    ----------
    id : from 1; it never changes
    spans : ascending, at most one for a frame; a gap is where the instrument is out of view
    made_by : "linked", "person" or "imported". Linking never joins, splits or renames what a person made
    """

    id: int
    class_id: int
    spans: tuple[Span, ...]
    made_by: str = LINKED

    @property
    def first(self) -> int:
        return self.spans[0].first

    @property
    def last(self) -> int:
        return self.spans[-1].last

    @property
    def frame_count(self) -> int:
        return sum(len(span.frames) for span in self.spans)

    def number_at(self, frame_index: int) -> int | None:
        """The number of its pixels in a frame; None where it is out of view."""
        position = bisect_right(self.spans, frame_index, key=lambda span: span.first) - 1
        if position < 0 or frame_index > self.spans[position].last:
            return None
        return self.spans[position].number

    def frames(self) -> Iterator[int]:
        """Its frames, ascending."""
        return (index for span in self.spans for index in span.frames)

    def frames_shared_with(self, other: Track) -> Iterator[int]:
        """The frames that both have, ascending."""
        mine, theirs = iter(self.spans), iter(other.spans)
        a, b = next(mine, None), next(theirs, None)
        while a is not None and b is not None:
            yield from range(max(a.first, b.first), min(a.last, b.last) + 1)
            if a.last < b.last:
                a = next(mine, None)
            else:
                b = next(theirs, None)


@dataclass(frozen=True)
class TrackTable:
    """The tracks of a project, ascending by id. In a frame, a number belongs to one track at most.

    The edits return a new table. They raise a ProjectError if they are not possible.
    """

    tracks: tuple[Track, ...] = ()

    # ---- look up

    def by_id(self, track_id: int) -> Track:
        """A ProjectError if there is none."""
        for track in self.tracks:
            if track.id == track_id:
                return track
        known = ", ".join(str(track.id) for track in self.tracks[:20]) or "none"
        raise ProjectError(f"This project has no track {track_id}; its tracks are {known}. Choose one of them.")

    def at(self, frame_index: int, number: int) -> Track | None:
        """The track of a number in a frame; None if the number has none."""
        return next((track for track in self.tracks if number and track.number_at(frame_index) == number), None)

    def in_frame(self, frame_index: int) -> dict[int, Track]:
        """The tracks of a frame by their number in it."""
        numbers = ((track.number_at(frame_index), track) for track in self.tracks)
        return {number: track for number, track in numbers if number is not None}

    def of_class(self, class_id: int) -> tuple[Track, ...]:
        return tuple(track for track in self.tracks if track.class_id == class_id)

    def title(self, track: Track, classes: ClassSet) -> str:
        """ "Large Needle Driver 2": the class, and the place among the tracks of the class, by id."""
        return self.titles(classes)[track.id]

    def titles(self, classes: ClassSet) -> dict[int, str]:
        """The titles of all tracks by id."""
        names, places, titles = {c.id: c.name for c in classes}, Counter[int](), {}
        for track in self.tracks:
            places[track.class_id] += 1
            titles[track.id] = f"{names.get(track.class_id, f'Class {track.class_id}')} {places[track.class_id]}"
        return titles

    @property
    def next_id(self) -> int:
        return 1 + max((track.id for track in self.tracks), default=0)

    # ---- a person's edits

    def joined(self, track_id: int, other_id: int) -> TrackTable:
        """Two tracks are the same instrument: the frames of the other one become frames of `track_id`."""
        track, other = self.by_id(track_id), self.by_id(other_id)
        if track is other:
            raise ProjectError(f"Two tracks can be joined; got track {track_id} twice. Choose another region.")
        if (shared := next(track.frames_shared_with(other), None)) is not None:
            raise ProjectError(
                f"One instrument has one place in a frame, but frame {shared} shows track {track_id} and track {other_id}. "
                f"Split one of them before they meet (Split here), or swap them, then join."
            )
        spans = _merged((*track.spans, *other.spans))
        return self._with(replace(track, spans=spans, made_by=PERSON)).without(other_id)

    def split(self, track_id: int, frame_index: int) -> TrackTable:
        """From this frame on, it is another instrument: a new track, with the next free id."""
        track = self.by_id(track_id)
        before, after = _cut(track.spans, frame_index)
        if not before or not after:
            raise ProjectError(
                f"A split needs frames on both sides: track {track_id} goes from frame {track.first} to {track.last}, got "
                f"frame {frame_index}. Choose a frame after its first one."
            )
        new = Track(self.next_id, track.class_id, after, PERSON)
        return self._with(replace(track, spans=before, made_by=PERSON), new)

    def swapped(self, track_id: int, other_id: int, frame_index: int) -> TrackTable:
        """From this frame on, the two tracks are exchanged."""
        track, other = self.by_id(track_id), self.by_id(other_id)
        if track is other:
            raise ProjectError(f"A swap needs two tracks; got track {track_id} twice. Choose another region.")
        (mine, rest), (theirs, other_rest) = _cut(track.spans, frame_index), _cut(other.spans, frame_index)
        if not rest and not other_rest:
            raise ProjectError(
                f"From frame {frame_index} on there must be something to swap, but the tracks {track_id} and {other_id} end "
                "before it. Choose an earlier frame."
            )
        swapped = [
            replace(changed, spans=_merged(spans), made_by=PERSON)
            for changed, spans in ((track, mine + other_rest), (other, theirs + rest))
        ]
        kept = [changed for changed in swapped if changed.spans]
        gone = {changed.id for changed in swapped if not changed.spans}
        return TrackTable(tuple(other for other in self._with(*kept).tracks if other.id not in gone))

    def with_class(self, track_id: int, class_id: int, *, made_by: str = PERSON) -> TrackTable:
        """The whole track has another class; its labels must follow."""
        return self._with(replace(self.by_id(track_id), class_id=class_id, made_by=made_by))

    def without(self, track_id: int) -> TrackTable:
        """Without a track: its regions belong to none until they are linked again."""
        gone = self.by_id(track_id)
        return TrackTable(tuple(track for track in self.tracks if track is not gone))

    def with_spans(self, track_id: int, spans: Iterable[Span], *, made_by: str = PERSON) -> TrackTable:
        """A track with more frames; a ProjectError if it has one of them already, or another track has the number there."""
        track = self.by_id(track_id)
        changed = self._with(replace(track, spans=_merged((*track.spans, *spans)), made_by=made_by))
        changed.check()
        return changed

    def with_new(self, class_id: int, spans: Iterable[Span], *, made_by: str = PERSON) -> TrackTable:
        """With a new track, which gets the next free id."""
        changed = self._with(Track(self.next_id, class_id, _merged(spans), made_by))
        changed.check()
        return changed

    # ---- linking and imports

    def without_frames(self, frame_indices: Collection[int], track_id: int | None = None) -> TrackTable:
        """All tracks, or one, without these frames; a track without any other frame goes."""
        gone = _runs(frame_indices)
        kept = (
            replace(track, spans=_without(track.spans, gone)) if track_id in (None, track.id) else track
            for track in self.tracks
        )
        return TrackTable(tuple(track for track in kept if track.spans))

    def with_linked(
        self, linked: Iterable[Track], frame_indices: Collection[int], said: Mapping[int, Iterable[Span]]
    ) -> TrackTable:
        """The result of linking these frames, in which every region has a new number.

        Parameters
        ----------
        linked : the tracks that were found; their spans lie in `frame_indices`. One with the id `NEW` (0) gets a free id,
            one with the id of a track of this table continues it
        frame_indices : what this table says about them goes
        said : by id of a track that was not made by linking, its spans in `frame_indices`, in the new numbers (see
            `same_regions`). Its frames stay its own. Other frames of a linked track that has some of them continue the
            nearest one, if it is not elsewhere in that frame

        Raises
        ------
        ProjectError
            two tracks would have one number in one frame
        """
        about, next_id = {track.id: track for track in self.tracks}, self.next_id
        spans = {track.id: list(track.spans) for track in self.without_frames(frame_indices).tracks}
        owners = {track_id: replace(about[track_id], spans=_merged(given)) for track_id, given in said.items()}
        for owner in owners.values():
            spans.setdefault(owner.id, []).extend(owner.spans)
        taken = set[tuple[int, int]]()
        for track in linked:
            for track_id, numbers in _shared_out(track, owners, taken).items():
                if track_id == NEW:
                    track_id, next_id = next_id, next_id + 1
                about.setdefault(track_id, replace(track, id=track_id))
                spans.setdefault(track_id, []).extend(spans_of(numbers))
        tracks = (replace(about[track_id], spans=_merged(spans[track_id])) for track_id in sorted(spans))
        result = TrackTable(tuple(track for track in tracks if track.spans))
        result.check()
        return result

    # ---- storage

    def to_json(self) -> dict[str, Any]:
        """A plain dict; a span is [first, last, number]."""
        tracks = [
            {
                "id": track.id,
                "class": track.class_id,
                "made_by": track.made_by,
                "spans": [[span.first, span.last, span.number] for span in track.spans],
            }
            for track in self.tracks
        ]
        return {"tracks": tracks}

    @classmethod
    def from_json(cls, record: Any) -> TrackTable:
        """From `to_json`; a ProjectError if it is not such a dict."""
        try:
            tracks = [
                Track(
                    int(entry["id"]),
                    int(entry["class"]),
                    tuple(Span(*map(int, span)) for span in entry["spans"]),
                    str(entry["made_by"]),
                )
                for entry in record["tracks"]
            ]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ProjectError(
                f"A table of tracks needs id, class, made_by and spans; {shortened(error)} is wrong in it."
            ) from error
        table = cls(tuple(sorted(tracks, key=lambda track: track.id)))
        table.check()
        return table

    def to_bytes(self) -> bytes:
        """The content of tracks.json, which begins with the checksum of the rest."""
        rest = json.dumps({"format": FORMAT, "version": VERSION, **self.to_json()})[1:].encode()
        return f'{{"crc32c": {google_crc32c.value(rest)}, '.encode() + rest

    @classmethod
    def from_bytes(cls, content: bytes) -> TrackTable:
        """From `to_bytes`; a ValueError if it is damaged, a ProjectError if a newer version wrote it."""
        if not is_intact(content):
            raise ValueError("it is cut or changed")
        record = json_from(content)
        version = record.get("version") if isinstance(record, dict) else None
        if not isinstance(version, int):
            raise ValueError("it has no version")
        if version > VERSION:
            raise ProjectError(
                f"The table of tracks has the version {shortened(version)}, and this version of surgicalsam-napari reads up "
                f"to {VERSION}. Update it: pip install --upgrade surgicalsam-napari."
            )
        return cls.from_json(record)

    @property
    def last(self) -> int:
        """The last frame of all tracks; -1 without any."""
        return max((track.last for track in self.tracks), default=-1)

    def check(self) -> None:
        """A ProjectError unless ids, classes and spans are possible, and no number stands for two tracks in a frame."""
        ids = Counter(track.id for track in self.tracks)
        if ids and (max(ids.values()) > 1 or not 1 <= min(ids) <= max(ids) <= LARGEST_ID):
            wrong = ids.most_common(1)[0][0] if max(ids.values()) > 1 else max(ids, key=lambda number: abs(number - 1))
            raise ProjectError(
                f"Every track needs an id of its own, from 1 to {LARGEST_ID}; got {shortened(wrong)}. Change it."
            )
        for track in self.tracks:
            _check_track(track)
        spans = sorted((span.number, span.first, span.last) for track in self.tracks for span in track.spans)
        for (number, _, last), (other, first, _) in pairwise(spans):
            if number == other and first <= last:
                raise ProjectError(
                    f"A number stands for one track in a frame, but {number} stands for two in frame {first}. Link again."
                )

    def _with(self, *changed: Track) -> TrackTable:
        by_id = {track.id: track for track in (*self.tracks, *changed)}
        return TrackTable(tuple(by_id[track_id] for track_id in sorted(by_id)))


NO_TRACKS = TrackTable().to_bytes()


def is_intact(content: bytes) -> bool:
    """Whether the content of a tracks.json is as it was written; quick, also for a long one."""
    head, _, rest = content.partition(b", ")
    return head == f'{{"crc32c": {google_crc32c.value(rest)}'.encode()


# ---- spans


def spans_of(frames: Iterable[tuple[int, int]]) -> tuple[Span, ...]:
    """Spans from (frame index, number), ascending by frame."""
    return _merged(Span(index, index, number) for index, number in frames)


def _merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """In order; neighbours with the same number become one."""
    merged: list[Span] = []
    for span in sorted(spans, key=lambda span: span.first):
        if merged and merged[-1].number == span.number and merged[-1].last + 1 == span.first:
            merged[-1] = replace(merged[-1], last=span.last)
        else:
            merged.append(span)
    return tuple(merged)


def _cut(spans: Sequence[Span], frame_index: int) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """The spans before a frame, and those from it on."""
    position = bisect_left(spans, frame_index, key=lambda span: span.last)
    before, after = list(spans[:position]), list(spans[position:])
    if after and after[0].first < frame_index:
        before.append(replace(after[0], last=frame_index - 1))
        after[0] = replace(after[0], first=frame_index)
    return tuple(before), tuple(after)


def _runs(frame_indices: Collection[int]) -> list[range]:
    """Consecutive frames, ascending."""
    if isinstance(frame_indices, range) and frame_indices.step == 1:
        return [frame_indices] if len(frame_indices) else []
    return [span.frames for span in spans_of((index, 1) for index in sorted(set(frame_indices)))]


def _without(spans: Sequence[Span], gone: Sequence[range]) -> tuple[Span, ...]:
    """The spans without some frames; `gone` ascending."""
    kept: list[Span] = []
    for span in spans:
        rest: tuple[Span, ...] = (span,)
        first = max(bisect_right(gone, span.first, key=lambda run: run.start) - 1, 0)
        for run in gone[first:]:
            if not rest or run.start > span.last:
                break
            before, after = _cut(rest, run.start)
            kept += before
            rest = _cut(after, run.stop)[1]
        kept += rest
    return tuple(kept)


def _shared_out(track: Track, owners: Mapping[int, Track], taken: set[tuple[int, int]]) -> dict[int, list[tuple[int, int]]]:
    """The frames of a linked track, with their numbers, by the id of the track that gets them.

    Parameters
    ----------
    owners : what a person said, by id; these frames are left out
    taken : frames and owners: given out before, and now
    """
    numbers = [(index, span.number) for span in track.spans for index in span.frames]
    said = sorted(
        (index, owner.id)
        for owner in owners.values()
        for index in owner.frames_shared_with(track)
        if owner.number_at(index) == track.number_at(index)
    )
    if not said:
        return {track.id: numbers}
    known, shared = [index for index, _ in said], dict[int, list[tuple[int, int]]]()
    for index, number in numbers:
        after = bisect_left(known, index)
        if after < len(known) and known[after] == index:
            continue
        near = [said[position] for position in (after - 1, after) if 0 <= position < len(said)]
        owner_id = min(near, key=lambda word: abs(word[0] - index))[1]
        is_free = owners[owner_id].number_at(index) is None and (index, owner_id) not in taken
        taken.add((index, owner_id))
        shared.setdefault(owner_id if is_free else track.id, []).append((index, number))
    return shared


def _check_track(track: Track) -> None:
    if track.made_by not in MAKERS:
        raise ProjectError(
            f"A track is made by one of {', '.join(MAKERS)}; track {track.id} has {shortened(track.made_by)}."
        )
    if not 1 <= track.class_id <= LARGEST_CLASS_ID:
        raise ProjectError(
            f"Track {track.id} needs a class from 1 to {LARGEST_CLASS_ID}; it has {shortened(track.class_id)}."
        )
    if not track.spans:
        raise ProjectError(f"Track {track.id} needs a frame, but has none. Remove it.")
    for span in track.spans:
        if not (0 <= span.first <= span.last and 1 <= span.number <= LARGEST_NUMBER):
            raise ProjectError(
                f"Track {track.id} needs frames from 0 on and numbers from 1 to {LARGEST_NUMBER}; it has {shortened(span)}."
            )
    for span, following in pairwise(track.spans):
        if following.first <= span.last:
            raise ProjectError(f"Track {track.id} has one place in a frame, but two in frame {following.first}.")
