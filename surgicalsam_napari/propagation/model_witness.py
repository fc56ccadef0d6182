"""The model's own masks as a witness beside carried ones, weighed by how right they were in the corrected frame."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.propagation.label_carrier import (
    CarriedFields,
    combined,
    distances_of,
    expected_iou,
    most_probable,
    probabilities,
)

TRUSTED_PROMPT = 0.6  # IoU with the corrected mask; with less, the model is not asked
LEAST_ERROR = 0.02  # of an IoU: nothing counts as more certain


class ModelWitness:
    """What the model says about one class.

    Its weight follows from measured errors: 1 - IoU of the model's mask in the corrected frame, against 1 - the IoU to
    expect of the carried mask. So the model counts little while the carried mask is sure, and more as it fades.

    Parameters
    ----------
    class_id : an id of the model's classes; None for a class that it does not know
    embedding : (D, h', w'), of the corrected frame
    mask : (H, W) bool, the corrected mask
    """

    def __init__(self, model: SurgicalSAM, class_id: int | None, embedding: np.ndarray, mask: np.ndarray) -> None:
        self._model, self._geometry = model, FrameGeometry(mask.shape, model.input_size)
        self._class_id = class_id
        self._iou = 0.0
        if self._class_id is not None:
            share = self._share(embedding, mask.shape) > 0.5
            self._iou = float((share & mask).sum() / max((share | mask).sum(), 1))

    def added_to(self, carried: CarriedFields, embedding: np.ndarray) -> CarriedFields:
        """The carried labels (background and the class) with the model's opinion on this frame."""
        if self._iou < TRUSTED_PROMPT:
            return carried
        size = carried.weight.shape
        share = self._share(embedding, size)
        probability = probabilities(carried)
        mask, own = most_probable(probability) == 1, share > 0.5
        if np.count_nonzero(mask & own) < TRUSTED_PROMPT * np.count_nonzero(mask | own):
            return carried  # another region
        expected = expected_iou(probability[1], mask)
        trust = (max(1 - expected, LEAST_ERROR) / max(1 - self._iou, LEAST_ERROR)) ** 2
        weight = np.full(size, np.median(carried.weight) * trust, np.float32)
        opinion = CarriedFields(distances_of(np.stack([1 - share, share])), weight, carried.fit)
        return combined([carried, opinion])

    @torch.inference_mode()
    def _share(self, embedding: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """(h, w) float32: the model's probability of the class, at a size."""
        image_embedding = torch.from_numpy(embedding).to(self._model.device, torch.float32)
        assert self._class_id is not None
        logits = self._model.decode(image_embedding[None], [self._class_id]).low_res_logits[0, 0]
        rows, columns = (
            max(round(length * logits.shape[-1] / self._geometry.input_size), 1) for length in self._geometry.resized_size
        )
        share = logits.float().sigmoid().cpu().numpy()[:rows, :columns]
        return cv2.resize(np.ascontiguousarray(share), size[::-1], interpolation=cv2.INTER_LINEAR)
