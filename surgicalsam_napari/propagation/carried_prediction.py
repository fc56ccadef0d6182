"""Make a prediction of carried masks: what they replace, and their agreement as the stored scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import label

from surgicalsam_napari.inference.content import within_content
from surgicalsam_napari.model.surgical_sam import FramePrediction
from surgicalsam_napari.store import Provenance

if TYPE_CHECKING:
    from surgicalsam_napari.store import Project

REPLACED_SHARE = 0.5  # of another class's region; if the mask covers more, the whole region is removed


def carried_prediction(
    project: Project, frame_index: int, carried: np.ndarray, agreements: Mapping[int, float]
) -> FramePrediction:
    """The carried masks, and what remains of the predicted classes that they overlap.

    Parameters
    ----------
    carried : (H, W) uint8, with the class ids of `agreements`
    agreements : by class id, 0 to 1; stored as predicted IoU and, if the class is there, as presence
    """
    label_map, mask = project.labels[frame_index], carried > 0
    overlaps = np.bincount(label_map[mask], minlength=256)  # pixels of each class under the masks
    overlaps[[0, *agreements]] = 0
    predicted = np.zeros_like(label_map)
    scores = {}
    for other in np.flatnonzero(overlaps).tolist():
        if project.labels.provenance(frame_index, other) == Provenance.PREDICTED:
            remaining = remaining_mask(label_map == other, mask)
            predicted[remaining] = other
            scores[other] = _scores(project, frame_index, other, bool(remaining.any()))
            overlaps[other] = 0
    predicted[mask] = carried[mask]
    for class_id, agreement in agreements.items():
        own = carried == class_id
        present = bool(own.any())
        contested = np.isin(label_map[own], np.flatnonzero(overlaps)).mean() if present else 0.0  # by classes that stay
        scores[class_id] = (agreement, agreement if present else 1 - agreement, present, float(contested))
    predicted_iou, presence, present, contested_shares = np.array(list(scores.values()), np.float32).T
    prediction = FramePrediction(tuple(scores), predicted, predicted_iou, presence, present > 0, contested_shares)
    return within_content(prediction, project.content_area)


def _scores(project: Project, frame_index: int, class_id: int, present: bool) -> tuple[float, float, bool, float]:
    """Predicted IoU, presence and contested share as they are stored."""
    labels = project.labels
    contested = labels.table("contested")[frame_index, project.classes.ids.index(class_id)]
    return labels.predicted_iou(frame_index, class_id), labels.presence(frame_index, class_id), present, float(contested)


def remaining_mask(other: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Another class's mask without the pixels that `mask` covers, and without regions that it covers for the most part.

    The same region predicted as a wrong class has another outline; removed pixel by pixel it would leave a rim.

    Parameters
    ----------
    other, mask : (H, W) bool
    """
    regions, count = label(other)
    if count == 0:
        return other
    area = np.bincount(regions.ravel(), minlength=count + 1)
    covered = np.bincount(regions[mask], minlength=count + 1)
    is_removed = covered > REPLACED_SHARE * area
    is_removed[0] = True
    return ~is_removed[regions] & ~mask
