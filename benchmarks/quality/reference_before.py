"""How an earlier version computed what now equals the authors' code; only `reference_figures.py` uses it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from surgicalsam_napari.model.geometry import FrameGeometry

EPSILON = 1e-3


def touched_cells(mask: np.ndarray, geometry: FrameGeometry, side: int = 64) -> np.ndarray:
    """(side, side) bool: the cells of the grid in which a sampled pixel of the mask (H, W) lies."""
    solid = torch.from_numpy(np.ascontiguousarray(mask, np.float32))[None, None]
    resized = F.interpolate(solid, geometry.resized_size, mode="bilinear", align_corners=False)
    height, width = geometry.resized_size
    padded = F.pad(resized, (0, geometry.input_size - width, 0, geometry.input_size - height))
    return (F.interpolate(padded, (side, side), mode="bilinear", align_corners=False)[0, 0] > 0).numpy()


def touched_embedding(embedding: Tensor, mask: np.ndarray, geometry: FrameGeometry) -> Tensor:
    """(D,): the mean embedding (D, h, w) over the touched cells."""
    return embedding[:, torch.from_numpy(touched_cells(mask, geometry, embedding.shape[-1]))].mean(1)


def resized(picture: np.ndarray, geometry: FrameGeometry) -> np.ndarray:
    """(h, w, 3) uint8: by torch's antialiased bilinear filter."""
    batch = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
    shrunk = F.interpolate(batch, geometry.resized_size, mode="bilinear", antialias=True, align_corners=False)
    return shrunk[0].permute(1, 2, 0).numpy()


def dice_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Of one prompt (H, W): the epsilon once in the numerator and once in the denominator."""
    probability = logits.sigmoid()
    total = probability.square().sum() + mask.square().sum()
    return 1 - (2 * (probability * mask).sum() + EPSILON) / (total + EPSILON)
