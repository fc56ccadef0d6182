"""The EndoVis metrics as the SurgicalSAM authors compute them, and two more: masks on absent classes, and missed classes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Metrics:
    """Scores in percent; NaN if there is nothing to average.

    Attributes
    ----------
    challenge_iou : mean over frames of the mean IoU of the classes that are in the frame
    iou : the same over the classes in the frame or in its prediction
    mean_class_iou : mean over classes of `class_iou` (mcIoU)
    overall_iou : summed intersections over summed unions (the authors' mIoU)
    class_iou : by class id, mean over the frames that show the class or for which it is predicted
    absent_false_positive_rate : share of the (frame, class) pairs without the class that got a mask
    missed_rate : share of the (frame, class) pairs with the class that got no mask
    """

    challenge_iou: float
    iou: float
    mean_class_iou: float
    overall_iou: float
    class_iou: dict[int, float]
    absent_false_positive_rate: float
    missed_rate: float


Pair = tuple[np.ndarray, np.ndarray] | tuple[np.ndarray, np.ndarray, Collection[int]]


def evaluate_label_maps(pairs: Iterable[Pair], class_ids: Sequence[int]) -> Metrics:
    """Score label maps against the truth, as in the authors' evaluation.

    A frame with an empty prediction scores 0 for its classes, and does not count in `overall_iou` (as in the authors' code).

    Parameters
    ----------
    pairs : (prediction, truth) per frame, each (H, W) of class ids; with a third item if only some classes are known: their
        ids; both maps are then 0 where another class is
    class_ids : the classes to score
    """
    frame_challenge: list[float] = []
    frame_iou: list[float] = []
    per_class: dict[int, list[float]] = {class_id: [] for class_id in class_ids}
    intersection = union = absent = false = present = missed = 0
    for prediction, truth, *known in pairs:
        predicted_ids, true_ids = set(np.unique(prediction)) - {0}, set(np.unique(truth)) - {0}
        absent += len(known[0] if known else class_ids) - len(true_ids)
        false += len(predicted_ids - true_ids)
        present += len(true_ids)
        missed += len(true_ids - predicted_ids)
        scores: dict[int, float] = {}
        for class_id in class_ids:
            if class_id in predicted_ids or class_id in true_ids:
                is_predicted, is_true = prediction == class_id, truth == class_id
                shared, either = int((is_predicted & is_true).sum()), int((is_predicted | is_true).sum())
                scores[class_id] = shared / either
                per_class[class_id].append(shared / either)
                if predicted_ids:
                    intersection, union = intersection + shared, union + either
        if scores:
            frame_iou.append(_mean(scores.values()))
        if true_ids:
            frame_challenge.append(_mean(scores[class_id] for class_id in true_ids))
    class_iou = {class_id: 100 * _mean(scores) for class_id, scores in per_class.items()}
    return Metrics(
        100 * _mean(frame_challenge),
        100 * _mean(frame_iou),
        _mean_of_numbers(class_iou.values()),
        100 * intersection / union if union else 0.0,  # 0 as in the authors' code, also if every frame is empty
        class_iou,
        100 * false / absent if absent else float("nan"),
        100 * missed / present if present else float("nan"),
    )


def mean_metrics(parts: Sequence[Metrics]) -> Metrics:
    """The mean over folds; for a class over the folds that have a score of it. `mean_class_iou` is the mean over classes."""

    def over_folds(name: str) -> float:
        return _mean_of_numbers(getattr(part, name) for part in parts)

    class_ids = dict.fromkeys(class_id for part in parts for class_id in part.class_iou)
    class_iou = {
        class_id: _mean_of_numbers(part.class_iou.get(class_id, float("nan")) for part in parts) for class_id in class_ids
    }
    return Metrics(
        over_folds("challenge_iou"),
        over_folds("iou"),
        _mean_of_numbers(class_iou.values()),
        over_folds("overall_iou"),
        class_iou,
        over_folds("absent_false_positive_rate"),
        over_folds("missed_rate"),
    )


def _mean_of_numbers(values: Iterable[float]) -> float:
    return _mean(value for value in values if not np.isnan(value))


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return float(np.mean(values)) if values else float("nan")
