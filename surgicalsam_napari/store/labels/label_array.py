"""Labels on disk, as an array that is read like a numpy array."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.formatting import in_bytes
from surgicalsam_napari.store.labels.indexing import as_tuple, coordinates, expanded, is_basic, shape_of

LARGEST_WHOLE_ARRAY = 2**31  # bytes; np.asarray(labels) refuses more


class LabelArray(ABC):
    """Labels of shape (T, H, W), uint8 class ids, 0 for background. Indexing reads only the frames that the key selects.

    A subclass defines where a frame comes from (`frame`) and what an assignment does (`__setitem__`).

    Parameters
    ----------
    shape : (T, H, W)
    """

    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape

    @abstractmethod
    def frame(self, frame_index: int) -> np.ndarray:
        """(H, W) uint8, read-only."""

    @abstractmethod
    def __setitem__(self, key: Any, values: Any) -> None: ...

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1] * self.shape[2]

    @property
    def nbytes(self) -> int:
        return self.size

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("Labels on disk cannot become an array without a copy. Leave out copy=False.")
        if self.nbytes > LARGEST_WHOLE_ARRAY:
            raise ProjectError(
                f"All {len(self)} frames of labels would take {in_bytes(self.nbytes)} of memory. "
                "Read some of them, as in labels[0:100]. To save them, choose a SurgicalSAM format in napari's Save dialog, "
                "such as a multi-page TIFF: it is written frame by frame."
            )
        return self[:].astype(dtype or self.dtype, copy=False)

    def __getitem__(self, key: Any) -> Any:
        """Index as in numpy; the result is always a copy."""
        return self._read(as_tuple(key), self.frame)

    def _read(self, key: tuple, frame: Callable[[int], np.ndarray]) -> Any:
        """`array[key]`, read from `frame(frame_index)`; a number, or an array that owns its memory."""
        if not is_basic(key):
            return self._read_pixels(key, frame)
        frames, rows, columns = expanded(key)
        if not isinstance(frames, slice):
            region = frame(range(len(self))[frames])[rows, columns]
            return region.copy() if isinstance(region, np.ndarray) else region
        frame_indices = range(len(self))[frames]
        region_shape = shape_of(self.shape[1:], (rows, columns))
        regions = np.zeros((len(frame_indices), *region_shape), np.uint8)
        for region, frame_index in zip(regions, frame_indices, strict=True):
            region[...] = frame(frame_index)[rows, columns]
        return regions

    def _read_pixels(self, key: tuple, frame: Callable[[int], np.ndarray]) -> np.ndarray:
        frames, rows, columns = coordinates(key, self.shape)
        labels = np.zeros(frames.shape, np.uint8)
        for frame_index in np.unique(frames).tolist():
            in_frame = frames == frame_index
            labels[in_frame] = frame(frame_index)[rows[in_frame], columns[in_frame]]
        return labels
