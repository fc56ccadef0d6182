"""An overview of the labels of a whole video: tables of frames and classes, grouped into bins of neighbouring frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from surgicalsam_napari.store.provenance import Provenance

QUALITY_LEVELS = 16
LOWEST_QUALITY = 0.5  # predicted IoU; lower values share the lowest level
UNKNOWN_LEVEL = QUALITY_LEVELS // 2
NOT_PREDICTED = 255
VOTED = len(Provenance)  # the bit of `Overview.binned` after those of the provenances


@dataclass(frozen=True)
class Tally:
    """The labels of one class in the frames of one bin.

    Attributes
    ----------
    counts : number of frames by provenance, without zeros
    lowest_iou : lowest predicted IoU of the predicted frames; NaN if there is none or it is unknown
    lowest_frame : the frame with `lowest_iou`; None if that is NaN
    voted : number of frames in which the vote over time changed the prediction
    """

    counts: dict[Provenance, int]
    lowest_iou: float
    lowest_frame: int | None
    voted: int = 0


class Overview:
    """Provenance and predicted quality of all labels, in a form that is fast to bin.

    A bin of several frames keeps the set of its provenances, so that one edited frame among thousands stays visible, and the
    worst quality of its predicted frames.

    Parameters
    ----------
    provenance : (T, C) uint8, of `Provenance`
    predicted_iou : (T, C) float32, NaN where unknown
    voted : (T, C), not 0 where the vote over time changed the prediction; None if it never did
    """

    def __init__(self, provenance: np.ndarray, predicted_iou: np.ndarray, voted: np.ndarray | None = None) -> None:
        self.provenance = np.array(provenance, dtype=np.uint8)
        self.predicted_iou = np.array(predicted_iou, dtype=np.float32)
        if self.provenance.ndim != 2 or self.provenance.shape != self.predicted_iou.shape:
            raise ValueError(
                "provenance and predicted_iou must both be (frames, classes); "
                f"got {self.provenance.shape} and {self.predicted_iou.shape}"
            )
        # one row per class, because bins are runs of frames
        self.voted = np.zeros(self.provenance.shape, bool) if voted is None else np.array(voted, dtype=bool)
        self._kinds = np.ascontiguousarray(_kinds(self.provenance, self.voted).T)
        self._levels = np.ascontiguousarray(_levels(self.provenance, self.predicted_iou).T)

    @property
    def frame_count(self) -> int:
        return self.provenance.shape[0]

    @property
    def class_count(self) -> int:
        return self.provenance.shape[1]

    def update(
        self,
        frame_indices: Sequence[int] | np.ndarray,
        provenance: np.ndarray,
        predicted_iou: np.ndarray,
        voted: np.ndarray | None = None,
    ) -> None:
        """Replace the rows of some frames.

        Parameters
        ----------
        frame_indices : N frames
        provenance : (N, C) uint8
        predicted_iou : (N, C) float32
        voted : (N, C); None for 0
        """
        frames = np.asarray(frame_indices, dtype=np.intp)
        self.provenance[frames] = provenance
        self.predicted_iou[frames] = predicted_iou
        self.voted[frames] = False if voted is None else voted
        self._kinds[:, frames] = _kinds(self.provenance[frames], self.voted[frames]).T
        self._levels[:, frames] = _levels(self.provenance[frames], self.predicted_iou[frames]).T

    def binned(self, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The provenances and the worst predicted quality of each bin.

        Parameters
        ----------
        edges : (N + 1,) ascending frame indices; bin i holds the frames from edges[i] up to, not including, edges[i + 1]

        Returns
        -------
        kinds : (C, N) uint8, bit p is set if provenance p occurs, and bit `VOTED` if the vote over time changed a frame
        levels : (C, N) uint8, 0 for a predicted IoU of 0.5 or less to 15 for 1; NOT_PREDICTED if no frame is predicted
        """
        first, stop = int(edges[0]), int(edges[-1])
        kinds, levels = self._kinds[:, first:stop], self._levels[:, first:stop]
        if stop - first == len(edges) - 1:  # a bin per frame
            return kinds, levels
        starts = edges[:-1] - first
        return np.bitwise_or.reduceat(kinds, starts, axis=1), np.minimum.reduceat(levels, starts, axis=1)

    def tally(self, class_index: int, frames: range) -> Tally:
        """Counts and lowest quality of these frames, for the class in this column of the tables."""
        provenance = self.provenance[frames.start : frames.stop, class_index]
        values, counts = np.unique(provenance, return_counts=True)
        by_provenance = {Provenance(int(value)): int(count) for value, count in zip(values, counts, strict=True)}
        quality = np.where(
            provenance == Provenance.PREDICTED, self.predicted_iou[frames.start : frames.stop, class_index], np.nan
        )
        voted = int(np.count_nonzero(_voted(provenance, self.voted[frames.start : frames.stop, class_index])))
        if np.isnan(quality).all():
            return Tally(by_provenance, np.nan, None, voted)
        lowest = int(np.nanargmin(quality))
        return Tally(by_provenance, float(quality[lowest]), frames.start + lowest, voted)

    def frame_to_look_at(self, class_index: int, frames: range) -> int:
        """The frame that gives a bin its look: the worst predicted, else the first edited, verified or absent."""
        tally = self.tally(class_index, frames)
        if tally.lowest_frame is not None:
            return tally.lowest_frame
        provenance = self.provenance[frames.start : frames.stop, class_index]
        for wanted in (Provenance.PREDICTED, Provenance.EDITED, Provenance.VERIFIED, Provenance.ABSENT):
            if wanted in tally.counts:
                return frames.start + int(np.argmax(provenance == wanted))
        return frames.start


def binned_marks(marks: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The highest mark in each bin.

    Parameters
    ----------
    marks : (T,) float, NaN for none
    edges : (N + 1,) ascending frame indices

    Returns
    -------
    (N,) float, NaN for none
    """
    first, stop = int(edges[0]), int(edges[-1])
    return np.fmax.reduceat(marks[first:stop], edges[:-1] - first)


def quality_level(predicted_iou: np.ndarray) -> np.ndarray:
    """0 for a predicted IoU of 0.5 or less, in even steps up to 15 for 1; the middle level for NaN."""
    share = (np.nan_to_num(predicted_iou, nan=LOWEST_QUALITY) - LOWEST_QUALITY) / (1 - LOWEST_QUALITY)
    levels = np.clip(share * QUALITY_LEVELS, 0, QUALITY_LEVELS - 1).astype(np.uint8)
    return np.where(np.isnan(predicted_iou), np.uint8(UNKNOWN_LEVEL), levels)


def _kinds(provenance: np.ndarray, voted: np.ndarray) -> np.ndarray:
    return np.left_shift(np.uint8(1), provenance) | (_voted(provenance, voted).astype(np.uint8) << np.uint8(VOTED))


def _voted(provenance: np.ndarray, voted: np.ndarray) -> np.ndarray:
    """Where a prediction is what the vote made of it; what a person edits later is the person's."""
    return voted & ((provenance == Provenance.PREDICTED) | (provenance == Provenance.ABSENT))


def _levels(provenance: np.ndarray, predicted_iou: np.ndarray) -> np.ndarray:
    return np.where(provenance == Provenance.PREDICTED, quality_level(predicted_iou), np.uint8(NOT_PREDICTED))
