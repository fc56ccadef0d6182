"""Carry a mask from frame to frame by the similarity of image embeddings.

This is the memory of semi-supervised video object segmentation, on SAM's embedding grid and without learned parts: each
position of a new frame finds the most similar positions in the corrected frame and in the previous frame, and takes over
their mask. Both are needed: the corrected frame keeps errors from growing, the previous frame follows motion.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

MATCHES = 4  # positions that a position takes its mask from
TEMPERATURE = 0.03  # of cosine similarity
REACH_FROM_REFERENCE = 1 / 4  # the distance to search for an instrument, as a share of the grid's side
REACH_FROM_PREVIOUS = 1 / 8
REFERENCE_WEIGHT = 0.75  # 0.5 is as good on phantom clips, but drifts more on a real clip
POSITIONS_AT_ONCE = 512  # bounds the memory of the table of similarities: 8 MB for a grid of 64 x 64
NO_MATCH = -2.0  # below every cosine


@dataclass(frozen=True)
class RememberedFrame:
    """A frame and its mask.

    Attributes
    ----------
    keys : (N, D), the embedding of each grid position, row-major, of length 1
    share : (4h, 4w), the probability of the mask, 0 to 1
    """

    keys: Tensor
    share: Tensor


@dataclass(frozen=True)
class MaskReading:
    """The mask in a new frame, read from each of the two remembered frames: (4h, 4w) each, 0 to 1."""

    from_reference: Tensor
    from_previous: Tensor

    @property
    def share(self) -> Tensor:
        """The probability of the mask, (4h, 4w)."""
        return REFERENCE_WEIGHT * self.from_reference + (1 - REFERENCE_WEIGHT) * self.from_previous


class MaskMemory:
    """The corrected frame, and the last frame that the mask was carried to.

    Parameters
    ----------
    image_embedding : (D, h, w), of the corrected frame
    share : (4h, 4w), how much of each low-resolution pixel the corrected mask covers, 0 to 1
    """

    def __init__(self, image_embedding: Tensor, share: Tensor) -> None:
        self.grid_size = tuple(image_embedding.shape[-2:])
        sides = (torch.arange(side, dtype=torch.int16, device=image_embedding.device) for side in self.grid_size)
        self._rows, self._columns = torch.cartesian_prod(*sides).T.contiguous()  # (N,) each
        self.reference = self.previous = RememberedFrame(unit_keys(image_embedding), share)

    def read(self, image_embedding: Tensor) -> MaskReading:
        """The mask in a new frame.

        Parameters
        ----------
        image_embedding : (D, h, w)
        """
        keys = unit_keys(image_embedding)
        return MaskReading(
            self._read(keys, self.reference, REACH_FROM_REFERENCE), self._read(keys, self.previous, REACH_FROM_PREVIOUS)
        )

    def read_back(self, image_embedding: Tensor, share: Tensor) -> Tensor:
        """The corrected frame's mask if it is read from `share` in this frame: (4h, 4w), 0 to 1."""
        return self._read(self.reference.keys, RememberedFrame(unit_keys(image_embedding), share), REACH_FROM_REFERENCE)

    def remember(self, image_embedding: Tensor, share: Tensor) -> None:
        """Use this frame as the previous one from now on."""
        self.previous = RememberedFrame(unit_keys(image_embedding), share)

    def _read(self, keys: Tensor, remembered: RememberedFrame, reach: float) -> Tensor:
        radius = max(round(reach * max(self.grid_size)), 1)
        values = F.pixel_unshuffle(remembered.share[None], 4).flatten(1).T  # (N, 16): a position's low-resolution pixels
        occupied = (values.amax(dim=1) > 0).float().view(1, *self.grid_size)
        # a position without a mask within reach gets none: this skips most of the frame
        near = F.max_pool2d(occupied, 2 * radius + 1, stride=1, padding=radius).flatten().nonzero()[:, 0]
        share = torch.zeros_like(values)
        for positions in near.split(POSITIONS_AT_ONCE):
            share[positions] = self._matched(keys[positions], positions, remembered.keys, values, radius)
        return F.pixel_shuffle(share.T.unflatten(1, self.grid_size), 4)[0]

    def _matched(self, keys: Tensor, positions: Tensor, memory: Tensor, values: Tensor, radius: int) -> Tensor:
        is_far = (self._rows[positions][:, None] - self._rows).abs() > radius
        is_far |= (self._columns[positions][:, None] - self._columns).abs() > radius
        similarity = (keys @ memory.T).masked_fill_(is_far, NO_MATCH)
        best, indices = similarity.topk(min(MATCHES, similarity.shape[1]), dim=1)
        weights = (best / TEMPERATURE).softmax(dim=1)  # nearly 0 for NO_MATCH
        return (weights[..., None] * values[indices]).sum(dim=1)


def unit_keys(image_embedding: Tensor) -> Tensor:
    """(D, h, w) to (N, D) of length 1, row-major."""
    return F.normalize(image_embedding.float().flatten(1).T, dim=1)
