"""How much each class in each frame needs review, from what the project stores alone.

Signs that a mask is wrong are weighed by a logistic regression of its error. docs/measured.md shows what each sign is worth:
on other clips than those of the fit the predicted IoU alone ranks no worse, but it says nothing of classes that were missed,
which the other signs do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np

from surgicalsam_napari.review.jumps import UNKNOWN, MaskJumps
from surgicalsam_napari.store.provenance import Provenance, is_by_person

AROUND = 5  # frames on each side in which a class is expected as in this frame
LEVELS = 1000  # levels of presence in the search for its threshold


class Tables(Protocol):
    """The tables of a LabelStore: whole tables (T, C) by name, and single rows (C,)."""

    def table(self, name: str) -> np.ndarray: ...

    def row(self, name: str, frame_index: int) -> np.ndarray: ...


@dataclass(frozen=True)
class Evidence:
    """The data on each class in each frame, all (T, C); columns in the order of the project's classes.

    Attributes
    ----------
    provenance : uint8, of `Provenance`
    predicted_iou, presence, contested : float32, NaN if the model did not predict the class
    threshold : float32, presence threshold, estimated from the tables (`presence_thresholds`)
    areas : float32, share of the frame; NaN if unknown
    overlaps : float32, IoU with the mask in the previous frame; NaN if unknown (`MaskJumps`)
    """

    provenance: np.ndarray
    predicted_iou: np.ndarray
    presence: np.ndarray
    contested: np.ndarray
    threshold: np.ndarray
    areas: np.ndarray
    overlaps: np.ndarray

    @classmethod
    def of(cls, tables: Tables, jumps: MaskJumps | None = None) -> Evidence:
        """The current evidence of a project; without `jumps`, from the tables only."""
        provenance, presence = tables.table("provenance"), tables.table("presence")
        unknown = np.full(provenance.shape, UNKNOWN)
        return cls(
            provenance,
            tables.table("predicted_iou"),
            presence,
            tables.table("contested"),
            presence_thresholds(provenance, presence, tables.table("predicted_by")),
            unknown if jumps is None else jumps.areas(),
            unknown if jumps is None else jumps.overlaps(),
        )

    def frames(self, first: int, stop: int) -> Evidence:
        """The evidence of the frames from `first` to `stop`, `stop` excluded; shares memory."""
        return Evidence(*(getattr(self, field.name)[max(first, 0) : stop] for field in fields(self)))

    @property
    def is_predicted(self) -> np.ndarray:
        return self.provenance == Provenance.PREDICTED

    @property
    def is_absent(self) -> np.ndarray:
        return self.provenance == Provenance.ABSENT

    @property
    def is_present(self) -> np.ndarray:
        """(T, C) float32: 1 if the class is in the frame, 0 if not; NaN if unknown."""
        present = np.full(self.provenance.shape, UNKNOWN)
        present[self.is_predicted] = 1
        present[self.is_absent] = 0
        known = is_by_person(self.provenance) & ~np.isnan(self.areas)
        present[known] = self.areas[known] > 0
        return present


def presence_thresholds(provenance: np.ndarray, presence: np.ndarray, predicted_by: np.ndarray) -> np.ndarray:
    """(T, C) float32: the presence threshold that best separates PREDICTED from ABSENT, for each checkpoint.

    The project does not store the threshold. Of equally good thresholds, take the middle one. Cells without a prediction
    get the threshold of the latest checkpoint.
    """
    thresholds = np.full(presence.shape, 0.5, np.float32)
    level = (np.nan_to_num(presence) * LEVELS).astype(np.intp).clip(0, LEVELS)
    is_known = ~np.isnan(presence)
    for checkpoint in np.flatnonzero(np.bincount(predicted_by.ravel())):
        is_own = (predicted_by == checkpoint) & is_known
        predicted = np.bincount(level[is_own & (provenance == Provenance.PREDICTED)], minlength=LEVELS + 1)
        absent = np.bincount(level[is_own & (provenance == Provenance.ABSENT)], minlength=LEVELS + 1)
        # misclassified cells for each level of the threshold
        misclassified = np.append(0, predicted.cumsum()) + np.append(absent[::-1].cumsum()[::-1], 0)
        best = np.flatnonzero(misclassified == misclassified.min())
        thresholds[is_own | ~is_known] = (best[0] + best[-1]) / 2 / LEVELS
    return thresholds


@dataclass(frozen=True)
class Measures:
    """Signs that a class is wrong in a frame, all (T, C) float32 from 0 to 1 (worst); 0 if there is nothing to rate.

    Attributes
    ----------
    poor : 1 - predicted IoU, of predicted classes
    undecided : how near the presence is to its threshold; 1 at the threshold, 0 for a predicted class with presence 1 and an
        absent class with presence 0
    contested : share of a predicted mask that another class also claims
    jump : the larger 1 - IoU of the mask with that in the previous and the next frame; 1 if the class appears or disappears.
        NaN if the neighbours were not compared yet or not segmented
    unlike_around : share of the nearby frames that contain an absent class, or that lack a predicted class
    """

    poor: np.ndarray
    undecided: np.ndarray
    contested: np.ndarray
    jump: np.ndarray
    unlike_around: np.ndarray


NAMES = tuple(field.name for field in fields(Measures))


def measure(evidence: Evidence) -> Measures:
    """Compute every sign for every class in every frame, also for edited and verified ones."""
    predicted, absent = evidence.is_predicted, evidence.is_absent
    presence, threshold = evidence.presence, evidence.threshold
    with np.errstate(divide="ignore", invalid="ignore"):
        undecided = np.where(predicted, (1 - presence) / (1 - threshold), np.where(absent, presence / threshold, 0))
    around = share_around(evidence.is_present)
    return Measures(
        _shares(np.where(predicted, 1 - evidence.predicted_iou, 0)),
        _shares(undecided),
        _shares(np.where(predicted, evidence.contested, 0)),
        np.fmax(*neighbour_jumps(evidence)),
        _shares(np.where(predicted, 1 - around, np.where(absent, around, 0))),
    )


def neighbour_jumps(evidence: Evidence) -> tuple[np.ndarray, np.ndarray]:
    """(T, C) float32 each: 1 - IoU with the mask in the previous and in the next frame; NaN if unknown."""
    is_known = evidence.provenance != Provenance.EMPTY  # a frame that is not segmented does not count as neighbour
    before = np.full(evidence.overlaps.shape, UNKNOWN)
    before[1:] = np.where(is_known[1:] & is_known[:-1], 1 - evidence.overlaps[1:], UNKNOWN)
    after = np.full_like(before, UNKNOWN)
    after[:-1] = before[1:]
    return before, after


def share_around(is_present: np.ndarray) -> np.ndarray:
    """(T, C) float32: share of the known frames among AROUND on each side that contain each class; NaN if none is known."""
    count = len(is_present)
    known = ~np.isnan(is_present)
    present = known & (is_present > 0)
    first = np.maximum(np.arange(count) - AROUND, 0)
    stop = np.minimum(np.arange(count) + AROUND + 1, count)

    def summed(values: np.ndarray) -> np.ndarray:
        running = np.zeros((count + 1, values.shape[1]), np.int32)
        np.cumsum(values, axis=0, out=running[1:])
        return running[stop] - running[first] - values

    with np.errstate(invalid="ignore"):
        return np.divide(summed(present), summed(known), dtype=np.float32)


def _shares(values: np.ndarray) -> np.ndarray:
    return np.clip(np.nan_to_num(values, nan=0.0, posinf=1.0), 0, 1).astype(np.float32)


@dataclass(frozen=True)
class Weights:
    """Weights of a logistic regression of a class's error, 1 - IoU, on its measures."""

    bias: float
    of: Mapping[str, float]


