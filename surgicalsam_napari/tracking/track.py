"""Link, vote and smooth in one go: what `surgicalsam track` does, and what follows a run over consecutive frames."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from surgicalsam_napari.tracking.link_instances import LinkOutcome, TrackReport, frames_to_link, link_instances
from surgicalsam_napari.tracking.smooth_masks import SmoothOutcome, smooth_masks
from surgicalsam_napari.tracking.vote_classes import VoteOutcome, is_worth_a_vote, vote_classes

if TYPE_CHECKING:
    from surgicalsam_napari.store import Project
    from surgicalsam_napari.store.disk.action import Action


@dataclass(frozen=True)
class TrackOutcome:
    """What was done; None for what was not asked for.

    Attributes
    ----------
    linked, voted, smoothed : the results of `link_instances`, `vote_classes` and `smooth_masks`
    """

    linked: LinkOutcome
    voted: VoteOutcome | None = None
    smoothed: SmoothOutcome | None = None

    def __str__(self) -> str:
        return " ".join(str(part) for part in (self.linked, self.voted, self.smoothed) if part is not None)


def track(
    project: Project, frame_indices: Sequence[int], *, vote: bool = True, smooth: bool = False
) -> Generator[TrackReport, None, TrackOutcome]:
    """Follow the instances in these frames as one action, let time judge their classes, and smooth their masks.

    Closing the generator keeps the frames that are done. `is_worth_a_vote` says whether a run can be followed by it.

    Raises
    ------
    as `link_instances`
    """
    frames = sorted(set(frame_indices))
    what = "Link instances and vote on classes" if vote else "Link instances"
    voted = smoothed = None
    with project.action(f"{what} in {len(frames):,} frames", len(frames)) as action:
        with closing(link_instances(project, frames, action=action)) as linking:
            linked = yield from linking
        if vote and is_worth_a_vote(frames):
            with closing(vote_classes(project, frames, action=action)) as voting:
                voted = yield from voting
        if smooth:
            with closing(smooth_masks(project, frames, action=action)) as smoothing:
                smoothed = yield from smoothing
    return TrackOutcome(linked, voted, smoothed)


def vote_after_run(
    project: Project, frame_indices: Sequence[int], action: Action
) -> Generator[TrackReport, None, VoteOutcome | None]:
    """After a run over these frames, let them vote on their classes; the vote is a part of the run's open action.

    There is no vote, and the result is None, where too few of the frames are neighbours, and in the labels of parts: the
    parts of an instrument touch each other, so their regions are not followed.

    Raises
    ------
    as `vote_classes`
    """
    if not may_vote(project, frame_indices):
        return None
    with closing(vote_classes(project, frame_indices, action=action)) as reports:
        return (yield from reports)


def may_vote(project: Project, frame_indices: Sequence[int]) -> bool:
    """Whether `vote_after_run` has something to do in these frames."""
    return project.whole is None and is_worth_a_vote(frame_indices)


def is_vote_due(project: Project, frame_indices: Sequence[int]) -> bool:
    """Whether a vote over these frames was stopped, or never came: regions of some of them are not followed."""
    may = project.writable and may_vote(project, frame_indices)
    return may and bool(frames_to_link(project, frame_indices))
