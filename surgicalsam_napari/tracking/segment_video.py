"""Segment all frames of one video: the frames that are left to do, then the vote over time, and what was found."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from surgicalsam_napari.inference.class_frames import frames_with_class, trained_class_ids
from surgicalsam_napari.inference.segment import SegmentReport, action_name, frames_to_segment, segment_frames
from surgicalsam_napari.store import Provenance
from surgicalsam_napari.tracking.link_instances import TrackReport
from surgicalsam_napari.tracking.track import is_vote_due, vote_after_run
from surgicalsam_napari.tracking.vote_classes import VoteOutcome, vote_classes

if TYPE_CHECKING:
    from surgicalsam_napari.model.surgical_sam import SurgicalSAM
    from surgicalsam_napari.store import Project


@dataclass(frozen=True)
class VideoOutcome:
    """What a video contains after it was segmented.

    Attributes
    ----------
    frame_count : of the video
    segmented : frames that were predicted now; the others were done before
    frames_with_class : by class name, in how many frames the class is, predicted or painted
    verified : frames with a verified class, which was left alone
    vote : what the vote over time changed; None if there was none
    """

    frame_count: int
    segmented: int
    frames_with_class: dict[str, int]
    verified: int
    vote: VoteOutcome | None = None


def segment_whole_video(
    project: Project, model: SurgicalSAM, class_names: Sequence[str] = (), *, vote: bool = True
) -> Generator[SegmentReport | TrackReport, None, VideoOutcome]:
    """Predict these classes in all frames in which this checkpoint has not yet predicted them, then let the frames vote.

    It is one action in the history. If the generator is closed early, the next run does the rest, also the vote.

    Parameters
    ----------
    class_names : by default every class that the project and the checkpoint have
    vote : afterwards, let neighbouring frames vote on the classes (`vote_after_run`)

    Raises
    ------
    ClassSetError
        the project has no such class, or the checkpoint knows none of the project's classes
    CheckpointError, DiskSpaceError, VideoError, DeviceError, ProjectError, WorkFailed
        as for `segment_frames`; frames reported up to then stay
    """
    class_ids = [project.classes.by_name(name).id for name in class_names] or trained_class_ids(project, model)
    frames = range(project.video.info.frame_count)
    to_do = frames_to_segment(project, model, class_ids, frames)
    voted = None
    if to_do:
        with project.action(action_name(project.classes, class_ids, to_do), len(to_do)) as action:
            with closing(segment_frames(project, model, class_ids, to_do, action=action)) as reports:
                yield from reports
            voted = (yield from vote_after_run(project, frames, action)) if vote else None
    elif vote and is_vote_due(project, frames):
        with closing(vote_classes(project, frames)) as reports:
            voted = yield from reports
    verified = (project.labels.provenance_table() == Provenance.VERIFIED).any(axis=1)
    found = frames_with_class(project, class_ids, frames)
    return VideoOutcome(len(frames), len(to_do), found, int(verified.sum()), voted)
