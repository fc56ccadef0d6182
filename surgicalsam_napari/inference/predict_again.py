"""Predict frames again with a new model, as one action: what an earlier model predicted there is replaced."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from surgicalsam_napari.inference.embed import BATCH_SIZES, check_disk_space
from surgicalsam_napari.inference.frame_selection import checked_frames
from surgicalsam_napari.inference.segment import SegmentReport, segment_frames
from surgicalsam_napari.instruments import same_classes
from surgicalsam_napari.model.digest import checkpoint_record

if TYPE_CHECKING:
    from surgicalsam_napari.model.surgical_sam import SurgicalSAM
    from surgicalsam_napari.store import Project
    from surgicalsam_napari.store.disk.action import Action


def predict_again(
    project: Project,
    model: SurgicalSAM,
    frame_indices: Sequence[int],
    *,
    forgets_others: bool = True,
    action: Action | None = None,
) -> Generator[SegmentReport, None, None]:
    """Predict all classes that the model knows in these frames, in the order given, as one action in the history.

    If the generator is closed early, the frames reported up to then keep their new predictions, and are undone together.

    Parameters
    ----------
    forgets_others : remove from these frames what was predicted for classes that the model does not know; else such masks
        of an earlier model would compete with the new ones for pixels. What a person painted or verified stays
    action : an open action that this run becomes a part of

    Raises
    ------
    as `segment_frames`
    """
    frame_indices = checked_frames(frame_indices, project.video.info.frame_count)
    known = list(same_classes(project.classes, model.classes))
    others = [class_id for class_id in project.classes.ids if class_id not in known] if forgets_others else []
    missing = project.embeddings(model.encoder_digest, model.embedding_shape).missing(frame_indices)
    check_disk_space(project, model, len(missing))
    checkpoint = project.record_checkpoint(checkpoint_record(model))
    size = BATCH_SIZES.get(model.device.type, 1)
    done, total = 0, len(frame_indices)
    name = action_name(frame_indices)
    with project.action(name, total, within=action) as recorded:
        for start in range(0, total, size):
            batch = frame_indices[start : start + size]
            for frame_index in batch:
                project.labels.forget_predictions(frame_index, others, action=recorded)
            with closing(segment_frames(project, model, known, batch, action=recorded, checkpoint=checkpoint)) as reports:
                for report in reports:
                    done += 1
                    yield replace(report, done=done, total=total)


def action_name(frame_indices: Sequence[int]) -> str:
    """The name of a run in the project's history."""
    if len(frame_indices) == 1:
        return f"Predict frame {frame_indices[0]} again"
    return f"Predict {len(frame_indices):,} frames again"
