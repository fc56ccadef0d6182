"""Predict frames again with a learned model, fill between the corrected frames, and let them vote: one action."""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from surgicalsam_napari.inference.frame_selection import checked_frames
from surgicalsam_napari.inference.predict_again import action_name, predict_again
from surgicalsam_napari.inference.segment import SegmentReport
from surgicalsam_napari.instruments import same_classes
from surgicalsam_napari.propagation.fill_between import FillReport, fill_between, gaps_to_fill
from surgicalsam_napari.store.corrections import corrected_frames
from surgicalsam_napari.tracking.link_instances import TrackReport
from surgicalsam_napari.tracking.track import vote_after_run
from surgicalsam_napari.tracking.vote_classes import VoteOutcome

if TYPE_CHECKING:
    from surgicalsam_napari.model.surgical_sam import SurgicalSAM
    from surgicalsam_napari.store import Project


def predict_and_fill(
    project: Project,
    model: SurgicalSAM,
    frame_indices: Sequence[int],
    *,
    forgets_others: bool = True,
    voting_frames: Collection[int] | None = None,
) -> Generator[SegmentReport | FillReport | TrackReport, None, VoteOutcome | None]:
    """Predict these frames again, as `predict_again` does, and carry corrected masks into those between corrected frames.

    A new model must not replace carried masks by worse ones, so the filling belongs to the prediction; so does the vote over
    time. If the generator is closed early, the frames reported up to then keep their new masks, and are undone together.

    Parameters
    ----------
    voting_frames : that vote on the classes afterwards (`vote_after_run`); by default these frames and the corrected ones,
        whose classes are certain; none of them: there is no vote

    Raises
    ------
    as `segment_frames`
    """
    frame_indices = checked_frames(frame_indices, project.video.info.frame_count)
    known = list(same_classes(project.classes, model.classes))
    with project.action(action_name(frame_indices), len(frame_indices)) as action:
        again = predict_again(project, model, frame_indices, forgets_others=forgets_others, action=action)
        with closing(again) as reports:
            yield from reports
        if gaps_to_fill(project, known, frame_indices):
            with closing(fill_between(project, known, model, frame_indices=frame_indices, action=action)) as filled:
                yield from filled
        if voting_frames is None:
            voting_frames = {*frame_indices, *corrected_frames(project)}
        return (yield from vote_after_run(project, sorted(voting_frames), action))
