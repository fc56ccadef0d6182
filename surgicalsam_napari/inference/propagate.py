"""Carry a corrected mask of one class into the frames after or before it, until it no longer fits.

The mask is carried by what its region looks like to the image encoder (`MaskMemory`), summed with the class prompt's logits
where the class prompt speaks of the same region. This needs neither a click decoder nor a class that the model knows, and
stays right where the class prompt is wrong. docs/measured.md compares it with other ways to carry a mask.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.ndimage import label
from torch import Tensor

from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.inference.embed import embedded_batches, failures_reported
from surgicalsam_napari.inference.frame_selection import checked_frames
from surgicalsam_napari.inference.mask_memory import MaskMemory
from surgicalsam_napari.instruments import knows_class
from surgicalsam_napari.model.digest import checkpoint_record
from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.prompts import MASK_PROMPT_LOGIT, mask_prompt
from surgicalsam_napari.model.surgical_sam import FramePrediction
from surgicalsam_napari.model.upsampling import masks_of
from surgicalsam_napari.store import Provenance

if TYPE_CHECKING:
    from surgicalsam_napari.model.surgical_sam import SurgicalSAM
    from surgicalsam_napari.store import Project
    from surgicalsam_napari.store.action import Action

LEAST_AGREEMENT = 0.6
TRUSTED_PROMPT = 0.6  # soft IoU with the carried mask from which the class prompt's mask takes part
PROMPT_WEIGHT = 0.5  # of its logits
LARGEST_PROMPT_LOGIT = 6.0
SUREST = 0.98  # probability of a mask that is carried over without doubt
GONE = 0.02  # share of the corrected mask's area below which the instrument has left the frame
FRAMES_AHEAD = 32  # whose room on the disk is checked at a time: a run "to the end" mostly stops long before it
GIVES_WAY = 0.5  # share of another class's region from which it makes way as a whole
HAND_MADE = {
    Provenance.EDITED: "it was corrected by hand",
    Provenance.VERIFIED: "it is verified",
}


@dataclass(frozen=True)
class PropagationReport:
    """One more frame is done: `done` of `total`; or the way ends here.

    Attributes
    ----------
    frame_index : the frame that was written; with `stopped`, the one that was not
    done : frames written so far
    agreement : how well the mask fits, 0 to 1 and close to its IoU (see `MaskCarrier`); nan where it was not tried
    stopped : why no further, to be read after "Stopped at frame 57: "; None while it goes on, and at the end of the range
    """

    frame_index: int
    done: int
    total: int
    agreement: float
    stopped: str | None = None


@dataclass(frozen=True)
class CarriedMask:
    """
    Attributes
    ----------
    low_res_logits : (4h, 4w), of the whole padded square; above 0 is the instrument
    agreement : 0 to 1, see `PropagationReport`
    is_gone : whether next to nothing is left of the mask
    """

    low_res_logits: Tensor
    agreement: float
    is_gone: bool


class MaskCarrier:
    """Carries the mask of one class from frame to frame; touches no labels.

    The agreement is the geometric mean of two soft IoUs: of the corrected mask with what it would be if it were read back
    from the new one, and of the masks read from the corrected frame and from the frame before. An instrument that leaves or
    is covered is not led back to; where the appearance has changed, the two readings part.

    Parameters
    ----------
    embedding : (D, h, w), of the corrected frame
    mask : (H, W) bool, the corrected mask
    model_class_id : of the model's classes; None for a class that it was not trained on
    """

    @torch.inference_mode()
    def __init__(self, model: SurgicalSAM, embedding: np.ndarray, mask: np.ndarray, model_class_id: int | None) -> None:
        self.model, self.model_class_id = model, model_class_id
        geometry = FrameGeometry(mask.shape, model.input_size)
        side = 4 * embedding.shape[-1]
        share = mask_prompt(mask, geometry, side).to(model.device) / (2 * MASK_PROMPT_LOGIT) + 0.5
        self._memory = MaskMemory(self._on_device(embedding), share)

    @torch.inference_mode()
    def carry(self, embedding: np.ndarray) -> CarriedMask:
        """The mask in the next frame, which is remembered for the one after.

        Parameters
        ----------
        embedding : (D, h, w)
        """
        image_embedding = self._on_device(embedding)
        reading = self._memory.read(image_embedding)
        share = reading.share
        logits = torch.logit(share.clamp(1 - SUREST, SUREST)) + self._prompted_logits(image_embedding, share)
        carried, reference = stretched(logits.sigmoid()), self._memory.reference.share
        leads_back = soft_iou(self._memory.read_back(image_embedding, carried), reference)
        agreement = math.sqrt(leads_back * soft_iou(reading.from_reference, reading.from_previous))
        self._memory.remember(image_embedding, carried)
        return CarriedMask(logits, agreement, bool((logits > 0).sum() < GONE * (reference > 0.5).sum()))

    def _prompted_logits(self, image_embedding: Tensor, share: Tensor) -> Tensor:
        """What the class prompt adds: nothing where it speaks of another region than the carried mask."""
        if self.model_class_id is None:
            return torch.zeros_like(share)
        logits = self.model.decode(image_embedding[None], [self.model_class_id]).low_res_logits[0, 0]
        if soft_iou(logits.sigmoid(), share) < TRUSTED_PROMPT:
            return torch.zeros_like(share)
        return PROMPT_WEIGHT * logits.clamp(-LARGEST_PROMPT_LOGIT, LARGEST_PROMPT_LOGIT)

    def _on_device(self, embedding: np.ndarray) -> Tensor:
        return torch.from_numpy(embedding).to(self.model.device, torch.float32)


def stretched(probability: Tensor) -> Tensor:
    """Certain again what the bounds of `SUREST` made less than certain: a faint mask all over the frame would count."""
    return ((probability - (1 - SUREST)) / (2 * SUREST - 1)).clamp(0, 1)


def soft_iou(first: Tensor, second: Tensor) -> float:
    """Of two probability maps: the IoU if all are 0 or 1."""
    return float(torch.minimum(first, second).sum() / torch.maximum(first, second).sum().clamp(min=1e-6))


def propagate_class(
    project: Project,
    model: SurgicalSAM,
    class_id: int,
    start_frame: int,
    frame_indices: Sequence[int],
    *,
    action: Action | None = None,
) -> Generator[PropagationReport, None, None]:
    """Carry the class's mask in `start_frame` through these frames; embeddings that are missing are computed on the way.

    It stops where the mask no longer fits, where the instrument has left, and where a person edited or verified the class:
    the last report says so. Closing the generator stops after the frame reported last. Predictions of other classes in the
    mask's place make way; what a person painted or verified stays. The agreement is kept as predicted IoU and presence.

    Parameters
    ----------
    class_id : of the project's class set; the model may know a class of this name, and need not
    frame_indices : in the order of going, from the neighbour of `start_frame`
    action : makes the frames part of a whole that can be undone

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
    carrier = _carrier(project, model, class_id, start_frame)
    checkpoint = project.record_checkpoint(checkpoint_record(model))
    done = 0
    with closing(_embedded_frames(project, model, class_id, frame_indices)) as frames:
        for frame_index, embedding in frames:
            reason, agreement = _hand_made(project, class_id, frame_index), float("nan")
            if reason is None:
                assert embedding is not None
                with failures_reported():
                    carried = carrier.carry(embedding)
                agreement, reason = carried.agreement, _why_stop(carried)
            if reason is not None:
                yield PropagationReport(frame_index, done, len(frame_indices), agreement, reason)
                return
            prediction = _prediction(project, model, class_id, frame_index, carried)
            project.labels.write_prediction(frame_index, prediction, checkpoint, action=action)
            done += 1
            yield PropagationReport(frame_index, done, len(frame_indices), agreement)


