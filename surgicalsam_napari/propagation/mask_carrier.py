"""Carry a mask from frame to frame by appearance and class prompt alone, on embeddings without their pictures.

The mask is carried by the similarity of image embeddings (`MaskMemory`); the class prompt's logits are added if the class
prompt marks the same region. `label_carrier` does better where the pictures are at hand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.prompts import MASK_PROMPT_LOGIT, mask_prompt
from surgicalsam_napari.propagation.mask_memory import MaskMemory

if TYPE_CHECKING:
    from surgicalsam_napari.model.surgical_sam import SurgicalSAM

TRUSTED_PROMPT = 0.6  # soft IoU of class prompt and carried mask; with less, the class prompt is not used
PROMPT_WEIGHT = 0.5  # of its logits
LARGEST_PROMPT_LOGIT = 6.0
SUREST = 0.98  # the highest probability of a carried mask, before the class prompt is added
LEAST_AGREEMENT = 0.6  # with less, a mask no longer fits
LEAST_AREA = 0.02  # share of the corrected mask's area; with less, the instrument has left the frame


@dataclass(frozen=True)
class CarriedMask:
    """The mask carried into one frame.

    Attributes
    ----------
    low_res_logits : (4h, 4w), of the whole padded square; above 0 is the instrument
    agreement : 0 to 1, how well the mask fits, close to its IoU
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
        return torch.from_numpy(embedding[: self.model.decoder_dim]).to(self.model.device, torch.float32)


def stretched(probability: Tensor) -> Tensor:
    """Stretch the range that `SUREST` bounds to 0 to 1 again: else a faint mask all over the frame would count."""
    return ((probability - (1 - SUREST)) / (2 * SUREST - 1)).clamp(0, 1)


def soft_iou(first: Tensor, second: Tensor) -> float:
    """The soft IoU of two probability maps; equal to the IoU if all values are 0 or 1."""
    return float(torch.minimum(first, second).sum() / torch.maximum(first, second).sum().clamp(min=1e-6))
