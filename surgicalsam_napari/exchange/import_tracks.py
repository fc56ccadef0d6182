"""The tracks of a dataset in a project: their ids, and the numbers of instances that an import writes.

Pixels keep their number where the import does not write its own label, and where a person has made the track. A project has
one class for a track: a track that changes its class becomes one track for each class.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.instances import Instances, instance_masks
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.store import Project, Span, Track, TrackTable
from surgicalsam_napari.store.disk.action import Action
from surgicalsam_napari.store.label_maps import present_ids
from surgicalsam_napari.store.tracks import IMPORTED, LARGEST_NUMBER, PERSON, spans_of

Seen = tuple[int, int]  # class id, and track id of the dataset


@dataclass(frozen=True)
class TrackPlan:
    """What the tracks of a dataset become.

    Attributes
    ----------
    ids : the project's track id for each class id of the project and track id of the dataset
    continued : those that are a track of the project already
    split : tracks of the dataset that change their class, with their class ids in the project
    """

    ids: Mapping[Seen, int] = field(default_factory=dict)
    continued: frozenset[int] = frozenset()
    split: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    def lines(self, classes: ClassSet) -> list[str]:
        """What to say before the import, one fact a line."""
        lines = [f"{counted(len(self.ids), 'track')} will be imported"] if self.ids else []
        if self.continued:
            some = ", ".join(map(str, sorted(self.continued)[:5]))
            lines.append(f"{counted(len(self.continued), 'track')} of the project with the same id and class go on ({some})")
        for track_id, class_ids in self.split.items():
            parts = [f"{classes.by_id(one).name} is track {self.ids[one, track_id]}" for one in class_ids]
            lines.append(f"track {track_id} changes its class, and a track has one class: {', '.join(parts)}")
        renamed = [f"{old} becomes {new}" for (_, old), new in self.ids.items() if new != old and old not in self.split]
        if renamed:
            few = ", ".join(renamed[:5]) + (", …" if len(renamed) > 5 else "")
            lines.append(f"{counted(len(renamed), 'track')} whose id the project has already: {few}")
        return lines


def plan_tracks(seen: Iterable[Seen], table: TrackTable, *, is_export: bool) -> TrackPlan:
    """Give every track of a dataset its id in the project.

    Parameters
    ----------
    seen : class id of the project and track id of the dataset, in the order of frames
    table : the tracks of the project
    is_export : whether this program wrote the dataset: a track of the project with the same id and class is the same one
    """
    pairs = list(dict.fromkeys(seen))
    known = {track.id: track for track in table.tracks}
    next_id = 1 + max([*known, *(track_id for _, track_id in pairs)], default=0)
    ids: dict[Seen, int] = {}
    classes: dict[int, list[int]] = defaultdict(list)
    continued = set()
    for class_id, track_id in pairs:
        classes[track_id].append(class_id)
        if is_export and track_id in known and known[track_id].class_id == class_id:
            ids[class_id, track_id] = track_id
            continued.add(track_id)
    for pair in pairs:
        if pair in ids:
            continue
        if pair[1] in known or pair[1] in ids.values():
            ids[pair], next_id = next_id, next_id + 1
        else:
            ids[pair] = pair[1]
    split = {track_id: tuple(class_ids) for track_id, class_ids in classes.items() if len(class_ids) > 1}
    return TrackPlan(ids, frozenset(continued), split)


class TrackImport:
    """Writes the instances of an import frame by frame; `finish` writes the table of tracks."""

    def __init__(self, project: Project, plan: TrackPlan) -> None:
        self._tracks, self._labels, self._plan = project.tracks, project.labels, plan
        self._table = self._tracks.table
        self._classes: dict[int, int] = {track_id: class_id for (class_id, _), track_id in plan.ids.items()}
        self._last: dict[int, int] = {}  # the latest number of each track, which it keeps where it can
        self._spans: dict[int, list[Span]] = defaultdict(list)  # as written, by track id
        self._gone: dict[int, set[int]] = defaultdict(set)  # frames by track id in which it has no pixel any more

    def write_frame(self, frame_index: int, label_map: np.ndarray, instances: Instances, *, action: Action) -> None:
        """Write the numbers of a frame whose labels are written.

        Parameters
        ----------
        label_map : (H, W) uint8, the imported labels in the project's ids

        Raises
        ------
        ExchangeError, ProjectError, DiskSpaceError
            the frame would have more than 255 instances; a failed write
        """
        before = self._tracks.numbers(frame_index)
        present = self._table.in_frame(frame_index)
        continued = {number for number, track in present.items() if track.id in self._plan.continued}
        by_person = {number for number, track in present.items() if track.made_by == PERSON}
        free = (self._labels.frame(frame_index) == label_map) & ~np.isin(before, list(by_person - continued))
        written = np.where(free & (instances.numbers > 0), 0, before)
        taken = {*present_ids(written), *by_person, *continued}
        for one in instance_masks(label_map, instances):
            pixels = one.mask & free
            if (one.track_id is None and one.instance is None) or not pixels.any():
                continue
            track_id = None if one.track_id is None else self._plan.ids.get((one.class_id, one.track_id))
            number = self._number(track_id, frame_index, taken)
            taken.add(number)
            written[pixels] = number
            if track_id is not None:
                self._last[track_id] = number
                self._extend(self._spans[track_id], frame_index, number)
        self._tracks.write_numbers(frame_index, written, action=action)
        for number in present.keys() - set(present_ids(written)) - by_person:
            self._gone[present[number].id].add(frame_index)

    @staticmethod
    def _extend(spans: list[Span], frame_index: int, number: int) -> None:
        """Add the next frame."""
        if spans and spans[-1].last + 1 == frame_index and spans[-1].number == number:
            spans[-1] = replace(spans[-1], last=frame_index)
        else:
            spans.append(Span(frame_index, frame_index, number))

    def _number(self, track_id: int | None, frame_index: int, taken: set[int]) -> int:
        if track_id is not None and track_id in self._plan.continued:
            here = self._table.by_id(track_id).number_at(frame_index)
            if here is not None:
                return here
        wanted = self._last.get(track_id) if track_id is not None else None
        if wanted is not None and wanted not in taken:
            return wanted
        number = next((number for number in range(1, LARGEST_NUMBER + 1) if number not in taken), None)
        if number is None:
            raise ExchangeError(
                f"A frame of a project holds {LARGEST_NUMBER} instances, but frame {frame_index} would have more. Remove "
                "the smallest ones from the dataset."
            )
        return number

    def finish(self, action: Action) -> None:
        """Write the table of tracks."""
        tracks = {track.id: track for track in self._table.tracks}
        for track_id in self._gone.keys() | self._spans.keys():
            track = self._updated(track_id, tracks.pop(track_id, None))
            if track is not None:
                tracks[track_id] = track
        table = TrackTable(tuple(tracks[track_id] for track_id in sorted(tracks)))
        table.check()
        self._tracks.write_table(table, action=action)

    def _updated(self, track_id: int, known: Track | None) -> Track | None:
        """A track with the frames that were written, and without those in which it has no pixel any more."""
        spans = self._spans.get(track_id, [])
        if known is None:
            return Track(track_id, self._classes[track_id], tuple(spans), IMPORTED)
        gone = spans_of((index, 1) for index in sorted(self._gone[track_id]))
        rest = replace(known, spans=tuple(_outside(known.spans, sorted([*spans, *gone], key=lambda span: span.first))))
        if not spans:
            return rest if rest.spans else None
        made_by = PERSON if known.made_by == PERSON else IMPORTED
        return TrackTable((rest,)).with_spans(track_id, spans, made_by=made_by).by_id(track_id)


def _outside(spans: Iterable[Span], others: Sequence[Span]) -> Iterator[Span]:
    """The frames of spans that are in no other span; both ascending."""
    position = 0
    for span in spans:
        first = span.first
        while position < len(others) and others[position].last < span.first:
            position += 1
        for other in (others[at] for at in range(position, len(others))):
            if other.first > span.last:
                break
            if other.first > first:
                yield replace(span, first=first, last=other.first - 1)
            first = other.last + 1
        if first <= span.last:
            yield replace(span, first=first)