def _carrier(project: Project, model: SurgicalSAM, class_id: int, start_frame: int) -> MaskCarrier:
    name = project.classes.by_id(class_id).name
    mask = project.labels[start_frame] == class_id
    if not mask.any():
        raise ProjectError(f"Frame {start_frame} has no {name} to carry on. Paint it there, or choose a frame that has one.")
    model_class_id = model.classes.by_name(name).id if knows_class(model.classes, name) else None
    with closing(embedded_batches(project, model, [start_frame])) as batches:
        _frames, embeddings = next(batches)
    return MaskCarrier(model, embeddings[0], mask, model_class_id)


def _embedded_frames(
    project: Project, model: SurgicalSAM, class_id: int, frame_indices: Sequence[int]
) -> Generator[tuple[int, np.ndarray | None], None, None]:
    """Frames and their embeddings, up to the first one that a person's work ends the way at, which has None."""
    for start in range(0, len(frame_indices), FRAMES_AHEAD):
        ahead = frame_indices[start : start + FRAMES_AHEAD]
        free = list(_until_hand_made(project, class_id, ahead))
        with closing(embedded_batches(project, model, free)) as batches:
            for batch, embeddings in batches:
                yield from zip(batch, embeddings, strict=True)
        if len(free) < len(ahead):
            yield ahead[len(free)], None
            return


