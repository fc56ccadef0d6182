"""Carry a corrected mask of one class into later or earlier frames, until it no longer fits.

The mask is carried by the similarity of image embeddings (`MaskMemory`); the class prompt's logits are added if the class
prompt marks the same region. This needs neither a click decoder nor a class that the model knows, and stays right if the
class prompt is wrong. docs/measured.md compares it with other ways to carry a mask.
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
from surgicalsam_napari.inference.content import within_content
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
TRUSTED_PROMPT = 0.6  # soft IoU of class prompt and carried mask; with less, the class prompt is not used
PROMPT_WEIGHT = 0.5  # of its logits
LARGEST_PROMPT_LOGIT = 6.0
SUREST = 0.98  # the highest probability of a carried mask, before the class prompt is added
LEAST_AREA = 0.02  # share of the corrected mask's area; with less, the instrument has left the frame
FRAMES_AHEAD = 32  # disk space is checked for so many frames at a time: a run "to the end" mostly stops long before it
REPLACED_SHARE = 0.5  # of another class's region; if the mask covers more, the whole region is removed
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
    agreement : how well the mask fits, 0 to 1 and close to its IoU (see `MaskCarrier`); nan if it was not tried
    stopped : the reason, to be read after "Stopped at frame 57: "; None while it continues, and at the end of the range
    """

    frame_index: int
    done: int
    total: int
    agreement: float
    stopped: str | None = None


@dataclass(frozen=True)
class CarriedMask:
    """The mask carried into one frame.

    Attributes
    ----------
    low_res_logits : (4h, 4w), of the whole padded square; above 0 is the instrument
    agreement : 0 to 1, see `PropagationReport`
    is_gone : whether almost nothing is left of the mask
    """

    low_res_logits: Tensor
    agreement: float
    is_gone: bool


class MaskCarrier:
    """Carries the mask of one class from frame to frame; changes no labels.

    The agreement is the geometric mean of two soft IoUs: of the corrected mask with the mask that is read back from the
    new frame, and of the masks read from the corrected frame and from the previous frame. If an instrument leaves or is
    covered, it is not read back; if its appearance has changed, the two readings differ.

    Parameters
    ----------
    embedding : (D, h, w), of the corrected frame
    mask : (H, W) bool, the corrected mask
    model_class_id : an id of the model's classes; None for a class that it was not trained on
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
        """The mask in the next frame; it is remembered for the frame after that.

        Parameters
        ----------
        embedding : (D, h, w)
        """
        image_embedding = self._on_device(embedding)
        reading = self._memory.read(image_embedding)
        share = reading.share
        logits = torch.logit(share.clamp(1 - SUREST, SUREST)) + self._prompted_logits(image_embedding, share)
        carried, reference = stretched(logits.sigmoid()), self._memory.reference.share
        read_back_iou = soft_iou(self._memory.read_back(image_embedding, carried), reference)
        agreement = math.sqrt(read_back_iou * soft_iou(reading.from_reference, reading.from_previous))
        self._memory.remember(image_embedding, carried)
        return CarriedMask(logits, agreement, bool((logits > 0).sum() < LEAST_AREA * (reference > 0.5).sum()))

    def _prompted_logits(self, image_embedding: Tensor, share: Tensor) -> Tensor:
        """The logits that the class prompt adds: zeros if it marks another region than the carried mask."""
        if self.model_class_id is None:
            return torch.zeros_like(share)
        logits = self.model.decode(image_embedding[None], [self.model_class_id]).low_res_logits[0, 0]
        if soft_iou(logits.sigmoid(), share) < TRUSTED_PROMPT:
            return torch.zeros_like(share)
        return PROMPT_WEIGHT * logits.clamp(-LARGEST_PROMPT_LOGIT, LARGEST_PROMPT_LOGIT)

    def _on_device(self, embedding: np.ndarray) -> Tensor:
        return torch.from_numpy(embedding).to(self.model.device, torch.float32)


def stretched(probability: Tensor) -> Tensor:
    """Stretch the range that `SUREST` bounds to 0 to 1 again: else a faint mask all over the frame would count."""
    return ((probability - (1 - SUREST)) / (2 * SUREST - 1)).clamp(0, 1)


def soft_iou(first: Tensor, second: Tensor) -> float:
    """The soft IoU of two probability maps; equal to the IoU if all values are 0 or 1."""
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
    """Carry the class's mask in `start_frame` through these frames; missing embeddings are computed, too.

    It stops at a frame in which the mask no longer fits, the instrument has left, or a person edited or verified the class;
    the last report gives the reason. Closing the generator stops after the last reported frame. The mask replaces
    predictions of other classes; pixels that a person painted or verified stay. The agreement is stored as predicted IoU
    and presence.

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
            prediction = within_content(_prediction(project, model, class_id, frame_index, carried), project.content_area)
            project.labels.write_prediction(frame_index, prediction, checkpoint, action=action)
            done += 1
            yield PropagationReport(frame_index, done, len(frame_indices), agreement)


