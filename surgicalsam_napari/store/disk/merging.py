"""Merging new labels (an edit, a prediction, an import) into a frame, whose numbers of instances follow. No disk access."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import label

from surgicalsam_napari.store.label_maps import looked_up, present_ids
from surgicalsam_napari.store.provenance import Provenance

if TYPE_CHECKING:
    from surgicalsam_napari.model.surgical_sam import FramePrediction


@dataclass(frozen=True)
class FrameBefore:
    """A frame before new labels are merged into it.

    Attributes
    ----------
    labels : (H, W) uint8
    painted : (H, W) bool, the pixels that a person set; None if nobody painted
    provenance : by class id
    """

    labels: np.ndarray
    painted: np.ndarray | None
    provenance: Mapping[int, Provenance]


@dataclass(frozen=True)
class MergedEdit:
    """A frame after an edit by a person.

    Attributes
    ----------
    labels : (H, W) uint8
    painted : (H, W) bool
    free : shaped like the region, bool; the pixels that were set: the chosen ones without those of VERIFIED classes
    edited_class_ids : the classes that gained or lost a pixel, or had one confirmed
    changed_pixels : number of pixels with a new label
    is_refused : whether some pixels stayed because of VERIFIED classes
    is_outside : whether some pixels stayed because a part may not be there, outside its instrument
    """

    labels: np.ndarray
    painted: np.ndarray
    free: np.ndarray
    edited_class_ids: list[int]
    changed_pixels: int
    is_refused: bool
    is_outside: bool = False


def merged_edit(before: FrameBefore, region: tuple, values: np.ndarray, chosen: np.ndarray) -> MergedEdit:
    """Set a person's labels in the chosen pixels of a region; pixels of VERIFIED classes stay.

    Parameters
    ----------
    region : key into the (H, W) frame
    values : shaped like `frame[region]`, uint8
    chosen : shaped like `values`, bool
    """
    old_values = before.labels[region]
    free = chosen & ~_is_locked(before.provenance, old_values, values)
    differs = old_values != values
    labels = before.labels.copy()
    labels[region] = np.where(free, values, old_values)
    painted = np.zeros(labels.shape, bool) if before.painted is None else before.painted.copy()
    painted[region] |= free
    return MergedEdit(
        labels,
        painted,
        free,
        edited_class_ids=[label for label in np.union1d(old_values[free], values[free]).tolist() if label],
        changed_pixels=int(np.count_nonzero(free & differs)),
        is_refused=bool(np.any(chosen & ~free & differs)),
    )


def _is_locked(provenance: Mapping[int, Provenance], old_values: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Shaped like `values`, bool: pixels whose old or new label is a VERIFIED class."""
    verified = [class_id for class_id, stored in provenance.items() if stored == Provenance.VERIFIED]
    if len(verified) in (0, len(provenance)):  # if all classes are verified, the background is, too
        return np.full(values.shape, bool(verified))
    is_verified = np.zeros(256, bool)
    is_verified[verified] = True
    return is_verified[old_values] | is_verified[values]


def merged_prediction(
    before: FrameBefore, prediction: FramePrediction, free: Sequence[int], predicted_iou: Mapping[int, float]
) -> np.ndarray:
    """(H, W) uint8: the frame after merging the prediction of the classes at the positions `free`.

    Parameters
    ----------
    predicted_iou : the IoU predicted before, by class id; nan without a prediction
    """
    written_label = np.zeros(256, np.uint8)  # by label of the prediction; 0 where it may not write
    kept_label = np.arange(256, dtype=np.uint8)  # by present label; 0 where a new prediction replaces it
    score = dict(predicted_iou)
    for k in free:
        class_id = prediction.class_ids[k]
        written_label[class_id] = class_id if prediction.present[k] else 0
        if before.provenance[class_id] in (Provenance.PREDICTED, Provenance.EDITED):
            kept_label[class_id] = 0
        score[class_id] = np.nan_to_num(float(prediction.predicted_iou[k]), nan=-np.inf)
    candidate = looked_up(written_label, prediction.label_map)
    if before.painted is None and not before.labels.any():
        return candidate
    labels = looked_up(kept_label, before.labels)
    if before.painted is not None:
        candidate[before.painted] = 0
        np.copyto(labels, before.labels, where=before.painted)
    rank = _ranks(score, before.provenance, {prediction.class_ids[k] for k in free})
    np.copyto(labels, candidate, where=looked_up(rank, candidate) > looked_up(rank, labels))
    return labels


