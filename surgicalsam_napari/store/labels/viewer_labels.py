"""A project's labels as the data of a viewer's Labels layer."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np

from surgicalsam_napari.errors import DiskSpaceError, ProjectError, UnreachableError
from surgicalsam_napari.store.labels.indexing import FrameEdit, as_tuple
from surgicalsam_napari.store.labels.label_array import LabelArray
from surgicalsam_napari.store.labels.label_store import LabelStore
from surgicalsam_napari.store.labels.recent_edits import RecentEdits
from surgicalsam_napari.store.labels.unsaved import UnsavedEdit

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
        """(H, W) uint8: with edits that are not saved yet; while the project is away, as it was read last.

        A window shows a damaged frame as empty, with a message. Edits of it are refused, so it stays as it is on disk.
        """
        unsaved = self.store.unsaved
        try:
            frame = self.store.frame(frame_index)
        except UnreachableError as error:
            if not unsaved.is_watched:
                raise
            unsaved.note(str(error))
            frame = self.store.last_known(frame_index)
        except ProjectError as error:  # a viewer cannot show an error in place of a frame: a window says it
            if not unsaved.is_watched:
                raise
            self.store.unreadable.emit(str(error))
            return np.zeros(self.shape[1:], np.uint8)
        return unsaved.over(frame_index, frame)

    def __getitem__(self, key: Any) -> Any:
        """Index as in numpy; the result is always a copy, and its source frames are remembered."""
        frames: dict[int, np.ndarray] = {}

        def remembered_frame(frame_index: int) -> np.ndarray:
            frame = self.frame(frame_index)
            if len(frames) < FRAMES_REMEMBERED:
                frames[frame_index] = frame
            return frame

        region = self._read(as_tuple(key), remembered_frame)
        if isinstance(region, np.ndarray):
            self._remember(region, frames)
        return region

    def __setitem__(self, key: Any, values: Any) -> None:
        """An edit by a person; see `LabelStore.edit`. If it cannot be written now, it is kept in `LabelStore.unsaved`."""
        as_read = self._frames_of(values)
        self._regions_read.clear()
        unsaved = self.store.unsaved
        if not len(unsaved):  # else it comes after those
            try:
                self.store.edit(key, values, as_read=as_read, recent=self._recent)
                return
            except (UnreachableError, DiskSpaceError) as error:
                if not unsaved.is_watched:
                    raise
                unsaved.note(str(error))
        for edit in self.store.frame_edits(key, values):
            self._keep(edit, as_read)

    def _keep(self, edit: FrameEdit, as_read: Mapping[int, np.ndarray]) -> None:
        index = edit.frame_index
        if edit.whole_region:
            chosen = np.ones(edit.values.shape, bool)
        else:
            chosen = edit.values != (as_read[index] if index in as_read else self.frame(index))[edit.region]
        size = self.shape[1:]
        rows, columns = (np.broadcast_to(axis, size)[edit.region][chosen] for axis in np.ogrid[: size[0], : size[1]])
        if len(rows):
            self.store.unsaved.keep(UnsavedEdit(index, rows, columns, edit.values[chosen], self._recent), size)

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
