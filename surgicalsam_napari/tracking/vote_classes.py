"""Let time judge the class: put single wrong frames of a track right, remove flicker and fill short gaps."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import cv2
import numpy as np

from surgicalsam_napari.formatting import counted
from surgicalsam_napari.inference.frame_selection import checked_frames
from surgicalsam_napari.store import Provenance
from surgicalsam_napari.store.provenance import is_by_person
from surgicalsam_napari.store.tracks import LINKED, Span, Track
from surgicalsam_napari.tracking.class_vote import Vote, voted_classes
from surgicalsam_napari.tracking.gap_filling import MOST_MISSING, FlowInto
from surgicalsam_napari.tracking.link_instances import TrackReport, frames_to_link, link_instances

if TYPE_CHECKING:
    from surgicalsam_napari.store import Project
    from surgicalsam_napari.store.disk.action import Action

UNKNOWN_WEIGHT = 0.5  # of a frame without a predicted IoU or presence
FLICKER = 2  # frames: a track that is as short is flicker if nothing supports it
LEAST_FRAMES = 3  # consecutive frames; with fewer, there is nothing to vote
WRITABLE = (Provenance.PREDICTED, Provenance.ABSENT)


@dataclass(frozen=True)
class VoteOutcome:
    """What the vote changed.

    Attributes
    ----------
    relabelled : pairs of frame and class that a region got
    filled : pairs of frame and class of gaps that were filled
    removed : pairs of frame and class of flicker that was removed
    left : pairs of frame and class that stayed, because a person worked on one of the classes in that frame
    """

    relabelled: tuple[tuple[int, int], ...] = ()
    filled: tuple[tuple[int, int], ...] = ()
    removed: tuple[tuple[int, int], ...] = ()
    left: tuple[tuple[int, int], ...] = ()

    @property
    def changed(self) -> int:
        """How many pairs of frame and class changed."""
        return len(self.relabelled) + len(self.filled) + len(self.removed)

    def __str__(self) -> str:
        if not self.changed:
            return "The vote over time changed nothing."
        parts = (("put right", self.relabelled), ("filled", self.filled), ("removed as flicker", self.removed))
        listed = ", ".join(f"{len(cells):,} {what}" for what, cells in parts if cells)
        text = f"The vote over time changed {counted(self.changed, 'region')}: {listed}."
        return text + (f" {len(self.left):,} stay as a person left them." if self.left else "")


def vote_classes(
    project: Project, frame_indices: Sequence[int], *, action: Action | None = None
) -> Generator[TrackReport, None, VoteOutcome]:
    """Vote on the class along each track in these frames, as one action; frames that are not linked are linked first.

    Only predictions change: no painted pixel, and no class that a person edited or verified. Closing the generator keeps the
    frames that are done.

    Parameters
    ----------
    action : an open action that the frames become a part of

    Raises
    ------
    VideoError, ProjectError, DiskSpaceError
        frames up to then stay as they are
    """
    frames = sorted(checked_frames(frame_indices, project.labels.shape[0]))
    name = f"Vote on classes in {len(frames):,} frames"
    with project.action(name, len(frames), within=action) as recorded:
        voting, linked = _Voting(project, frames, recorded), 0
        if frames_to_link(project, frames):
            with closing(link_instances(project, frames, action=recorded)) as linking:
                for report in linking:
                    linked = report.total
                    yield replace(report, total=linked + voting.total)
        for report in voting.steps():
            yield replace(report, done=linked + report.done, total=linked + report.total)
    return voting.outcome


def is_worth_a_vote(frame_indices: Sequence[int]) -> bool:
    """Whether a run over these frames can be followed by a vote: enough of them are neighbours."""
    frames = np.unique(np.asarray(frame_indices, int))
    runs = np.split(frames, np.flatnonzero(np.diff(frames) != 1) + 1)
    return max(map(len, runs), default=0) >= LEAST_FRAMES


@dataclass
class _Seen:
    """What the frames show of a track: by frame, the pixels of each class."""

    track: Track
    pixels: dict[int, dict[int, int]] = field(default_factory=dict)

    def class_at(self, index: int) -> int:
        return max(self.pixels[index], key=self.pixels[index].__getitem__)


class _Voting:
    def __init__(self, project: Project, frames: list[int], action: Action) -> None:
        self._project, self._frames, self._action = project, frames, action
        self._chosen = set(frames)
        names = ("provenance", "predicted_iou", "presence")
        self._provenance, self._iou, self._presence = (project.labels.table(name) for name in names)
        self._column = {class_id: column for column, class_id in enumerate(project.classes.ids)}
        self._seen: dict[int, _Seen] = {}
        self._new_spans: list[tuple[int, Span]] = []
        self._cells: dict[str, list[tuple[int, int]]] = {"relabelled": [], "filled": [], "removed": [], "left": []}

    @property
    def total(self) -> int:
        """How many steps it takes: each frame is read, then written."""
        return 2 * len(self._frames)

    @property
    def outcome(self) -> VoteOutcome:
        return VoteOutcome(**{name: tuple(cells) for name, cells in self._cells.items()})

    def steps(self) -> Generator[TrackReport, None, None]:
        total = self.total
        for done, index in enumerate(self._frames, start=1):
            self._look_at(index)
            yield TrackReport(index, done, total, False)
        targets = self._targets()
        gaps = self._gaps(targets)
        for done, index in enumerate(self._frames, start=len(self._frames) + 1):
            changed = self._relabel(index, targets.get(index, {}))
            flow = FlowInto(self._project.video.frame, index)
            for seen, before, after in gaps.get(index, ()):
                changed |= self._fill(index, seen, before, after, targets, flow)
            yield TrackReport(index, done, total, changed)
        self._write_table(targets)

    def _write_table(self, targets: Mapping[int, Mapping[int, int]]) -> None:
        """The tracks of filled gaps have those frames, too, and removed flicker is no track."""
        table = self._project.tracks.table
        for track_id, span in self._new_spans:
            table = table.with_spans(track_id, [span], made_by=table.by_id(track_id).made_by)
        for track_id, seen in self._seen.items():
            if not any(targets[index][track_id] for index in seen.pixels):
                table = table.without(track_id)
        self._project.tracks.write_table(table, action=self._action)

    def _look_at(self, index: int) -> None:
        labels, numbers = self._project.labels[index], self._project.tracks.numbers(index)
        is_linked = numbers > 0
        pairs = np.bincount(numbers[is_linked].astype(int) * 256 + labels[is_linked], minlength=256 * 256)
        tracks = self._project.tracks.table.in_frame(index)
        for pair in np.flatnonzero(pairs).tolist():
            if (track := tracks.get(pair // 256)) is not None:
                seen = self._seen.setdefault(track.id, _Seen(track))
                seen.pixels.setdefault(index, {})[pair % 256] = int(pairs[pair])

    def _targets(self) -> dict[int, dict[int, int]]:
        """By frame, the class that each track should have, by the track's id; 0 for flicker."""
        targets: dict[int, dict[int, int]] = {}
        for track_id, seen in self._seen.items():
            if seen.track.made_by == LINKED:
                chosen = voted_classes({index: self._vote(index, seen.class_at(index)) for index in seen.pixels})
            else:
                chosen = dict.fromkeys(seen.pixels, seen.track.class_id)
            if self._is_flicker(seen):
                chosen = dict.fromkeys(chosen, 0)
            for index, class_id in chosen.items():
                targets.setdefault(index, {})[track_id] = class_id
        return targets

    def _vote(self, index: int, class_id: int) -> Vote:
        column = self._column[class_id]
        weight = float(self._iou[index, column] * self._presence[index, column])
        certain = bool(is_by_person(self._provenance[index, column]))
        return Vote(class_id, UNKNOWN_WEIGHT if np.isnan(weight) else max(weight, 0.05), certain)

    def _is_flicker(self, seen: _Seen) -> bool:
        """Whether a track is so short, and so alone, that nothing supports it."""
        frames = sorted(seen.pixels)
        around = {frames[0] - 1, frames[-1] + 1}
        if len(frames) > FLICKER or not around <= self._chosen or seen.track.made_by != LINKED:
            return False
        if frames[-1] - frames[0] >= FLICKER or not all(self._may_write(index, *seen.pixels[index]) for index in frames):
            return False
        return all(self._is_alone(index, seen.track.number_at(index)) for index in frames)

    def _is_alone(self, index: int, number: int | None) -> bool:
        """Whether a region touches no other one: a piece behind another instrument is no flicker."""
        mask = self._project.tracks.numbers(index) == number
        near = cv2.dilate(mask.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
        return not np.any(self._project.labels[index][near & ~mask])

    def _may_write(self, index: int, *class_ids: int) -> bool:
        return all(self._provenance[index, self._column[class_id]] in WRITABLE for class_id in class_ids)

    def _relabel(self, index: int, targets: Mapping[int, int]) -> bool:
        """Give the regions of a frame the class that their tracks have there."""
        wrong = {
            track_id: [old for old in self._seen[track_id].pixels[index] if old != target]
            for track_id, target in targets.items()
        }
        if not any(wrong.values()):
            return False
        labels, numbers = self._project.labels[index].copy(), self._project.tracks.numbers(index)
        for track_id, old_classes in wrong.items():
            target = targets[track_id]
            for old in old_classes:
                if not self._may_write(index, old, *([target] if target else [])):
                    self._cells["left"].append((index, old))
                    continue
                number = self._seen[track_id].track.number_at(index)
                labels[(numbers == number) & (labels == old)] = target
                self._cells["relabelled" if target else "removed"].append((index, target or old))
        return self._project.labels.relabel_predictions(index, labels, action=self._action) > 0

    # ---- gaps

    def _gaps(self, targets: Mapping[int, Mapping[int, int]]) -> dict[int, list[tuple[_Seen, int, int]]]:
        """By frame, the tracks that are missing there for a few frames, each with the frames before and after the gap."""
        gaps: dict[int, list[tuple[_Seen, int, int]]] = {}
        for track_id, seen in self._seen.items():
            frames = [index for index in sorted(seen.pixels) if targets[index][track_id]]
            for before, after in pairwise(frames):
                missing = range(before + 1, after)
                if 0 < len(missing) <= MOST_MISSING and self._chosen.issuperset(missing):
                    for index in missing:
                        gaps.setdefault(index, []).append((seen, before, after))
        return gaps

    def _fill(
        self, index: int, seen: _Seen, before: int, after: int, targets: Mapping[int, Mapping[int, int]], flow: FlowInto
    ) -> bool:
        """Fill the gap of a track in a frame where its neighbours agree; only background gets the class."""
        class_id = targets[before][seen.track.id]
        if class_id != targets[after][seen.track.id] or not self._may_write(index, class_id):
            return False
        ends = {end: self._project.tracks.numbers(end) == seen.track.number_at(end) for end in (before, after)}
        found = flow.mask_in_gap(ends)
        labels = self._project.labels[index]
        mask = None if found is None else found & (labels == 0)
        if mask is None or not mask.any():
            return False
        filled = np.where(mask, np.uint8(class_id), labels)
        if not self._project.labels.relabel_predictions(index, filled, action=self._action):
            return False
        self._number(index, seen.track, mask & (self._project.labels[index] == class_id))
        self._cells["filled"].append((index, class_id))
        return True

    def _number(self, index: int, track: Track, mask: np.ndarray) -> None:
        """The filled pixels are the track."""
        tracks = self._project.tracks
        numbers, number = tracks.numbers(index).copy(), track.number_at(index)
        if number is None:
            used = {*np.unique(numbers).tolist(), *tracks.table.in_frame(index)}
            used |= {span.number for _, span in self._new_spans if span.first == index}
            number = next((free for free in range(1, 256) if free not in used), 0)
            if not number:
                return
            self._new_spans.append((track.id, Span(index, index, number)))
        numbers[mask] = number
        tracks.write_numbers(index, numbers, action=self._action)
