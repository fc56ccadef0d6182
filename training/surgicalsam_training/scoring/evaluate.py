"""Score a model on annotated frames: every known class is prompted in every frame, and presence decides."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from surgicalsam_napari.model.surgical_sam import SurgicalSAM, fallback_presence
from surgicalsam_training.data.training_data import TrainingData
from surgicalsam_training.reports import Scores
from surgicalsam_training.scoring.metrics import Metrics
from surgicalsam_training.scoring.protocol import batches, every_class, known_classes, predict_classes, score

FEWEST_PAIRS = 8  # smallest number of (frame, class) pairs with the class, and without it, to calibrate a threshold
THRESHOLDS = np.arange(0.05, 0.96, 0.05).round(2)


@dataclass(frozen=True)
class EmbeddingReport:
    """Another frame is embedded: `done` of `total`."""

    done: int
    total: int


def embed_missing(
    model: SurgicalSAM, data: TrainingData, example_indices: Sequence[int]
) -> Generator[EmbeddingReport, None, None]:
    """Compute the embeddings that `evaluate` needs and that are missing."""
    missing = data.missing_embeddings(example_indices, 0, model)
    for done, _ in enumerate(data.embed(missing, 0, model) if missing else (), 1):
        yield EmbeddingReport(done, len(missing))


def evaluate(model: SurgicalSAM, data: TrainingData, example_indices: Sequence[int]) -> Metrics:
    """Score a model on some frames of the data; their embeddings must exist (`TrainingData.embed`)."""
    return score(data, predict_classes(model, data, example_indices, every_class(model, data), gate=True))


def scores(metrics: Metrics, data: TrainingData) -> Scores:
    """Metrics for a report: by class name, None for NaN; classes that are neither annotated nor predicted are left out."""
    by_name = {data.classes.by_id(class_id).name: iou for class_id, iou in metrics.class_iou.items()}
    return Scores(
        _number(metrics.challenge_iou),
        _number(metrics.iou),
        _number(metrics.mean_class_iou),
        {name: _number(iou) for name, iou in by_name.items() if not np.isnan(iou)},
        _number(metrics.absent_false_positive_rate),
        _number(metrics.missed_rate),
    )


def calibrated_threshold(model: SurgicalSAM, data: TrainingData, example_indices: Sequence[int]) -> float:
    """The presence threshold that separates present and absent classes best on these frames; see `best_threshold`."""
    class_ids = known_classes(model, data)
    presence, present = [], []
    for batch in batches(model, example_indices):
        decoded = model.decode(torch.from_numpy(data.embeddings(batch, 0, model)), class_ids)
        presence_scores = fallback_presence(decoded) if decoded.presence is None else decoded.presence
        for example_index, row in zip(batch, presence_scores.float().cpu().numpy(), strict=True):
            known, present_ids = data.known_class_ids(example_index), data.present_class_ids(example_index)
            columns = [column for column, class_id in enumerate(class_ids) if class_id in known]
            presence.append(row[columns])
            present.append(np.array([class_ids[column] in present_ids for column in columns], bool))
    if not presence:
        return model.presence_threshold
    return best_threshold(np.concatenate(presence), np.concatenate(present), model.presence_threshold)


def best_threshold(presence: np.ndarray, present: np.ndarray, default: float) -> float:
    """The threshold of 0.05, 0.10, … 0.95 with the best F1; of equal ones the nearest to `default`.

    Parameters
    ----------
    presence : (N,) scores of (frame, class) pairs
    present : (N,) bool, whether the class is in the frame
    default : returned if there are too few pairs of either kind
    """
    if min(int(present.sum()), int((~present).sum())) < FEWEST_PAIRS:
        return default
    is_given = presence[None] >= THRESHOLDS[:, None]
    f1 = 2 * (is_given & present).sum(1) / (is_given.sum(1) + present.sum())
    best = THRESHOLDS[f1 >= f1.max() - 1e-9]
    return float(best[np.abs(best - default).argmin()])


def predicted_label_map(model: SurgicalSAM, data: TrainingData, example_index: int) -> np.ndarray:
    """(H, W) uint8, in class ids of the data."""
    return next(predict_classes(model, data, [example_index], every_class(model, data), gate=True))[1]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 3)
