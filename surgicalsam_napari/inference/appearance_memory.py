"""Read the labels of a frame from an earlier one by the similarity of image embeddings.

This recovers what flow loses: fast motion, occlusion, an instrument that comes back. It is coarse, so the flow carries the
outline. The pictures are read back in the same way as the labels; how well they agree says how far to trust the reading.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from surgicalsam_napari.inference.flow import RESIDUAL_SIGMA
from surgicalsam_napari.inference.mask_memory import (
    MATCHES,
    NO_MATCH,
    POSITIONS_AT_ONCE,
    REACH_FROM_REFERENCE,
    TEMPERATURE,
    unit_keys,
)
from surgicalsam_napari.model.geometry import FrameGeometry


@dataclass(frozen=True)
class AppearanceReading:
    """What the anchor's appearance says about a frame, at the working size (h, w).

    Attributes
    ----------
    shares : (C, h, w) float32, 0 to 1: the probability of each label
    residual : (h, w) float32, how much the picture that was read differs from the frame, in grey levels
    """

    shares: np.ndarray
    residual: np.ndarray


class AppearanceMemory:
    """The embedding of a frame, the anchor, with its picture and its labels.

    Parameters
    ----------
    embedding : (D, h', w'), of the anchor
    picture : (h, w, 3) uint8, the anchor at the working size
    shares : (C, h, w) float32, 0 to 1: its labels; first the background
    geometry : of the frame in the encoder's square
    """

    def __init__(self, embedding: np.ndarray, picture: np.ndarray, shares: np.ndarray, geometry: FrameGeometry) -> None:
        self._grid = embedding.shape[-2:]
        side = 4 * max(self._grid)
        self._size = picture.shape[:2]
        self._low_res = tuple(max(round(length * side / geometry.input_size), 1) for length in geometry.resized_size)
        self._keys = unit_keys(torch.from_numpy(embedding))
        self._values = self._by_cell([*np.moveaxis(picture.astype(np.float32), 2, 0), *shares])
        cells = [torch.arange(length) for length in self._grid]
        self._rows, self._columns = torch.cartesian_prod(*cells).T.contiguous()
        self._reach = max(round(REACH_FROM_REFERENCE * max(self._grid)), 1)
        self._near = self._cells_near(shares[1:].max(axis=0) if len(shares) > 1 else shares[0])

    @torch.inference_mode()
    def read(self, embedding: np.ndarray, picture: np.ndarray) -> AppearanceReading:
        """The labels of a frame. Far from every instrument of the anchor it is background, and the residual infinite."""
        keys, values = unit_keys(torch.from_numpy(embedding)), torch.full_like(self._values, torch.nan)
        for positions in self._near.split(POSITIONS_AT_ONCE):
            values[positions] = self._matched(keys[positions], positions)
        maps = self._from_cells(values)
        difference = np.abs(maps[:3] - np.moveaxis(picture, 2, 0)).mean(axis=0)
        is_read = np.isfinite(difference)
        residual = cv2.GaussianBlur(np.where(is_read, difference, 255).astype(np.float32), (0, 0), RESIDUAL_SIGMA)
        shares = np.where(is_read, maps[3:], 0)
        shares[0][~is_read] = 1
        return AppearanceReading(shares, np.where(is_read, residual, np.inf).astype(np.float32))

    def _matched(self, keys: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        similarity = keys @ self._keys.T
        is_far = (self._rows[positions][:, None] - self._rows).abs() > self._reach
        is_far |= (self._columns[positions][:, None] - self._columns).abs() > self._reach
        best, indices = similarity.masked_fill_(is_far, NO_MATCH).topk(min(MATCHES, len(self._keys)), dim=1)
        weights = (best / TEMPERATURE).softmax(dim=1)
        return (weights[..., None] * self._values[indices]).sum(dim=1)

    def _cells_near(self, share: np.ndarray) -> torch.Tensor:
        """The positions of the grid within reach of the anchor's instruments."""
        occupied = (self._by_cell([share]).amax(dim=1) > 0).float().view(1, *self._grid)
        wide = F.max_pool2d(occupied, 2 * self._reach + 1, stride=1, padding=self._reach)
        return wide.flatten().nonzero()[:, 0]

    def _by_cell(self, maps: list[np.ndarray]) -> torch.Tensor:
        """(N, 16 C): maps (h, w) of the working size as the 4 x 4 low-resolution pixels of each position of the grid."""
        square = torch.zeros(len(maps), *(4 * length for length in self._grid))
        rows, columns = self._low_res
        for index, field in enumerate(maps):
            square[index, :rows, :columns] = torch.from_numpy(
                cv2.resize(field, (columns, rows), interpolation=cv2.INTER_AREA)
            )
        return F.pixel_unshuffle(square, 4).flatten(1).T.contiguous()

    def _from_cells(self, values: torch.Tensor) -> np.ndarray:
        """The inverse of `_by_cell`: (C, h, w)."""
        rows, columns = self._low_res
        square = F.pixel_shuffle(values.T.unflatten(1, self._grid), 4).numpy()[:, :rows, :columns]
        enlarged = [
            cv2.resize(np.ascontiguousarray(field), self._size[::-1], interpolation=cv2.INTER_LINEAR) for field in square
        ]
        return np.stack(enlarged)
