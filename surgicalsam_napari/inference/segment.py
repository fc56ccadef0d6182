"""Segment the chosen classes in many frames, and write the masks into the project's labels."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from surgicalsam_napari.inference.content import within_content
from surgicalsam_napari.inference.embed import embedded_batches, failures_reported
from surgicalsam_napari.inference.frame_selection import checked_frames
from surgicalsam_napari.inference.pipeline import written
from surgicalsam_napari.instruments import ClassSet, matching_class_ids
from surgicalsam_napari.model.digest import checkpoint_record
from surgicalsam_napari.store import Provenance
from surgicalsam_napari.store.label_maps import looked_up

if TYPE_CHECKING:
    from surgicalsam_napari.model.surgical_sam import FramePrediction, SurgicalSAM
    from surgicalsam_napari.store import Project
    from surgicalsam_napari.store.disk.action import Action
    from surgicalsam_napari.video import ContentArea


@dataclass(frozen=True)
class SegmentReport:
    """One more frame is segmented: `done` of `total`.

    Attributes
    ----------
    prediction : in the project's class ids
    changed : whether any pixel of the project's labels changed
    """

    frame_index: int
    done: int
    total: int
    prediction: FramePrediction
    changed: bool


def segment_frames(
    project: Project,
    model: SurgicalSAM,
    class_ids: Sequence[int],
    frame_indices: Sequence[int],
    *,
    batch_size: int | None = None,
    action: Action | None = None,
    checkpoint: int | None = None,
) -> Generator[SegmentReport, None, None]:
    """Predict these classes in these frames, in the order given; missing embeddings are computed, too.

    Nothing is predicted on the black border around the picture (`Project.content_area`).
    On a GPU, labels are written while the next frame is computed. Closing the generator stops after the last reported
    frame; this frame is on disk, and nothing after it. The run is one action in the project's history; a run over many
    frames starts with a snapshot.

    Parameters
    ----------
    class_ids : ids of the project's class set; matched to the checkpoint's classes by name
    batch_size : frames per call of the model; by default 1 on a CPU and more on a GPU
    action : an open action that this run becomes a part of; no snapshot is made then
    checkpoint : the model's number in the manifest, if known; else it is recorded

    Raises
    ------
    ClassSetError
        an id that the project's class set does not have, or no ids
    CheckpointError
        a class that the checkpoint was not trained on, or new frames and no image encoder
    DiskSpaceError
        before anything is computed, if the embeddings would not fit on the disk
    VideoError, DeviceError, ProjectError, WorkFailed
        frames reported up to then stay as they are
    """
    frame_indices = checked_frames(frame_indices, project.video.info.frame_count)
    class_ids = list(dict.fromkeys(class_ids))
    model_ids = matching_class_ids(project.classes, model.classes, class_ids, model.name)
    name = action_name(project.classes, class_ids, frame_indices)
    embedded = embedded_batches(project, model, frame_indices, batch_size=batch_size)
    done = 0
    with (
        closing(embedded) as batches,
        project.action(name, len(frame_indices), within=action) as recorded,
    ):

        def write(frame_prediction: tuple[int, FramePrediction]) -> bool:
            nonlocal checkpoint
            if checkpoint is None:
                checkpoint = project.record_checkpoint(checkpoint_record(model))
            return project.labels.write_prediction(*frame_prediction, checkpoint, action=recorded)

        predictions = _predictions(model, batches, class_ids, model_ids, project.content_area)
        with closing(written(predictions, write, model.device.type)) as frames:
            for (frame_index, prediction), changed in frames:
                done += 1
                yield SegmentReport(frame_index, done, len(frame_indices), prediction, changed)


def _predictions(
    model: SurgicalSAM,
    batches: Iterable[tuple[list[int], np.ndarray]],
    class_ids: Sequence[int],
    model_ids: Sequence[int],
    area: ContentArea,
) -> Generator[tuple[int, FramePrediction], None, None]:
    """Frame indices and their predictions inside the area, in the project's class ids."""
    label_values = _label_values(model_ids, class_ids)
    for batch, embeddings in batches:
        with failures_reported():
            predictions = model.predict(embeddings, model_ids, area.size)
        for frame_index, prediction in zip(batch, predictions, strict=True):
            if list(model_ids) != list(class_ids):
                label_map = looked_up(label_values, prediction.label_map)
                prediction = replace(prediction, class_ids=tuple(class_ids), label_map=label_map)
            yield frame_index, within_content(prediction, area)


def action_name(classes: ClassSet, class_ids: Sequence[int], frame_indices: Sequence[int]) -> str:
    """The name of a run in the project's history."""
    return f"Segment {_listed(classes, class_ids)} in {_counted(frame_indices)}"


def _listed(classes: ClassSet, class_ids: Sequence[int]) -> str:
    """The classes of a run in words for the user."""
    return classes.by_id(class_ids[0]).name if len(class_ids) == 1 else f"{len(class_ids)} classes"


def _counted(frame_indices: Sequence[int]) -> str:
    return f"frame {frame_indices[0]}" if len(frame_indices) == 1 else f"{len(frame_indices):,} frames"


def frames_to_segment(
    project: Project, model: SurgicalSAM, class_ids: Sequence[int], frame_indices: Sequence[int]
) -> list[int]:
    """The frames in which this checkpoint has not yet predicted all of these classes, to resume a stopped run.

    A class that a person verified in a frame counts as done there, because no prediction may change it.
    """
    frame_indices = checked_frames(frame_indices, project.video.info.frame_count)
    matching_class_ids(project.classes, model.classes, class_ids, model.name)
    checkpoint = project.record_checkpoint(checkpoint_record(model))
    columns = [project.classes.ids.index(class_id) for class_id in class_ids]
    provenance = project.labels.provenance_table()[:, columns]
    is_by_checkpoint = project.labels.prediction_checkpoint_table()[:, columns] == checkpoint
    is_done = (provenance == Provenance.VERIFIED) | (is_by_checkpoint & (provenance != Provenance.EMPTY))
    return [index for index in frame_indices if not is_done[index].all()]


def _label_values(model_ids: Sequence[int], class_ids: Sequence[int]) -> np.ndarray:
    """(256,) uint8: the project's label value for each label value of the checkpoint."""
    values = np.zeros(256, np.uint8)
    values[list(model_ids)] = class_ids
    return values