def _ranks(score: Mapping[int, float], provenance: Mapping[int, Provenance], prompted: set[int]) -> np.ndarray:
    """(256,) uint8 by class id: the higher rank wins the pixel. Background is lowest; labels that must stay are highest."""
    rank = np.full(256, 255, np.uint8)
    rank[0] = 0
    for position, class_id in enumerate(sorted(score, key=lambda class_id: (score[class_id], class_id))):
        stored = provenance[class_id]
        predicted = stored in (Provenance.PREDICTED, Provenance.EDITED) and not np.isnan(score[class_id])
        if predicted or class_id in prompted:
            rank[class_id] = min(1 + position, 254)
    return rank


def within(prediction: FramePrediction, mask: np.ndarray) -> FramePrediction:
    """The prediction with background outside the mask, (H, W) bool; a class that had all its pixels there is absent, with
    presence 0.
    """
    label_map = np.where(mask, prediction.label_map, 0).astype(np.uint8)
    gone_ids = set(present_ids(prediction.label_map)) - set(present_ids(label_map))
    gone = np.array([class_id in gone_ids for class_id in prediction.class_ids])
    return replace(
        prediction,
        label_map=label_map,
        present=prediction.present & ~gone,
        presence=np.where(gone, 0, prediction.presence).astype(np.float32),
        contested=np.where(gone, 0, prediction.contested).astype(np.float32),
    )


@dataclass(frozen=True)
class MergedImport:
    """A frame after an import.

    Attributes
    ----------
    labels : (H, W) uint8
    painted : (H, W) bool
    kept_pixels : number of pixels in which the person's label was kept although the dataset differs
    """

    labels: np.ndarray
    painted: np.ndarray
    kept_pixels: int

    def only(self, chosen: np.ndarray, before: FrameBefore) -> MergedImport:
        """The same in the chosen pixels, (H, W) bool; the others stay as they were."""
        painted = np.zeros(chosen.shape, bool) if before.painted is None else before.painted
        labels = np.where(chosen, self.labels, before.labels)
        return MergedImport(labels, np.where(chosen, self.painted, painted), self.kept_pixels)


def merged_import(before: FrameBefore, label_map: np.ndarray, class_ids: Sequence[int]) -> MergedImport:
    """Merge a dataset's labels into the frame; what a person painted or verified before stays.

    The whole frame is marked as painted, with one exception: classes that the dataset does not annotate. Where the dataset
    has background, their predicted pixels stay, and stay predictions. If all annotated classes are verified, nothing
    changes.

    Parameters
    ----------
    label_map : (H, W) uint8, with the classes `class_ids`
    class_ids : the classes that the dataset annotates
    """
    if all(before.provenance.get(class_id) == Provenance.VERIFIED for class_id in class_ids):
        painted = np.zeros(before.labels.shape, bool) if before.painted is None else before.painted
        return MergedImport(before.labels, painted, int(np.count_nonzero(label_map != before.labels)))
    verified = np.zeros(256, np.uint8)
    not_annotated = np.zeros(256, np.uint8)
    for class_id, provenance in before.provenance.items():
        verified[class_id] = provenance == Provenance.VERIFIED
        not_annotated[class_id] = class_id not in class_ids and provenance != Provenance.VERIFIED
    differs = label_map != before.labels
    stays = (looked_up(verified, before.labels) | looked_up(verified, label_map)).view(bool)
    stays_predicted = looked_up(not_annotated, before.labels).view(bool) & (label_map == 0)
    if before.painted is not None:
        stays |= before.painted
        stays_predicted &= ~before.painted
    return MergedImport(
        labels=np.where(stays | stays_predicted, before.labels, label_map),
        painted=~stays_predicted,
        kept_pixels=int(np.count_nonzero(stays & differs)),
    )


