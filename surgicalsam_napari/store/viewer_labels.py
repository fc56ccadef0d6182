"""A project's labels as the data of a viewer's Labels layer."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np

from surgicalsam_napari.store.indexing import as_tuple
from surgicalsam_napari.store.label_array import LabelArray
from surgicalsam_napari.store.labels import LabelStore
from surgicalsam_napari.store.recent_edits import RecentEdits

FRAMES_REMEMBERED = 100  # per region; a brush covers fewer frames, and a viewer only displays longer regions


class ViewerLabels(LabelArray):
    """The labels of a `LabelStore` for one viewer: writes only the pixels that the viewer has changed.

    A viewer reads the box around a brush stroke, changes some pixels and assigns the box. In between, another thread or
    process may write to the frame, for example a prediction. The box still holds the old labels of the pixels that the
    viewer did not change. If it were compared with the new frame, these pixels would look like an edit by a person, and
    they would overwrite the prediction.

    Therefore `__getitem__` remembers, for each region that it returns, the frames that it copied from. When the viewer
    assigns this region or a view of it, only the pixels that differ from those frames are set. The frames are forgotten when
    the viewer drops the region, or after its next assignment. Then an old region is set as in a numpy array, like all other
    arrays, for example the copies and index arrays of undo and redo.

    An assignment that takes back the last edit, as the viewer's undo does, restores the frame as it was before it: also its
    painted record and provenance. So a stroke that was undone leaves no trace.

    Parameters
    ----------
    store : holds the labels; make one ViewerLabels per layer
    """

    def __init__(self, store: LabelStore) -> None:
        super().__init__(store.shape)
        self.store = store
        self._recent = RecentEdits()
        self._regions_read: dict[int, tuple[weakref.ref[np.ndarray], Mapping[int, np.ndarray]]] = {}

    def __repr__(self) -> str:
        return f"ViewerLabels({self.store!r})"

    def frame(self, frame_index: int) -> np.ndarray:
        return self.store.frame(frame_index)

    def __getitem__(self, key: Any) -> Any:
        """Index as in numpy; the result is always a copy, and its source frames are remembered."""
        frames: dict[int, np.ndarray] = {}

        def remembered_frame(frame_index: int) -> np.ndarray:
            frame = self.store.frame(frame_index)
            if len(frames) < FRAMES_REMEMBERED:
                frames[frame_index] = frame
            return frame

        region = self._read(as_tuple(key), remembered_frame)
        if isinstance(region, np.ndarray):
            self._remember(region, frames)
        return region

    def __setitem__(self, key: Any, values: Any) -> None:
        """An edit by a person; see `LabelStore.edit`."""
        as_read = self._frames_of(values)
        self._regions_read.clear()
        self.store.edit(key, values, as_read=as_read, recent=self._recent)

    def _remember(self, region: np.ndarray, frames: Mapping[int, np.ndarray]) -> None:
        # the entry is removed when the region is freed, so its id never stands for another array
        key, regions_read = id(region), self._regions_read
        regions_read[key] = weakref.ref(region, lambda _: regions_read.pop(key, None)), frames

    def _frames_of(self, values: Any) -> Mapping[int, np.ndarray]:
        """By frame index, the source frames of a region that was read, or of a view of it; {} for other arrays."""
        if not isinstance(values, np.ndarray):
            return {}
        region = values if values.base is None else values.base
        reference, frames = self._regions_read.get(id(region), (None, {}))
        return frames if reference is not None and reference() is region else {}
