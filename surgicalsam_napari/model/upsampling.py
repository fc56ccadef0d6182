"""Resize low-resolution logits to masks of the frame's size, in one step and only where a mask can be.

Resizing is linear, and rows and columns are resized independently, so the reference's two bilinear steps (logits to padded
square, its upper left part to the frame) are one matrix for rows and one for columns. An output pixel above 0 needs a logit
above 0 among the few that it depends on, so everything outside a window is background and not computed. The result equals
`FrameGeometry.to_frame(logits) > 0` except for pixels within float32 rounding of 0 (tests/test_upsampling.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from surgicalsam_napari.model.geometry import FrameGeometry

BLOCK = 128  # output rows or columns at a time: they depend on few rows or columns of the logits


@dataclass(frozen=True)
class Axis:
    """How one axis of the frame depends on one axis of the logits.

    Attributes
    ----------
    first, last : (N,) for each pixel of the frame, the first and the last logit that it depends on
    blocks : output slice, slice of the logits, and weights (output, logits)
    """

    first: np.ndarray
    last: np.ndarray
    blocks: tuple[tuple[slice, slice, Tensor], ...]

    def span(self, is_positive: np.ndarray) -> slice:
        """The pixels of the frame that can be above 0 if only these logits are; empty if no logit is."""
        positive = np.flatnonzero(is_positive)
        if not len(positive):
            return slice(0, 0)
        reached = np.flatnonzero((self.last >= positive[0]) & (self.first <= positive[-1]))
        if not len(reached):  # all positive logits are in the padding
            return slice(0, 0)
        return slice(int(reached[0]), int(reached[-1]) + 1)

    def blocks_in(self, span: slice) -> Iterator[tuple[slice, slice, Tensor]]:
        """The blocks that have pixels in this span, cut to it; output slices count from its start."""
        for output, source, weights in self.blocks:
            start, stop = max(output.start, span.start), min(output.stop, span.stop)
            if start < stop:
                output_in_span = slice(start - span.start, stop - span.start)
                yield output_in_span, source, weights[start - output.start : stop - output.start]


def label_map_of(
    low_res_logits: Tensor, class_ids: Sequence[int], geometry: FrameGeometry, predicted_iou: np.ndarray | None = None
) -> np.ndarray:
    """One label map from masks that may overlap.

    At every pixel the class with the highest logit wins, if that is above 0; of equal ones the earlier in `class_ids`. With
    `predicted_iou` whole masks are painted by ascending predicted IoU, as in the authors' code: there the most certain
    class lies on top, and a tie goes to the class that comes later (their stable sort).

    Parameters
    ----------
    low_res_logits : (K, h, w), of the whole padded square
    class_ids : K label values
    predicted_iou : (K,); only to reproduce the authors' numbers

    Returns
    -------
    (H, W) uint8
    """
    low_res_logits = low_res_logits.cpu()
    label_map = np.zeros(geometry.original_size, np.uint8)
    if predicted_iou is not None:
        order = np.argsort(predicted_iou, kind="stable").tolist()
        for position, (window, mask) in zip(order, masks_of(low_res_logits[order], geometry), strict=True):
            _paint(label_map[window], mask, class_ids[position])
        return label_map
    highest = np.zeros(geometry.original_size, np.float32) if _may_overlap(low_res_logits) else None
    for class_id, (window, logits) in zip(class_ids, resized_logits(low_res_logits, geometry), strict=True):
        if highest is None:
            _paint(label_map[window], logits > 0, class_id)
            continue
        _paint(label_map[window], logits > highest[window], class_id)
        np.maximum(highest[window], logits, out=highest[window])
    return label_map


def _paint(part: np.ndarray, mask: np.ndarray, class_id: int) -> None:
    """Set the pixels of a mask, in place, without a branch per pixel, which irregular masks make expensive."""
    change = part ^ np.uint8(class_id)
    change *= mask.view(np.uint8)
    part ^= change


def _may_overlap(low_res_logits: Tensor) -> bool:
    """Whether two masks may share a pixel of the frame: each logit above 0 reaches its neighbours."""
    reach = low_res_logits > 0
    for axis in (1, 2):  # shifts of bits: torch's max_pool2d takes 20 times as long
        size = reach.shape[axis]
        first, last = reach.narrow(axis, 0, size - 1), reach.narrow(axis, 1, size - 1)
        reach = reach.clone()
        reach.narrow(axis, 1, size - 1).logical_or_(first)
        reach.narrow(axis, 0, size - 1).logical_or_(last)
    return bool((reach.sum(dim=0, dtype=torch.uint8) > 1).any())


def masks_of(low_res_logits: Tensor, geometry: FrameGeometry) -> Iterator[tuple[tuple[slice, slice], np.ndarray]]:
    """The window that can contain each mask, and the mask in that window; see `resized_logits`.

    Yields
    ------
    window of the frame (rows, columns), and the mask in it, bool; outside it the mask is empty
    """
    for window, logits in resized_logits(low_res_logits, geometry):
        yield window, np.greater(logits, 0)  # faster than torch's


def resized_logits(low_res_logits: Tensor, geometry: FrameGeometry) -> Iterator[tuple[tuple[slice, slice], np.ndarray]]:
    """The window that can contain each mask, and the logits at the frame's size in that window.

    Parameters
    ----------
    low_res_logits : (K, h, w) on the CPU, of the whole padded square

    Yields
    ------
    window of the frame (rows, columns), and the logits in it, float32; outside it they are not above 0
    """
    height, width = low_res_logits.shape[-2:]
    rows, columns = frame_axis(geometry, 0, height), frame_axis(geometry, 1, width)
    low_res_logits = low_res_logits.float()
    in_row, in_column = (low_res_logits.amax(dim).numpy() > 0 for dim in (2, 1))
    for logits, positive_rows, positive_columns in zip(low_res_logits, in_row, in_column, strict=True):
        row_span, column_span = rows.span(positive_rows), columns.span(positive_columns)
        resized_rows = torch.empty(row_span.stop - row_span.start, width)
        for output, source, weights in rows.blocks_in(row_span):
            torch.mm(weights, logits[source], out=resized_rows[output])
        resized = torch.empty(len(resized_rows), column_span.stop - column_span.start)
        for output, source, weights in columns.blocks_in(column_span):
            torch.mm(resized_rows[:, source], weights.T, out=resized[:, output])
        yield (row_span, column_span), resized.numpy()


@lru_cache(maxsize=16)
def frame_axis(geometry: FrameGeometry, axis: int, length: int, device: torch.device | str = "cpu") -> Axis:
    """Both steps combined along one axis (0 rows, 1 columns) of `length` logits; one block on a GPU."""
    to_square = _resizing(length, geometry.input_size)
    to_frame = _resizing(geometry.resized_size[axis], geometry.original_size[axis])
    weights = to_frame @ to_square[: geometry.resized_size[axis]]
    used = (weights != 0).numpy()
    first, last = used.argmax(axis=1), length - 1 - used[:, ::-1].argmax(axis=1)
    size = BLOCK if torch.device(device).type == "cpu" else len(weights)
    blocks = []
    for start in range(0, len(weights), size):
        output = slice(start, min(start + size, len(weights)))
        source = slice(int(first[output].min()), int(last[output].max()) + 1)
        blocks.append((output, source, weights[output, source].float().contiguous().to(device)))
    return Axis(first, last, tuple(blocks))


def _resizing(length: int, new_length: int) -> Tensor:
    """(new_length, length): bilinear resizing of one axis (torch's `interpolate`, `align_corners=False`), in float64."""
    unit = torch.eye(length, dtype=torch.float64)[:, None]
    return torch.nn.functional.interpolate(unit, new_length, mode="linear", align_corners=False)[:, 0].T