# ---- the numbers of instances

EIGHT_NEIGHBOURS = np.ones((3, 3), bool)
STEPS = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if row or column]  # to the eight neighbours


def followed_numbers(
    before: np.ndarray, after: np.ndarray, numbers: np.ndarray, within: tuple[slice, slice] = (slice(None), slice(None))
) -> np.ndarray:
    """(H, W) uint8: the numbers of a frame's instances after its labels have changed.

    A pixel with the same label keeps its number. One that became background has none. Pixels that got a class take, region
    by region, the number of the instance of this class that they touch most (eight neighbours). A region that touches none
    has 0 until it is linked. So a region that gets another class leaves its instance.

    Parameters
    ----------
    before, after : (H, W) uint8, labels
    numbers : (H, W) uint8, the numbers before
    within : rows and columns, step 1, outside of which no label has changed
    """
    window = _changed_window(before, after, within)
    if window is None:
        return numbers
    changed = before[window] != after[window]
    inside = np.where(changed, np.uint8(0), numbers[window])
    added = np.where(changed, after[window], np.uint8(0))
    for class_id in present_ids(added):
        known = np.where(after[window] == class_id, inside, 0)
        if known.any():
            regions, count = label(added == class_id, EIGHT_NEIGHBOURS)
            taken = _most_touched(regions, count, known)
            inside[regions > 0] = taken[regions[regions > 0]]
    if np.array_equal(inside, numbers[window]):
        return numbers
    followed = numbers.copy()
    followed[window] = inside
    return followed


def _most_touched(regions: np.ndarray, count: int, numbers: np.ndarray) -> np.ndarray:
    """(count + 1,) uint8: for each region, 1 to `count`, the number that it touches most; 0 if it touches none."""
    rows, columns = np.nonzero(regions)
    values = regions[rows, columns].astype(np.int64) * 256
    around = np.pad(numbers, 1)
    touched = np.zeros((count + 1) * 256, np.int64)
    for row, column in STEPS:
        touched += np.bincount(values + around[rows + 1 + row, columns + 1 + column], minlength=len(touched))
    by_region = touched.reshape(-1, 256)
    by_region[:, 0] = 0
    return by_region.argmax(axis=1).astype(np.uint8)


def _changed_window(before: np.ndarray, after: np.ndarray, within: tuple[slice, slice]) -> tuple[slice, slice] | None:
    """The rows and columns with changed pixels, and their neighbours; None without any."""
    changed = before[within] != after[within]
    rows = np.flatnonzero(changed.any(axis=1))
    if not len(rows):
        return None
    columns = np.flatnonzero(changed[rows[0] : rows[-1] + 1].any(axis=0))
    top, left = (within[axis].start or 0 for axis in (0, 1))
    return _around(top + rows[0], top + rows[-1]), _around(left + columns[0], left + columns[-1])


def _around(first: int, last: int) -> slice:
    return slice(max(int(first) - 1, 0), int(last) + 2)


def same_regions(numbers: np.ndarray, new_numbers: np.ndarray) -> dict[int, int]:
    """By new number, the number before of the region that has most of its pixels; left out if most of them had none.

    Parameters
    ----------
    numbers, new_numbers : (H, W) uint8, of one frame before and after it was linked again
    """
    pairs = np.bincount(new_numbers.ravel() * np.int64(256) + numbers.ravel(), minlength=256 * 256).reshape(256, 256)
    most = pairs.argmax(axis=1)
    return {new: int(most[new]) for new in present_ids(new_numbers) if most[new]}