def _carrier(project: Project, model: SurgicalSAM, class_id: int, start_frame: int) -> MaskCarrier:
    name = project.classes.by_id(class_id).name
    mask = project.labels[start_frame] == class_id
    if not mask.any():
        raise ProjectError(
            f"Frame {start_frame} has no {name} to propagate. Paint it there, or choose a frame that has one."
        )
    model_class_id = model.classes.by_name(name).id if knows_class(model.classes, name) else None
    with closing(embedded_batches(project, model, [start_frame])) as batches:
        _frames, embeddings = next(batches)
    return MaskCarrier(model, embeddings[0], mask, model_class_id)


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


def _why_stop(carried: CarriedMask) -> str | None:
    if carried.is_gone:
        return "the instrument has left the frame"
    if carried.agreement < LEAST_AGREEMENT:
        return f"the mask no longer fits (agreement {carried.agreement:.2f})"
    return None


def _prediction(
    project: Project, model: SurgicalSAM, class_id: int, frame_index: int, carried: CarriedMask
) -> FramePrediction:
    """The carried mask, and the rest of the predicted classes that it overlaps."""
    label_map = project.labels[frame_index]
    geometry = FrameGeometry(label_map.shape, model.input_size)
    ((window, window_mask),) = masks_of(carried.low_res_logits.cpu()[None], geometry)
    mask = np.zeros(label_map.shape, bool)
    mask[window] = window_mask
    overlaps = np.bincount(label_map[mask], minlength=256)  # pixels of each class under the mask
    overlaps[[0, class_id]] = 0
    predicted = np.zeros_like(label_map)
    scores = {}
    for other in np.flatnonzero(overlaps).tolist():
        if project.labels.provenance(frame_index, other) == Provenance.PREDICTED:
            remaining = remaining_mask(label_map == other, mask)
            predicted[remaining] = other
            scores[other] = _scores(project, frame_index, other, bool(remaining.any()))
            overlaps[other] = 0
    predicted[mask] = class_id
    contested = float(overlaps.sum() / max(mask.sum(), 1))  # by the classes that stay
    scores[class_id] = (carried.agreement, carried.agreement, True, contested)
    predicted_iou, presence, present, contested_shares = np.array(list(scores.values()), np.float32).T
    return FramePrediction(tuple(scores), predicted, predicted_iou, presence, present > 0, contested_shares)


def _scores(project: Project, frame_index: int, class_id: int, present: bool) -> tuple[float, float, bool, float]:
    """Predicted IoU, presence and contested share as they are stored."""
    labels = project.labels
    contested = labels.table("contested")[frame_index, project.classes.ids.index(class_id)]
    return labels.predicted_iou(frame_index, class_id), labels.presence(frame_index, class_id), present, float(contested)


def remaining_mask(other: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Another class's mask without the pixels that `mask` covers, and without regions that it covers for the most part.

    The same region predicted as a wrong class has another outline; removed pixel by pixel it would leave a rim.

    Parameters
    ----------
    other, mask : (H, W) bool
    """
    regions, count = label(other)
    if count == 0:
        return other
    area = np.bincount(regions.ravel(), minlength=count + 1)
    covered = np.bincount(regions[mask], minlength=count + 1)
    is_removed = covered > REPLACED_SHARE * area
    is_removed[0] = True
    return ~is_removed[regions] & ~mask
