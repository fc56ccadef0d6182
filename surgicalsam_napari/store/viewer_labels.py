"""A project's labels as the data of a viewer's layer."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np

from surgicalsam_napari.store.indexing import as_tuple
from surgicalsam_napari.store.label_array import LabelArray
from surgicalsam_napari.store.labels import LabelStore

FRAMES_REMEMBERED = 100  # of one region: a brush spans fewer, and a region of more frames is read to be shown


class ViewerLabels(LabelArray):
    """One viewer's access to a `LabelStore`: knows which pixels of a region the viewer changed before it wrote it back.

    A viewer reads the box around a stroke, changes pixels in it and assigns the box. Another thread or process may write
    to the frame in between, a prediction say. Compared with the frame as it is by then, all that the viewer did not touch
    would look like a person's edit and undo the prediction. So every region that is read remembers the frames it was
    copied from, for as long as the viewer keeps the region: when it, or a view of it, is assigned, only the pixels that
    differ from those frames count. No matter how much time has passed, and what was read meanwhile.

    The viewer's next assignment forgets what was read before: a region that the viewer kept, and assigns after a stroke of
    its own, is set as in a numpy array. Undo and redo assign copies, index arrays or regions read for this, so they set
    what they name.

    Parameters
    ----------
    store : where the labels are; make one ViewerLabels for each layer
    """

    def __init__(self, store: LabelStore) -> None:
        super().__init__(store.shape)
        self.store = store
        self._regions_read: dict[int, tuple[weakref.ref[np.ndarray], Mapping[int, np.ndarray]]] = {}

    def __repr__(self) -> str:
        return f"ViewerLabels({self.store!r})"

    def frame(self, frame_index: int) -> np.ndarray:
        return self.store.frame(frame_index)

    def __getitem__(self, key: Any) -> Any:
        """As for a numpy array, but always a fresh copy, which remembers the frames it came from."""
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
        """A person's edit, see `LabelStore.edit`."""
        as_read = self._frames_of(values)
        self._regions_read.clear()
        self.store.edit(key, values, as_read=as_read)

    def _remember(self, region: np.ndarray, frames: Mapping[int, np.ndarray]) -> None:
        key, regions_read = id(region), self._regions_read
        regions_read[key] = weakref.ref(region, lambda _: regions_read.pop(key, None)), frames

    def _frames_of(self, values: Any) -> Mapping[int, np.ndarray]:
        """By index, the frames that a region, or the array it is a view of, was copied from; {} for other arrays."""
        if not isinstance(values, np.ndarray):
            return {}
        region = values if values.base is None else values.base
        reference, frames = self._regions_read.get(id(region), (None, {}))
        return frames if reference is not None and reference() is region else {}
