"""Scores of instruments followed over time: HOTA, IDF1, switches of identity, and flips of class.

HOTA is that of Luiten et al. (HOTA: A higher order metric for evaluating multi-object tracking, IJCV 2021), IDF1 that of
Ristani et al. (Performance measures and a data set for multi-target, multi-camera tracking, ECCV workshops 2016), and
switches of identity are those of MOTA (Bernardin and Stiefelhagen, EURASIP JIVP 2008). Two masks are alike by their IoU; a
class plays no part, except in the flips. `tests/test_interop.py` compares the numbers with TrackEval's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

THRESHOLDS = np.arange(0.05, 0.99, 0.05)  # of the IoU, over which HOTA is a mean
MATCHED = 0.5  # least IoU of a match, for IDF1 and switches
EPSILON = np.finfo(float).eps


@dataclass(frozen=True)
class FrameOverlap:
    """The instances of one frame and how they overlap.

    Attributes
    ----------
    true_ids : (G,) ids of the tracks of the truth that are in the frame
    predicted_ids : (P,)
    iou : (G, P)
    """

    true_ids: np.ndarray
    predicted_ids: np.ndarray
    iou: np.ndarray


@dataclass(frozen=True)
class TrackingCounts:
    """What was counted in one video or several; counts of several videos are added.

    Attributes
    ----------
    true, predicted : instances in all frames
    matches : (19,) pairs in all frames with at least the IoU of each of THRESHOLDS
    association : (19,) sum over these pairs of the Jaccard index of their two tracks
    id_matches : pairs in all frames whose tracks belong together in the best one-to-one assignment of tracks
    switches : how often an instrument of the truth has another track than when it was last found
    """

    true: int
    predicted: int
    matches: np.ndarray
    association: np.ndarray
    id_matches: int
    switches: int

    def __add__(self, other: TrackingCounts) -> TrackingCounts:
        return TrackingCounts(
            self.true + other.true,
            self.predicted + other.predicted,
            self.matches + other.matches,
            self.association + other.association,
            self.id_matches + other.id_matches,
            self.switches + other.switches,
        )

    @property
    def detection_accuracy(self) -> float:
        """DetA, 0 to 1: matches over all instances, with each match counted once; NaN without any instance."""
        either = self.true + self.predicted - self.matches
        return float(np.mean(self.matches / either)) if self.true + self.predicted else float("nan")

    @property
    def association_accuracy(self) -> float:
        """AssA, 0 to 1: mean over the matches of the Jaccard index of their tracks."""
        return float(np.mean(self._association)) if self.true + self.predicted else float("nan")

    @property
    def hota(self) -> float:
        """0 to 1: the geometric mean of detection and association, averaged over THRESHOLDS."""
        if not self.true + self.predicted:
            return float("nan")
        detection = self.matches / (self.true + self.predicted - self.matches)
        return float(np.mean(np.sqrt(detection * self._association)))

    @property
    def idf1(self) -> float:
        """0 to 1: the F1 score of instances with the right identity."""
        both = self.true + self.predicted
        return 2 * self.id_matches / both if both else float("nan")

    @property
    def _association(self) -> np.ndarray:
        return self.association / np.maximum(1, self.matches)


def frame_overlap(truth: np.ndarray, predicted: np.ndarray) -> FrameOverlap:
    """Overlap of two maps of track ids, (H, W) integers, 0 where there is no instance."""
    true_ids, true_places = np.unique(truth, return_inverse=True)
    predicted_ids, places = np.unique(predicted, return_inverse=True)
    pairs = true_places.ravel() * len(predicted_ids) + places.ravel()
    shared = np.bincount(pairs, minlength=len(true_ids) * len(predicted_ids)).reshape(len(true_ids), len(predicted_ids))
    either = shared.sum(1, keepdims=True) + shared.sum(0, keepdims=True) - shared
    iou = shared / either
    return FrameOverlap(true_ids[true_ids > 0], predicted_ids[predicted_ids > 0], iou[true_ids > 0][:, predicted_ids > 0])


def count_tracking(frames: Iterable[FrameOverlap]) -> TrackingCounts:
    """Count over the frames of one video, in order."""
    true_places: dict[int, int] = {}
    predicted_places: dict[int, int] = {}
    overlaps = [
        FrameOverlap(_places(one.true_ids, true_places), _places(one.predicted_ids, predicted_places), one.iou)
        for one in frames
    ]
    true_lengths, predicted_lengths = np.zeros((len(true_places), 1)), np.zeros((1, len(predicted_places)))
    for one in overlaps:
        true_lengths[one.true_ids, 0] += 1
        predicted_lengths[0, one.predicted_ids] += 1
    matches, association = _count_hota(overlaps, true_lengths, predicted_lengths)
    id_matches = _count_id_matches(overlaps, len(true_places), len(predicted_places))
    true, predicted = int(true_lengths.sum()), int(predicted_lengths.sum())
    return TrackingCounts(true, predicted, matches, association, id_matches, _count_switches(overlaps))


def _places(ids: np.ndarray, known: dict[int, int]) -> np.ndarray:
    """Consecutive numbers, from 0, for ids; new ids are added to `known`."""
    return np.array([known.setdefault(int(id), len(known)) for id in ids], int)


def _count_hota(
    overlaps: Sequence[FrameOverlap], true_lengths: np.ndarray, predicted_lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Matches and summed association at each threshold; in each frame, pairs whose whole tracks fit are matched first."""
    alike = np.zeros((true_lengths.shape[0], predicted_lengths.shape[1]))
    for one in overlaps:
        share = one.iou.sum(1, keepdims=True) + one.iou.sum(0, keepdims=True) - one.iou
        alike[np.ix_(one.true_ids, one.predicted_ids)] += one.iou / np.maximum(share, EPSILON)
    alignment = alike / (true_lengths + predicted_lengths - alike)
    counts = np.zeros((len(THRESHOLDS), *alike.shape))
    for one in overlaps:
        rows, columns = linear_sum_assignment(-alignment[np.ix_(one.true_ids, one.predicted_ids)] * one.iou)
        is_match = one.iou[rows, columns] >= THRESHOLDS[:, None] - EPSILON
        counts[:, one.true_ids[rows], one.predicted_ids[columns]] += is_match
    jaccard = counts / np.maximum(1, true_lengths + predicted_lengths - counts)
    return counts.sum((1, 2)), (counts * jaccard).sum((1, 2))


