"""Prompt SAM with the true centroid or the true box of each instrument's mask (paper, Tables 1 and 2).

These methods are oracles: they know where every instrument is, and so which classes are present. A class that is not in the
frame has no centroid and no box, and gets no mask.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.surgical_sam import PromptedMask, SurgicalSAM
from surgicalsam_training.baselines.answers import box_in_square, frame_embedding, frame_geometry, in_square, merged
from surgicalsam_training.data.training_data import TrainingData
from surgicalsam_training.scoring.protocol import Asked

EXTREME_MARGIN = 10.0  # pixels of the frame between an extreme point and the mask's edge


def centroid(mask: np.ndarray) -> np.ndarray:
    """The mean position of a mask's pixels: (2,) x, y in pixels of the frame; the middle of the first pixel is 0.5.

    It may lie outside the mask, if the class has two instruments or a bent one.

    Parameters
    ----------
    mask : (H, W) bool, not empty
    """
    rows, columns = np.nonzero(mask)
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5])


def extremes(mask: np.ndarray, margin: float = EXTREME_MARGIN) -> np.ndarray:
    """The leftmost, topmost, rightmost and lowest pixels of a mask that keep `margin` to its edge.

    If no pixel keeps the margin, the pixels with the largest distance to the edge count. Of several pixels in a column or
    row the middle one is used.

    Parameters
    ----------
    mask : (H, W) bool, not empty; the frame's border is not an edge
    margin : in pixels; pixels this close to the edge are left out

    Returns
    -------
    (4, 2) x, y as `centroid` gives them
    """
    depth = np.full(mask.shape, np.inf) if mask.all() else distance_transform_edt(mask)
    rows, columns = np.nonzero(mask & (depth > min(margin, depth.max() - 1)))
    chosen = []
    for along, across, end in ((columns, rows, min), (rows, columns, min), (columns, rows, max), (rows, columns, max)):
        tied = np.flatnonzero(along == end(along))
        chosen.append(tied[np.argsort(across[tied])[(len(tied) - 1) // 2]])
    return np.stack([columns[chosen], rows[chosen]], axis=1) + 0.5


def box_of(mask: np.ndarray) -> np.ndarray:
    """(4,) left, top, right, bottom in pixels of the frame; right and bottom are exclusive. The mask must not be empty."""
    rows, columns = np.nonzero(mask)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], float)


def answer_points(model: SurgicalSAM, embedding: Tensor, points: np.ndarray, geometry: FrameGeometry) -> PromptedMask:
    """SAM's mask for positive points (N, 2) in pixels of the frame."""
    return model.decode_prompts(embedding, in_square(points, geometry), torch.ones(len(points)))


def answer_box(model: SurgicalSAM, embedding: Tensor, box: np.ndarray, geometry: FrameGeometry) -> PromptedMask:
    """SAM's mask for a box (4,) in pixels of the frame."""
    return model.decode_prompts(embedding, box=box_in_square(box, geometry))


def predict_from_centroids(
    model: SurgicalSAM, data: TrainingData, example_indices: Sequence[int], asked: Asked
) -> Iterator[tuple[int, np.ndarray]]:
    """GT centroid + SAM: one positive point per class. An oracle."""
    for example_index in example_indices:
        embedding, geometry = frame_embedding(model, data, example_index), frame_geometry(model, data, example_index)
        masks = true_masks(data, example_index, asked)
        points = {class_id: centroid(mask)[None] for class_id, mask in masks.items()}
        yield example_index, merged({i: answer_points(model, embedding, p, geometry) for i, p in points.items()}, geometry)


def predict_from_boxes(
    model: SurgicalSAM, data: TrainingData, example_indices: Sequence[int], asked: Asked
) -> Iterator[tuple[int, np.ndarray]]:
    """GT box + SAM: one box per class, around all its instruments. An oracle."""
    for example_index in example_indices:
        embedding, geometry = frame_embedding(model, data, example_index), frame_geometry(model, data, example_index)
        boxes = {class_id: box_of(mask) for class_id, mask in true_masks(data, example_index, asked).items()}
        yield example_index, merged({i: answer_box(model, embedding, box, geometry) for i, box in boxes.items()}, geometry)


def true_masks(data: TrainingData, example_index: int, asked: Asked) -> dict[int, np.ndarray]:
    """True masks (H, W) bool by class id, of the asked classes that are in the frame."""
    label_map, present = data.label_map(example_index), data.present_class_ids(example_index)
    return {class_id: label_map == class_id for class_id in asked(example_index) if class_id in present}
