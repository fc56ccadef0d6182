"""Carry a corrected mask of one class into later or earlier frames, until it no longer fits.

Flow and appearance carry it together (`label_carrier`); the model is one more witness, weighed by how well it marks the
class in the corrected frame. A class that the model does not know, and a class prompt that is wrong, do no harm.
docs/measured.md compares it with other ways to carry a mask.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.inference.embed import embedded_batches, failures_reported
from surgicalsam_napari.inference.frame_selection import checked_frames
from surgicalsam_napari.instruments import same_classes
from surgicalsam_napari.model.digest import checkpoint_record
from surgicalsam_napari.propagation.carried_prediction import carried_prediction
from surgicalsam_napari.propagation.flow import scene_changes
from surgicalsam_napari.propagation.label_carrier import (
    Appearance,
    LabelCarrier,
    expected_iou,
    label_map_of,
    most_probable,
    probabilities,
)
from surgicalsam_napari.propagation.model_witness import ModelWitness
from surgicalsam_napari.store import Provenance

if TYPE_CHECKING:
    from surgicalsam_napari.model.surgical_sam import SurgicalSAM
    from surgicalsam_napari.store import Project
    from surgicalsam_napari.store.disk.action import Action

LEAST_AGREEMENT = 0.5
LEAST_AREA = 0.02  # share of the corrected mask's area; with less, there is nothing to carry on
FRAMES_AHEAD = 32  # disk space is checked for so many frames at a time: a run "to the end" mostly stops long before it
SCENE_CHANGES = "the picture does not follow from the frame before: a cut, or a black frame"
HAND_MADE = {
    Provenance.EDITED: "it was corrected by hand",
    Provenance.VERIFIED: "it is verified",
}


@dataclass(frozen=True)
class PropagationReport:
    """One more frame is done, `done` of `total`; or the propagation stops here.

    Attributes
    ----------
    frame_index : the frame that was written; with `stopped`, the one that was not
    done : frames written so far
    agreement : the IoU to expect of the mask, 0 to 1 (`label_carrier.expected_iou`); nan if it was not tried
    stopped : the reason, to be read after "Stopped at frame 57: "; None while it continues, and at the end of the range
    """

    frame_index: int
    done: int
    total: int
    agreement: float
    stopped: str | None = None


def propagate_class(
    project: Project,
    model: SurgicalSAM,
    class_id: int,
    start_frame: int,
    frame_indices: Sequence[int],
    *,
    action: Action | None = None,
) -> Generator[PropagationReport, None, None]:
    """Carry the class's mask in `start_frame` through these frames; missing embeddings are computed, too.

    It stops at a frame in which the mask no longer fits, hardly anything of it is left, another scene begins, or a person
    edited or verified the class; the last report gives the reason. Closing the generator stops after the last reported
    frame. The mask replaces predictions of other classes; pixels that a person painted or verified stay. The agreement is
    stored as predicted IoU and presence.

    Parameters
    ----------
    class_id : of the project's class set; the model need not know a class of this name
    frame_indices : in the order of propagation, from the neighbour of `start_frame`
    action : the action in the history that the frames become a part of

    Raises
    ------
    ProjectError
        the class has no mask in `start_frame`
    ClassSetError, VideoError
        a class or frame that the project does not have
    CheckpointError
        new frames, and no image encoder
    DiskSpaceError, DeviceError, WorkFailed
        frames reported up to then stay as they are
    """
    start_frame, *frame_indices = checked_frames([start_frame, *frame_indices], project.video.info.frame_count)
    carrier = _ClassCarrier(project, model, class_id, start_frame)
    checkpoint = project.record_checkpoint(checkpoint_record(model))
    done = 0
    with closing(_embedded_frames(project, model, class_id, frame_indices)) as frames:
        for frame_index, embedding in frames:
            reason, agreement = _hand_made(project, class_id, frame_index), float("nan")
            if reason is None:
                assert embedding is not None
                with failures_reported():
                    reason = carrier.carry(frame_index, embedding)
                agreement = carrier.agreement
            if reason is not None:
                yield PropagationReport(frame_index, done, len(frame_indices), agreement, reason)
                return
            prediction = carried_prediction(project, frame_index, carrier.label_map, {class_id: carrier.agreement})
            project.labels.write_prediction(frame_index, prediction, checkpoint, action=action)
            done += 1
            yield PropagationReport(frame_index, done, len(frame_indices), agreement)


class _ClassCarrier:
    """Carries the mask of a class from the corrected frame to the next ones, and says where it has to stop.

    Attributes
    ----------
    label_map : (H, W) uint8, of the last frame
    agreement : of the last frame; nan if the scene changed
    """

    def __init__(self, project: Project, model: SurgicalSAM, class_id: int, start_frame: int) -> None:
        mask = project.labels[start_frame] == class_id
        if not mask.any():
            raise ProjectError(
                f"Frame {start_frame} has no {project.classes.by_id(class_id).name} to propagate. Paint it there, or "
                "choose a frame that has one."
            )
        self._video, self._class_id = project.video, class_id
        with closing(embedded_batches(project, model, [start_frame])) as batches:
            _frames, embeddings = next(batches)
        self._embedding, self._frame = embeddings[0], project.video.frame(start_frame)
        appearance = Appearance(lambda _index: self._embedding[: model.decoder_dim], model.input_size)
        with failures_reported():
            self._carrier = LabelCarrier(self._frame, mask.astype(np.uint8), (0, 1), appearance)
            model_id = same_classes(project.classes, model.classes).get(class_id)
            self._witness = ModelWitness(model, model_id, embeddings[0], mask)
        self._area = np.count_nonzero(mask)
        self.label_map, self.agreement = np.zeros(mask.shape, np.uint8), float("nan")

    def carry(self, frame_index: int, embedding: np.ndarray) -> str | None:
        """Carry the mask into the next frame; returns the reason to stop there."""
        previous, self._frame = self._frame, self._video.frame(frame_index)
        if scene_changes(previous, self._frame):
            self.agreement = float("nan")
            return SCENE_CHANGES
        self._embedding = embedding
        fields = self._witness.added_to(self._carrier.carry(self._frame, frame_index), embedding)
        probability = probabilities(fields)
        self.agreement = expected_iou(probability[1], most_probable(probability) == 1)
        self.label_map = label_map_of(fields, (0, self._class_id), self.label_map.shape)
        left = np.count_nonzero(self.label_map) / self._area
        if left < LEAST_AREA:
            return f"only {left:.1%} of the mask's area is left (less than {LEAST_AREA:.0%})"
        if self.agreement < LEAST_AGREEMENT:
            return f"the mask no longer fits the picture: agreement {self.agreement:.2f} < {LEAST_AGREEMENT}"
        return None


def _embedded_frames(
    project: Project, model: SurgicalSAM, class_id: int, frame_indices: Sequence[int]
) -> Generator[tuple[int, np.ndarray | None], None, None]:
    """Frames and their embeddings, up to the first frame with a person's work on the class; that one comes with None."""
    for start in range(0, len(frame_indices), FRAMES_AHEAD):
        ahead = frame_indices[start : start + FRAMES_AHEAD]
        to_embed = list(_until_hand_made(project, class_id, ahead))
        with closing(embedded_batches(project, model, to_embed)) as batches:
            for batch, embeddings in batches:
                yield from zip(batch, embeddings, strict=True)
        if len(to_embed) < len(ahead):
            yield ahead[len(to_embed)], None
            return


def _until_hand_made(project: Project, class_id: int, frame_indices: Sequence[int]) -> Iterator[int]:
    for frame_index in frame_indices:
        if _hand_made(project, class_id, frame_index) is not None:
            return
        yield frame_index


def _hand_made(project: Project, class_id: int, frame_index: int) -> str | None:
    return HAND_MADE.get(project.labels.provenance(frame_index, class_id))