def _count_id_matches(overlaps: Sequence[FrameOverlap], true: int, predicted: int) -> int:
    shared = np.zeros((true, predicted), int)
    for one in overlaps:
        shared[np.ix_(one.true_ids, one.predicted_ids)] += one.iou >= MATCHED
    rows, columns = linear_sum_assignment(-shared)
    return int(shared[rows, columns].sum())


def _count_switches(overlaps: Sequence[FrameOverlap]) -> int:
    """A match of the frame before is kept where it still is one; the others are matched by IoU."""
    switches = 0
    last: dict[int, int] = {}  # the track that an instrument was last matched with
    before: dict[int, int] = {}  # the matches of the frame before
    for one in overlaps:
        if not one.iou.size:
            continue  # as TrackEval does: a frame without instances on one side does not end a match
        kept = np.array([[before.get(int(true)) == predicted for predicted in one.predicted_ids] for true in one.true_ids])
        score = np.where(one.iou >= MATCHED - EPSILON, 1000 * kept + one.iou, 0)
        rows, columns = linear_sum_assignment(-score)
        found = score[rows, columns] > 0
        pairs = zip(one.true_ids[rows[found]].tolist(), one.predicted_ids[columns[found]].tolist(), strict=True)
        before = dict(pairs)
        switches += sum(last.get(true, predicted) != predicted for true, predicted in before.items())
        last |= before
    return switches


# Classes ---------------------------------------------------------------------------------------------------------------


def classes_of_instruments(instances: np.ndarray, predicted_labels: np.ndarray) -> dict[int, int]:
    """The predicted class of each instrument in a frame: the one on most of its pixels.

    Parameters
    ----------
    instances : (H, W) track ids of the truth
    predicted_labels : (H, W) class ids

    Returns
    -------
    class id by track id; instruments that are mostly background are left out
    """
    found = {}
    for track_id in np.unique(instances[instances > 0]):
        class_id = int(np.bincount(predicted_labels[instances == track_id]).argmax())
        if class_id:
            found[int(track_id)] = class_id
    return found


def count_flips(frames: Iterable[dict[int, int]]) -> int:
    """How often the class of an instrument differs from when it was last seen; frames of one video, in order.

    Parameters
    ----------
    frames : class id by track id of the truth, as `classes_of_instruments` returns it
    """
    last: dict[int, int] = {}
    flips = 0
    for classes in frames:
        flips += sum(last.get(track_id, class_id) != class_id for track_id, class_id in classes.items())
        last |= classes
    return flips
