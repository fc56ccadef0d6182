"""Shared by the baselines: coordinates in SAM's padded square, and one label map from the masks of several classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.prompts import MASK_PROMPT_LOGIT, mask_prompt
from surgicalsam_napari.model.surgical_sam import PromptedMask, SurgicalSAM
from surgicalsam_napari.model.upsampling import label_map_of, masks_of
from surgicalsam_training.data.training_data import TrainingData


def frame_geometry(model: SurgicalSAM, data: TrainingData, example_index: int) -> FrameGeometry:
    return FrameGeometry(data.frames[example_index].size, model.input_size)


def frame_embedding(model: SurgicalSAM, data: TrainingData, example_index: int) -> Tensor:
    """(D, h, w) float16; it must have been computed (`TrainingData.embed`)."""
    return torch.from_numpy(data.embeddings([example_index], 0, model)[0, : model.decoder_dim])


def videos(data: TrainingData, example_indices: Sequence[int]) -> list[list[int]]:
    """The example indices of each sequence, in the order of its frames."""
    by_sequence: dict[str, list[int]] = {}
    for example_index in sorted(example_indices, key=lambda index: data.frames[index].frame_index):
        by_sequence.setdefault(data.frames[example_index].sequence, []).append(example_index)
    return [by_sequence[name] for name in dict.fromkeys(data.frames[index].sequence for index in example_indices)]


def in_square(points: np.ndarray, geometry: FrameGeometry) -> Tensor:
    """Convert points of the frame to the padded square; both have their origin at the upper left edge.

    Parameters
    ----------
    points : (N, 2), x and y in pixels of the frame

    Returns
    -------
    (N, 2) float32, as `SurgicalSAM.decode_prompts` takes them
    """
    height, width = geometry.original_size
    resized_height, resized_width = geometry.resized_size
    scale = np.array([resized_width / width, resized_height / height])
    return torch.from_numpy(np.asarray(points, np.float64) * scale).float()


def box_in_square(box: Sequence[float] | np.ndarray, geometry: FrameGeometry) -> Tensor:
    """(4,) left, top, right, bottom in the padded square of a box in the frame."""
    return in_square(np.asarray(box, np.float64).reshape(2, 2), geometry).flatten()


def grid_share(mask: np.ndarray, geometry: FrameGeometry, side: int) -> Tensor:
    """(side, side), 0 to 1: the share of each cell of a grid over the padded square that a mask (H, W) covers."""
    return mask_prompt(mask, geometry, side) / (2 * MASK_PROMPT_LOGIT) + 0.5


def merged(answers: Mapping[int, PromptedMask], geometry: FrameGeometry) -> np.ndarray:
    """One label map (H, W) uint8 from a mask per class id; where masks overlap, the higher predicted IoU wins."""
    if not answers:
        return np.zeros(geometry.original_size, np.uint8)
    logits = torch.stack([answer.low_res_logits for answer in answers.values()])
    quality = np.array([answer.predicted_iou for answer in answers.values()])
    return label_map_of(logits, list(answers), geometry, quality)


def painted(masks: Mapping[int, tuple[np.ndarray, float]], geometry: FrameGeometry) -> np.ndarray:
    """One label map (H, W) uint8 from a mask (H, W) bool and its predicted IoU per class id; overlaps as `merged`."""
    label_map = np.zeros(geometry.original_size, np.uint8)
    for class_id, (mask, _) in sorted(masks.items(), key=lambda item: item[1][1]):
        label_map[mask] = class_id
    return label_map


def mask_in_frame(low_res_logits: Tensor, geometry: FrameGeometry) -> np.ndarray:
    """(H, W) bool of logits (h, w) of the padded square."""
    mask = np.zeros(geometry.original_size, bool)
    ((window, window_mask),) = masks_of(low_res_logits[None].cpu(), geometry)
    mask[window] = window_mask
    return mask
