"""Read the labels of a frame from an earlier one by the similarity of image embeddings.

This recovers what flow loses: fast motion, occlusion, an instrument that comes back. It is coarse, so the flow carries the
outline. The picture is read in the same way as the labels; how well it agrees with the frame says how far to trust them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.propagation.flow import RESIDUAL_SIGMA, difference
from surgicalsam_napari.propagation.mask_memory import MATCHES, NO_MATCH, REACH_FROM_REFERENCE, TEMPERATURE, unit_keys

CELL = 4  # low-resolution pixels along a position of the embedding's grid
UNREAD = 1e4  # grey levels: the residual where nothing was read


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
        grid = embedding.shape[1:]
        self._grid = geometry.visible_grid(grid)
        self._size = picture.shape[:2]
        side = CELL * max(grid)
        self._low_res = tuple(max(round(length * side / geometry.input_size), 1) for length in geometry.resized_size)
        self._keys = self._visible_keys(embedding)
        self._values = self._by_cell([*np.moveaxis(picture.astype(np.float32), 2, 0), *shares])
        reach = max(round(REACH_FROM_REFERENCE * max(grid)), 1)
        rows, columns = (index.ravel() for index in np.indices(self._grid))
        near = cv2.dilate(self._occupied(shares), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
        self._near = np.flatnonzero(near)
        is_far = np.abs(rows[self._near, None] - rows) > reach
        is_far |= np.abs(columns[self._near, None] - columns) > reach
        self._is_far = torch.from_numpy(is_far)
        self._is_near = self._enlarged(np.repeat(np.repeat(near, CELL, axis=0), CELL, axis=1), cv2.INTER_NEAREST) > 0

    @torch.inference_mode()
    def read(self, embedding: np.ndarray, picture: np.ndarray) -> AppearanceReading:
        """The labels of a frame. Far from every instrument of the anchor it is background, with an `UNREAD` residual."""
        similarity = self._visible_keys(embedding)[self._near] @ self._keys.T
        similarity.masked_fill_(self._is_far, NO_MATCH)
        best, indices = similarity.topk(min(MATCHES, similarity.shape[1]), dim=1)
        weights = (best / TEMPERATURE).softmax(dim=1)
        values = torch.zeros_like(self._values)
        values[self._near] = torch.einsum("nm,nmv->nv", weights, self._values[indices])
        maps = self._from_cells(values.numpy())
        colours = self._enlarged(np.moveaxis(maps[:3], 0, 2).astype(np.uint8))
        residual = cv2.GaussianBlur(difference(colours, picture), (0, 0), RESIDUAL_SIGMA)
        shares = np.stack([self._enlarged(share) for share in maps[3:]])
        shares[0][~self._is_near] = 1
        return AppearanceReading(shares, np.where(self._is_near, residual, np.float32(UNREAD)))

    def _visible_keys(self, embedding: np.ndarray) -> torch.Tensor:
        rows, columns = self._grid
        return unit_keys(torch.from_numpy(embedding[:, :rows, :columns].astype(np.float32)))

    def _occupied(self, shares: np.ndarray) -> np.ndarray:
        """(h', w') uint8: the positions of the grid that an instrument of the anchor touches."""
        instruments = shares[1:].max(axis=0) if len(shares) > 1 else np.zeros(self._size, np.float32)
        return (self._by_cell([instruments]).amax(dim=1).numpy() > 0).reshape(self._grid).astype(np.uint8)

    def _by_cell(self, maps: Sequence[np.ndarray]) -> torch.Tensor:
        """(N, C 16): maps (h, w) of the working size as the low-resolution pixels of each position of the grid."""
        rows, columns = self._grid
        square = np.zeros((len(maps), CELL * rows, CELL * columns), np.float32)
        height, width = self._low_res
        for index, field in enumerate(maps):
            square[index, :height, :width] = cv2.resize(field, (width, height), interpolation=cv2.INTER_AREA)
        cells = square.reshape(len(maps), rows, CELL, columns, CELL).transpose(1, 3, 0, 2, 4)
        return torch.from_numpy(cells.reshape(rows * columns, -1))

    def _from_cells(self, values: np.ndarray) -> np.ndarray:
        """The inverse of `_by_cell`, at low resolution."""
        rows, columns = self._grid
        cells = values.reshape(rows, columns, -1, CELL, CELL).transpose(2, 0, 3, 1, 4)
        return cells.reshape(-1, CELL * rows, CELL * columns)

    def _enlarged(self, field: np.ndarray, interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
        height, width = self._low_res
        return cv2.resize(np.ascontiguousarray(field[:height, :width]), self._size[::-1], interpolation=interpolation)
