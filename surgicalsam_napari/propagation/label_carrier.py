"""Carry the labels of a corrected frame from frame to frame, by flow and by appearance together.

A label is carried as its signed distance: positive inside, in pixels. Distances can be averaged without losing thin parts
and moved without blurring the outline. Each witness (flow, appearance, a model) is weighed pixel by pixel by how well the
picture that it predicts agrees with the frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.propagation.appearance_memory import AppearanceMemory
from surgicalsam_napari.propagation.flow import FlowTracker, reduced
from surgicalsam_napari.store.label_maps import looked_up

FARTHEST = 16.0  # pixels of the working size; larger distances count as this
NOISE = 2.0  # grey levels: a residual that equal pictures have, too


@dataclass(frozen=True)
class CarriedFields:
    """What witnesses say about a frame, at the working size (h, w).

    Attributes
    ----------
    distances : (C, h, w) float32, the signed distance of the background and of each class, in pixels
    weight : (h, w) float32, the higher the more reliable; only comparable between witnesses of the same frame
    fit : (h, w) float32, 0 to 1: how well the predicted picture agrees with the frame
    """

    distances: np.ndarray
    weight: np.ndarray
    fit: np.ndarray


@dataclass(frozen=True)
class Appearance:
    """Embeddings of the video's frames.

    Attributes
    ----------
    embedding_of : the embedding of a frame by its index, (D, h', w')
    input_size : side of the encoder's square in pixels
    """

    embedding_of: Callable[[int], np.ndarray]
    input_size: int


class LabelCarrier:
    """Carries the labels of a corrected frame, the anchor, from frame to frame, in either direction.

    Parameters
    ----------
    anchor : (H, W, 3) uint8, RGB
    label_map : (H, W) uint8
    labels : the values to carry; first 0, the background
    appearance : the embeddings; None for flow alone
    anchor_index : the anchor's frame index
    """

    def __init__(
        self,
        anchor: np.ndarray,
        label_map: np.ndarray,
        labels: Sequence[int],
        appearance: Appearance | None = None,
        anchor_index: int = 0,
    ) -> None:
        self._tracker = FlowTracker(anchor)
        self._distances = signed_distances(label_map, labels, self._tracker.size)
        self._contrast = max(float(self._tracker.anchor.std()), NOISE)
        self._appearance = appearance
        self._age = 0
        if appearance is not None:
            masks = [(label_map == label).astype(np.float32) for label in labels]
            self._memory = AppearanceMemory(
                appearance.embedding_of(anchor_index),
                self._tracker.anchor,
                np.stack([reduced(mask, self._tracker.size) for mask in masks]),
                FrameGeometry(label_map.shape, appearance.input_size),
            )

    def carry(self, frame: np.ndarray, frame_index: int = 0) -> CarriedFields:
        """The labels in the next frame, (H, W, 3) uint8 RGB."""
        self._age += 1
        found = self._tracker.advance(frame)
        flow = np.stack([found.carried(distance) for distance in self._distances])
        witnesses = [self._witness(flow, found.residual)]
        if self._appearance is not None:
            reading = self._memory.read(self._appearance.embedding_of(frame_index), self._tracker.picture)
            witnesses.append(self._witness(distances_of(reading.shares), reading.residual))
        return combined(witnesses)

    def _witness(self, distances: np.ndarray, residual: np.ndarray) -> CarriedFields:
        weight = 1 / (np.square(residual + NOISE) * self._age)
        return CarriedFields(distances, weight, 1 / (1 + np.square(residual / self._contrast)))


def combined(witnesses: Sequence[CarriedFields]) -> CarriedFields:
    """Witnesses of one frame as one, each with its weight."""
    if len(witnesses) == 1:
        return witnesses[0]
    weights = np.stack([witness.weight for witness in witnesses])
    total = weights.sum(axis=0)
    shares = weights / total
    distances = np.stack([witness.distances * share for witness, share in zip(witnesses, shares, strict=True)]).sum(axis=0)
    fit = np.stack([witness.fit * share for witness, share in zip(witnesses, shares, strict=True)]).sum(axis=0)
    return CarriedFields(distances, total, fit)


def probabilities(fields: CarriedFields) -> np.ndarray:
    """(C, h, w): how probable each label is; uncertain on outlines, where witnesses contradict, and without a fit."""
    odds = np.exp(np.clip(fields.distances, -8, 8))
    return odds / odds.sum(axis=0) * fields.fit


def expected_iou(probability: np.ndarray, mask: np.ndarray) -> float:
    """The IoU to expect of a mask, (h, w) bool, whose pixels are right with this probability, (h, w)."""
    union = np.count_nonzero(mask) + probability[~mask].sum()
    return float(probability[mask].sum() / union) if union > 0 else 1.0


def label_map_of(fields: CarriedFields, labels: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """The label map, (H, W) uint8, at the size of the frame."""
    fullsize = np.stack([enlarged(distance, size) for distance in fields.distances])
    return looked_up(_padded(labels), most_probable(fullsize))


def _padded(labels: Sequence[int]) -> np.ndarray:
    return np.array([*labels, *[0] * (256 - len(labels))], np.uint8)


def most_probable(fields: np.ndarray) -> np.ndarray:
    """(h, w) uint8: `fields.argmax(axis=0)` of (C, h, w), ten times as fast."""
    best, highest = np.zeros(fields.shape[1:], np.uint8), fields[0].copy()
    for index, field in enumerate(fields[1:], start=1):
        best[field > highest] = index
        np.maximum(highest, field, out=highest)
    return best


def signed_distances(label_map: np.ndarray, labels: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """(C, h, w) float32: for each label its signed distance in pixels of the working size, at most `FARTHEST`.

    Parameters
    ----------
    label_map : (H, W) uint8
    size : (h, w), the working size
    """
    share = np.float32(size[0] / label_map.shape[0])
    return np.stack([reduced(_signed_distance(label_map == label) * share, size) for label in labels])


def distances_of(shares: np.ndarray) -> np.ndarray:
    """(C, h, w) float32: the signed distances of the most probable labels."""
    best = most_probable(shares)
    return np.stack([_signed_distance(best == index) for index in range(len(shares))])


def _signed_distance(mask: np.ndarray) -> np.ndarray:
    """(H, W) float32, in pixels: 0.5 in the outermost pixels of the mask, -0.5 in the pixels around it."""
    if not mask.any() or mask.all():
        return np.full(mask.shape, FARTHEST if mask.any() else -FARTHEST, np.float32)
    inside, outside = (cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5) for part in (mask, ~mask))
    return np.where(mask, inside - 0.5, 0.5 - outside).clip(-FARTHEST, FARTHEST).astype(np.float32)


def enlarged(field: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A field of the working size, (h, w), at the size of the frame."""
    return field if field.shape == size else cv2.resize(field, size[::-1], interpolation=cv2.INTER_LINEAR)
