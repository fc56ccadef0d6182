"""What a model predicts before it becomes a label map: low-resolution logits, predicted IoU and presence."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class MaskPrediction:
    """B frames times K prompted classes, on the model's device.

    Attributes
    ----------
    low_res_logits : (B, K, 4h, 4w), of the whole padded square
    predicted_iou : (B, K)
    presence : (B, K), probability that the class is in the frame; None if the checkpoint has no presence head
    """

    low_res_logits: Tensor
    predicted_iou: Tensor
    presence: Tensor | None
