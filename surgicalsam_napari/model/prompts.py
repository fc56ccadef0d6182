"""Masks and clicks as the mask prompt of SAM's prompt encoder, the same for refinement and for training."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from surgicalsam_napari.model.geometry import FrameGeometry

MASK_PROMPT_LOGIT = 8.0  # of a pixel completely inside the mask; minus this outside
CLICK_RADIUS = 1.5  # low-resolution pixels; within this radius a click is certain


def mask_prompt(mask: np.ndarray, geometry: FrameGeometry, side: int) -> Tensor:
    """A person's mask as low-resolution logits: the share of each pixel that is inside, scaled to the range of logits.

    Parameters
    ----------
    mask : (H, W) bool, at the frame's size
    side : of the low-resolution square; four times the embedding's grid

    Returns
    -------
    (side, side) float32
    """
    share = torch.from_numpy(mask)[None, None].float()
    resized = F.interpolate(share, geometry.resized_size, mode="bilinear", antialias=True, align_corners=False)
    height, width = geometry.resized_size
    square = F.pad(resized, (0, geometry.input_size - width, 0, geometry.input_size - height))
    return (2 * F.avg_pool2d(square, geometry.input_size // side)[0, 0] - 1) * MASK_PROMPT_LOGIT


def stamp_clicks(logits: Tensor, points: Tensor, marks: Tensor) -> Tensor:
    """Logits (side, side) with certain values around each click; a later click overrides an earlier one.

    Parameters
    ----------
    points : (N, 2), x and y in low-resolution pixels, 0 at the square's edge
    marks : (N,), 1 inside and 0 outside
    """
    centres = torch.arange(logits.shape[-1], device=logits.device) + 0.5
    stamped = logits.clone()
    for (x, y), mark in zip(points.to(logits.device), marks.tolist(), strict=True):
        near = (centres[None] - x) ** 2 + (centres[:, None] - y) ** 2 <= CLICK_RADIUS**2
        stamped[near] = MASK_PROMPT_LOGIT if mark else -MASK_PROMPT_LOGIT
    return stamped
