"""Link the instances in the frames of a project: numbers beside the labels, and the table of tracks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

import numpy as np

from surgicalsam_napari.errors import ProjectError, VideoError
from surgicalsam_napari.inference.frame_selection import checked_frames, prefetched_frames
from surgicalsam_napari.store.disk.merging import same_regions
from surgicalsam_napari.store.label_maps import present_ids
from surgicalsam_napari.store.tracks import LINKED, NEW, Span, Track, TrackTable, spans_of
from surgicalsam_napari.tracking.linking import LabelledFrame, LinkedFrame, LinkedTrack, Linking
from surgicalsam_napari.tracking.regions import LEAST_SHARE

if TYPE_CHECKING:
    from surgicalsam_napari.store import Project
    from surgicalsam_napari.store.disk.action import Action


NEIGHBOURS = 25  # linked frames before and after those of a run that say which tracks go on
MOST_CRUMBS = 4 * LEAST_SHARE  # of a picture may have no number


@dataclass(frozen=True)
class TrackReport:
    """Progress of work on tracks: `done` of `total` steps.

    Attributes
    ----------
    changed : whether the labels or numbers of the frame changed
    """

    frame_index: int
    done: int
    total: int
    changed: bool


@dataclass(frozen=True)
class LinkOutcome:
    """What linking found.

    Attributes
    ----------
    frames : how many were linked
    tracks : how many instances are in them
    cuts : frames with which a new scene begins; every track ends before it
    without_number : frames in which the smallest instances got no number, because there are more than 255
    """

    frames: int = 0
    tracks: int = 0
    cuts: tuple[int, ...] = ()
    without_number: tuple[int, ...] = ()

    def __str__(self) -> str:
        text = f"{self.tracks:,} instances followed in {self.frames:,} frames."
        if self.without_number:
            text += (
                f" Frame {self.without_number[0]} has more than 255 instances"
                + (f", and {len(self.without_number) - 1:,} more frames do" if len(self.without_number) > 1 else "")
                + ": the smallest got no number. Remove specks first (Correct > Clean up)."
            )
        return text


def link_instances(
    project: Project, frame_indices: Sequence[int], *, action: Action | None = None
) -> Generator[TrackReport, None, LinkOutcome]:
    """Follow the regions of these frames, and write their numbers and tracks as one action.

    What a person said about tracks stays: joined, split, swapped, and imported tracks keep their regions. Tracks of the
    frames before and after are continued. Closing the generator writes the frames that were read; `frames_to_link` gives the
    rest.

    Parameters
    ----------
    action : an open action that the frames become a part of

    Raises
    ------
    VideoError, ProjectError, DiskSpaceError
        frames up to then stay as they are
    """
    frames = sorted(checked_frames(frame_indices, project.labels.shape[0]))
    if not frames:
        raise ProjectError("Linking needs frames, but none is chosen. Choose the frames of a video.")
    with project.action(f"Link instances in {_counted(frames)}", len(frames), within=action) as recorded:
        run = _Run(project, frames, recorded)
        try:
            yield from run.steps()
        except (GeneratorExit, VideoError):
            run.write_rest()
            raise
        finally:
            outcome = run.finish()
    return outcome


def frames_to_link(project: Project, frame_indices: Sequence[int]) -> list[int]:
    """The frames whose numbers do not fit their labels, to resume a run that was stopped, ascending.

    Crumbs that are too small to be an instance need no number.
    """
    return [index for index in sorted(frame_indices) if not _is_linked(project, index)]


def _is_linked(project: Project, index: int) -> bool:
    labels, numbers = project.labels[index], project.tracks.numbers(index)
    without = np.count_nonzero((labels > 0) & (numbers == 0))
    return without <= MOST_CRUMBS * labels.size and set(present_ids(numbers)) <= project.tracks.table.in_frame(index).keys()


class _Run:
    """One run over the frames of a project; `finish` writes the table for the frames that were written."""

    def __init__(self, project: Project, frames: list[int], action: Action) -> None:
        self._project, self._frames, self._action = project, frames, action
        self._linking = Linking(project.labels.shape[1:])
        self._table = TrackTable() if project.tracks.problem else project.tracks.table  # linking replaces a damaged one
        self._by_person = [track for track in self._table.tracks if track.made_by != LINKED]
        self._said: dict[int, dict[int, int]] = {}
        self._written: set[int] = set()
        self._neighbours: dict[int, dict[int, int]] = {}  # of linked frames before and after: track by new number
        self._cuts: list[int] = []
        self._without_number: list[int] = []

    def steps(self) -> Generator[TrackReport, None, None]:
        """Link and write; a frame counts once when it is read and once when it is written."""
        order, total = self._with_neighbours(), 2 * len(self._frames)
        with closing(prefetched_frames(self._project.video, order)) as pictures:
            for given, (index, picture) in enumerate(zip(order, pictures, strict=True), start=1):
                changed = self._write(self._linking.add(LabelledFrame(index, picture, self._project.labels[index])))
                yield TrackReport(index, min(given + len(self._written), total), total, changed)
        for linked in self._linking.rest():
            changed = self._write([linked])
            yield TrackReport(linked.index, min(len(order) + len(self._written), total), total, changed)

    def write_rest(self) -> None:
        """Write the frames that were read and still wait for later ones, which do not come."""
        self._write(self._linking.rest())

    def _with_neighbours(self) -> list[int]:
        """The frames, and before and after them a few that are linked already: in a single one, instruments may touch."""
        first, last = self._frames[0], self._frames[-1]
        before = range(first - 1, max(first - NEIGHBOURS, 0) - 1, -1)
        after = range(last + 1, min(last + NEIGHBOURS + 1, self._project.labels.shape[0]))
        self._neighbours = {index: {} for side in (before, after) for index in takewhile(self._is_known, side)}
        return sorted([*self._frames, *self._neighbours])

    def _is_known(self, index: int) -> bool:
        return bool(self._table.in_frame(index)) and _is_linked(self._project, index)

    def _write(self, frames: Iterable[LinkedFrame]) -> bool:
        changed = False
        for frame in frames:
            index, tracks = frame.index, self._project.tracks
            numbers, before = frame.numbers(self._project.labels[index]), tracks.numbers(index)
            if index in self._neighbours:
                by_number = {new: self._table.at(index, old) for new, old in same_regions(before, numbers).items()}
                self._neighbours[index] = {new: track.id for new, track in by_number.items() if track is not None}
                continue
            self._note_what_was_said(index, same_regions(before, numbers) if self._by_person else {})
            changed |= tracks.write_numbers(index, numbers, action=self._action)
            self._written.add(index)
            self._cuts += [index] if frame.is_cut else []
            self._without_number += [index] if frame.without_number else []
        return changed

    def _note_what_was_said(self, index: int, old_numbers: dict[int, int]) -> None:
        for track in self._by_person:
            if (old := track.number_at(index)) is not None:
                new = next((new for new, known in old_numbers.items() if known == old), None)
                if new is not None:
                    self._said.setdefault(track.id, {})[index] = new

    def finish(self) -> LinkOutcome:
        """Write the table of tracks."""
        if not self._written:
            return LinkOutcome()
        found: list[tuple[Track, list[int]]] = []
        for one in self._linking.tracks():
            ids = self._known_ids(one)
            if (track := self._as_track(one, ids)) is not None:
                found.append((track, ids))
        linked = [track for track, _ in found]
        said = {track_id: spans_of(sorted(numbers.items())) for track_id, numbers in self._said.items()}
        written = sorted(self._written)
        table = self._table.with_linked(_distinct(linked), written, said)
        for _, ids in found:
            table = _continued(table, ids)
        self._project.tracks.write_table(table, action=self._action)
        return LinkOutcome(len(written), len(linked), tuple(self._cuts), tuple(self._without_number))

    def _known_ids(self, track: LinkedTrack) -> list[int]:
        """The ids of the tracks that it continues: the one of most frames before, and the one of most frames after."""
        inside = Track(NEW, track.class_id, tuple(Span(*span) for span in track.spans))
        before, after = Counter[int](), Counter[int]()
        for index, by_number in self._neighbours.items():
            if (known := by_number.get(inside.number_at(index) or 0)) is not None:
                (before if index < self._frames[0] else after)[known] += 1
        return list(dict.fromkeys(count.most_common(1)[0][0] for count in (before, after) if count))

    def _as_track(self, track: LinkedTrack, ids: Sequence[int]) -> Track | None:
        """A track of the table; None if only the frames before and after show it."""
        whole = Track(1, track.class_id, tuple(Span(*span) for span in track.spans))
        kept = TrackTable((whole,)).without_frames(self._neighbours)
        return Track(ids[0] if ids else NEW, track.class_id, kept.tracks[0].spans) if kept.tracks else None


def _continued(table: TrackTable, ids: Sequence[int]) -> TrackTable:
    """The track before the frames and that after them are one, unless a person said something about the later one."""
    known = {track.id: track for track in table.tracks}
    if len(set(ids)) < 2 or not known.keys() >= set(ids):
        return table
    first, second = known[ids[0]], known[ids[1]]
    if second.made_by != LINKED or next(first.frames_shared_with(second), None) is not None:
        return table
    return table.without(second.id).with_spans(first.id, second.spans, made_by=first.made_by)


def _distinct(linked: Collection[Track]) -> list[Track]:
    """The tracks; only the first one continues a known track."""
    seen, result = set[int](), []
    for track in linked:
        result.append(Track(NEW, track.class_id, track.spans) if track.id in seen else track)
        seen |= {track.id} - {NEW}
    return result


def _counted(frames: Sequence[int]) -> str:
    return f"frame {frames[0]}" if len(frames) == 1 else f"{len(frames):,} frames"
