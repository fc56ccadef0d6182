"""The content area that a project uses: that of its video, unless the labels of a person lie outside it."""

from __future__ import annotations

import numpy as np

from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.store.labels.label_store import LabelStore
from surgicalsam_napari.store.provenance import is_corrected
from surgicalsam_napari.video import ContentArea

PAINTED_OVER = 0.02  # share of the instrument pixels in a frame: strokes of the brush run over the edge of the picture


class CheckedContentArea:
    """Compares the content area with the work of a person; each corrected frame is read once, until it changes."""

    def __init__(self, labels: LabelStore) -> None:
        self._labels = labels
        self._contradicts: dict[int, bool] = {}  # by frame index
        labels.changed.connect(self._forget)

    def contradicted(self, area: ContentArea) -> bool:
        """Whether a person labelled instruments outside the area, by more than strokes that run over: it is wrong then."""
        if area.is_whole:
            return False
        corrected = np.flatnonzero(is_corrected(self._labels.provenance_table())).tolist()
        return any(self._frame_contradicts(frame_index, area.mask) for frame_index in corrected)

    def _frame_contradicts(self, frame_index: int, mask: np.ndarray) -> bool:
        if frame_index not in self._contradicts:
            try:
                instruments = self._instruments_by_person(frame_index)
            except ProjectError:  # damaged: it is reported where the frame is used
                return False
            outside = np.count_nonzero(instruments & ~mask)
            self._contradicts[frame_index] = bool(outside > PAINTED_OVER * np.count_nonzero(instruments))
        return self._contradicts[frame_index]

    def _instruments_by_person(self, frame_index: int) -> np.ndarray:
        """(H, W) bool: the pixels of instruments that a person painted or verified."""
        label_map = self._labels.frame(frame_index)
        verified = np.isin(label_map, self._labels.locked_class_ids(frame_index))
        return (label_map > 0) & (verified | self._labels.painted(frame_index))

    def _forget(self, frame_index: int) -> None:
        self._contradicts.pop(frame_index, None)
