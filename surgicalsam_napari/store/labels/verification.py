"""Verifying classes in a frame, and unlocking them again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from surgicalsam_napari.store.disk.action import Action
from surgicalsam_napari.store.labels.tables import LabelTables
from surgicalsam_napari.store.provenance import Provenance, predicted_provenance


class LabelVerification(LabelTables):
    """A person confirms classes, which nothing changes until they are unlocked. The table `before_verified` keeps what they
    were before, so that unlocking marks nothing as edited that nobody edited.
    """

    def verify(self, frame_index: int, class_ids: Sequence[int] | None = None, *, action: Action | None = None) -> None:
        """Confirm classes in a frame, or their absence; by default all. They stay so until `unlock` or `reset_frame`."""
        self.check_frame(frame_index)
        columns = [self._column(class_id) for class_id in (self._classes.ids if class_ids is None else class_ids)]
        with self._files.exclusively("The verification"):
            provenance, before = (self._tables[name].row(frame_index) for name in ("provenance", "before_verified"))
            is_new = np.isin(np.arange(len(provenance)), columns) & (provenance != Provenance.VERIFIED)
            before[is_new] = provenance[is_new]
            provenance[is_new] = Provenance.VERIFIED
            self._files.commit(frame_index, {"provenance": provenance, "before_verified": before}, action=action)

    def unlock(self, frame_index: int, class_ids: Sequence[int] | None = None, *, action: Action | None = None) -> None:
        """Unlock verified classes: each one is again what it was before, EDITED or the result of the last prediction."""
        self.check_frame(frame_index)
        columns = [self._column(class_id) for class_id in (self._classes.ids if class_ids is None else class_ids)]
        with self._files.exclusively("The unlocking"):
            rows = self._files.rows(frame_index)
            provenance, before = rows["provenance"], rows["before_verified"]
            locked = np.isin(np.arange(len(provenance)), columns) & (provenance == Provenance.VERIFIED)
            if not locked.any():
                return
            provenance[locked] = np.where(before != Provenance.EMPTY, before, self._unrecorded(frame_index, rows))[locked]
            before[locked] = Provenance.EMPTY
            self._files.commit(frame_index, {"provenance": provenance, "before_verified": before}, action=action)

    def _unrecorded(self, frame_index: int, rows: dict[str, np.ndarray]) -> np.ndarray:
        """(C,) uint8: what classes were before they were verified by a version that did not record it."""
        labels, painted = self._files.labels(frame_index), self._files.painted(frame_index)
        provenance = predicted_provenance(labels, rows["presence"], self._columns)
        if painted is not None:
            by_person = np.bincount(labels[painted], minlength=256)[list(self._columns)] > 0
            provenance[by_person] = Provenance.EDITED
        return provenance