def _until_hand_made(project: Project, class_id: int, frame_indices: Sequence[int]) -> Iterator[int]:
    for frame_index in frame_indices:
        if _hand_made(project, class_id, frame_index) is not None:
            return
        yield frame_index


def _hand_made(project: Project, class_id: int, frame_index: int) -> str | None:
    return HAND_MADE.get(project.labels.provenance(frame_index, class_id))


def _why_stop(carried: CarriedMask) -> str | None:
    if carried.is_gone:
        return "the instrument has left the frame"
    if carried.agreement < LEAST_AGREEMENT:
        return f"the mask no longer fits (agreement {carried.agreement:.2f})"
    return None


def _prediction(
    project: Project, model: SurgicalSAM, class_id: int, frame_index: int, carried: CarriedMask
) -> FramePrediction:
    """The carried mask, and what it leaves of the predicted classes in its place."""
    label_map = project.labels[frame_index]
    geometry = FrameGeometry(label_map.shape, model.input_size)
    ((window, inside),) = masks_of(carried.low_res_logits.cpu()[None], geometry)
    mask = np.zeros(label_map.shape, bool)
    mask[window] = inside
    in_its_place = np.bincount(label_map[mask], minlength=256)
    in_its_place[[0, class_id]] = 0
    drawn = np.zeros_like(label_map)
    scores = {}
    for other in np.flatnonzero(in_its_place).tolist():
        if project.labels.provenance(frame_index, other) == Provenance.PREDICTED:
            left = what_is_left(label_map == other, mask)
            drawn[left] = other
            scores[other] = _scores(project, frame_index, other, bool(left.any()))
            in_its_place[other] = 0
    drawn[mask] = class_id
    contested = float(in_its_place.sum() / max(mask.sum(), 1))  # by those that do not make way
    scores[class_id] = (carried.agreement, carried.agreement, True, contested)
    predicted_iou, presence, present, contested_shares = np.array(list(scores.values()), np.float32).T
    return FramePrediction(tuple(scores), drawn, predicted_iou, presence, present > 0, contested_shares)


def _scores(project: Project, frame_index: int, class_id: int, present: bool) -> tuple[float, float, bool, float]:
    """Predicted IoU, presence and contested share as they are stored."""
    labels = project.labels
    contested = labels.table("contested")[frame_index, project.classes.ids.index(class_id)]
    return labels.predicted_iou(frame_index, class_id), labels.presence(frame_index, class_id), present, float(contested)


def what_is_left(other: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Another class's mask without what gives way to `mask`: its pixels there, and regions that lie there for the most part.

    The same region under a wrong name has another outline; cut out pixel by pixel it would leave a rim.

    Parameters
    ----------
    other, mask : (H, W) bool
    """
    regions, count = label(other)
    if count == 0:
        return other
    area = np.bincount(regions.ravel(), minlength=count + 1)
    taken = np.bincount(regions[mask], minlength=count + 1)
    gives_way = taken > GIVES_WAY * area
    gives_way[0] = True
    return ~gives_way[regions] & ~mask
