"""What the pixel head should predict in a corrected frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from surgicalsam_napari.model.geometry import FrameGeometry


@dataclass(frozen=True)
class HeadTarget:
    """The target of one frame, on the grid of the head's output.

    Attributes
    ----------
    share : (1 + C, h, w) float16, the share of each cell that the background and each class cover; 0 in the padding
    is_open : (1 + C,) bool, which of them may be in a cell that no annotated class covers: the background, and the classes
        that are not annotated in this frame
    """

    share: Tensor
    is_open: Tensor


def head_target(
    label_map: np.ndarray, class_ids: Sequence[int], known: frozenset[int], geometry: FrameGeometry, side: int
) -> HeadTarget:
    """The target of a corrected frame.

    Parameters
    ----------
    label_map : (H, W) uint8
    class_ids : C ids, in the head's order
    known : the ids whose presence or absence is certain in this frame
    side : of the head's output
    """
    height, width = geometry.resized_size
    cell = geometry.input_size // side
    share = torch.zeros(1 + len(class_ids), side, side)
    in_frame = torch.zeros(1, 1, geometry.input_size, geometry.input_size)
    in_frame[..., :height, :width] = 1
    share[0] = F.avg_pool2d(in_frame, cell)[0, 0]
    for position, class_id in enumerate(class_ids, 1):
        mask = label_map == class_id
        if class_id not in known or not mask.any():
            continue
        padded = torch.zeros_like(in_frame)
        covered = torch.from_numpy(mask.astype(np.float32))[None, None]
        padded[..., :height, :width] = F.interpolate(covered, (height, width), mode="area")
        share[position] = F.avg_pool2d(padded, cell)[0, 0]
    share[0] -= share[1:].sum(dim=0)
    is_open = torch.tensor([True, *(class_id not in known for class_id in class_ids)])
    return HeadTarget(share.clamp(min=0).half(), is_open)
