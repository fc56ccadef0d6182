"""SAM prompted from the truth: with the centroid, or with the box, of each instrument's mask (paper, Tables 1 and 2).

Oracles: they know where every instrument is, and so which are there. A class that is asked for and is not in the frame has
no centroid and no box, and gets no mask.
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
    """The mean place of a mask's pixels: (2,) x, y in pixels of the frame, 0.5 in the middle of its first pixel.

    Of two instruments of one class, or of a bent one, it may lie outside the mask.

    Parameters
    ----------
    mask : (H, W) bool, not empty
    """
    rows, columns = np.nonzero(mask)
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5])


def extremes(mask: np.ndarray, margin: float = EXTREME_MARGIN) -> np.ndarray:
    """The leftmost, topmost, rightmost and lowest pixel that is `margin` away from the mask's edge.

    A mask that is nowhere so thick gives those where it is thickest. Of several pixels in a column or row the middle one.

    Parameters
    ----------
    mask : (H, W) bool, not empty; the frame's border is no edge of it
    margin : in pixels: the first so many pixels from the edge are left out

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
    """(4,) left, top, right, bottom in pixels of the frame; right and bottom are exclusive. Of a mask that is not empty."""
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
    """GT centroid + SAM: one positive point per class. An oracle, see above."""
    for example_index in example_indices:
        embedding, geometry = frame_embedding(model, data, example_index), frame_geometry(model, data, example_index)
        masks = true_masks(data, example_index, asked)
        points = {class_id: centroid(mask)[None] for class_id, mask in masks.items()}
        yield example_index, merged({i: answer_points(model, embedding, p, geometry) for i, p in points.items()}, geometry)


def predict_from_boxes(
    model: SurgicalSAM, data: TrainingData, example_indices: Sequence[int], asked: Asked
) -> Iterator[tuple[int, np.ndarray]]:
    """GT box + SAM: one box per class, around all its instruments. An oracle, see above."""
    for example_index in example_indices:
        embedding, geometry = frame_embedding(model, data, example_index), frame_geometry(model, data, example_index)
        boxes = {class_id: box_of(mask) for class_id, mask in true_masks(data, example_index, asked).items()}
        yield example_index, merged({i: answer_box(model, embedding, box, geometry) for i, box in boxes.items()}, geometry)


def true_masks(data: TrainingData, example_index: int, asked: Asked) -> dict[int, np.ndarray]:
    """(H, W) bool by class id, of the classes that are asked for and are in the frame."""
    label_map, present = data.label_map(example_index), data.present_class_ids(example_index)
    return {class_id: label_map == class_id for class_id in asked(example_index) if class_id in present}
