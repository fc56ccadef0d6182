"""Predict frames again with a learned model, then fill between the corrected frames: one action in the history."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from surgicalsam_napari.inference.frame_selection import checked_frames
from surgicalsam_napari.inference.predict_again import action_name, predict_again
from surgicalsam_napari.inference.segment import SegmentReport
from surgicalsam_napari.instruments import same_classes
from surgicalsam_napari.propagation.fill_between import FillReport, fill_between, gaps_to_fill

if TYPE_CHECKING:
    from surgicalsam_napari.model.surgical_sam import SurgicalSAM
    from surgicalsam_napari.store import Project


def predict_and_fill(
    project: Project, model: SurgicalSAM, frame_indices: Sequence[int], *, forgets_others: bool = True
) -> Generator[SegmentReport | FillReport, None, None]:
    """Predict these frames again, as `predict_again` does, and carry corrected masks into those between corrected frames.

    A new model must not replace carried masks by worse ones, so the filling belongs to the prediction. Other frames do not
    change. If the generator is closed early, the frames reported up to then keep their new masks, and are undone together.

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