# benchmarks/quality/review_ranking.py --fit
PREDICTED = Weights(-2.13, {"poor": 5.41, "undecided": 0.3, "contested": 2.07, "jump": 1.32})
PREDICTED_BY_TABLES = Weights(-2.04, {"poor": 5.88, "undecided": 0.6, "contested": 2.39, "unlike_around": 0.37})
ABSENT = Weights(-3.17, {"undecided": 2.23, "jump": 0.81, "unlike_around": 1.98})
ABSENT_BY_TABLES = Weights(-3.17, {"undecided": 2.34, "unlike_around": 2.36})


def cell_suspicion(evidence: Evidence, measures: Measures | None = None) -> np.ndarray:
    """The expected error, 1 - IoU, of each class in each frame; 0 if it is empty, edited or verified.

    Returns
    -------
    (T, C) float32, 0 to 1
    """
    measures = measure(evidence) if measures is None else measures
    jump_known = ~np.isnan(measures.jump)
    suspicion = np.zeros(evidence.provenance.shape, np.float32)
    for cells, weights in (
        (evidence.is_predicted & jump_known, PREDICTED),
        (evidence.is_predicted & ~jump_known, PREDICTED_BY_TABLES),
        (evidence.is_absent & jump_known, ABSENT),
        (evidence.is_absent & ~jump_known, ABSENT_BY_TABLES),
    ):
        logit = np.full(np.count_nonzero(cells), weights.bias, np.float32)
        for name, weight in weights.of.items():
            logit += np.float32(weight) * getattr(measures, name)[cells]
        suspicion[cells] = 1 / (1 + np.exp(-logit))
    return suspicion


def contributions(evidence: Evidence, measures: Measures) -> dict[str, np.ndarray]:
    """(T, C) float32 by measure: its contribution to the suspicion, before the logistic function."""
    jump_known = ~np.isnan(measures.jump)
    parts = {}
    for name in NAMES:
        predicted = np.where(jump_known, PREDICTED.of.get(name, 0), PREDICTED_BY_TABLES.of.get(name, 0))
        absent = np.where(jump_known, ABSENT.of.get(name, 0), ABSENT_BY_TABLES.of.get(name, 0))
        weights = np.where(evidence.is_predicted, predicted, np.where(evidence.is_absent, absent, 0))
        parts[name] = (weights * np.nan_to_num(getattr(measures, name))).astype(np.float32)
    return parts


def frame_suspicion(evidence: Evidence, suspicion: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
    """How much each frame needs review: the mean of its worst class's suspicion and the expected error of the frame.

    A frame's error is the mean over the classes that are present or predicted in it.

    Parameters
    ----------
    suspicion : (T, C) float32, from `cell_suspicion`
    where : (T, C) bool, the classes and frames that count; by default all

    Returns
    -------
    (T,) float32, 0 to 1
    """
    counted = suspicion if where is None else np.where(where, suspicion, 0)
    presence = np.where(evidence.is_absent, suspicion, np.nan_to_num(evidence.is_present, nan=0.0))
    presence[evidence.provenance == Provenance.EMPTY] = 0
    expected = counted.sum(axis=1) / np.maximum(presence.sum(axis=1), 1)
    return ((counted.max(axis=1, initial=0) + expected) / 2).astype(np.float32)
