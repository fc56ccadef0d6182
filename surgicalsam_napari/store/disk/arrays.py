"""The zarr v3 arrays of a project. Their chunks are read and written directly.

zarr creates every array and can read it (`zarr.open_group(folder)`). This module reads and writes the chunks itself, for two
reasons. A brush stroke costs 2 ms instead of 20. And the files of a frame are written in an order that survives a kill:
zarr 3.1 writes each chunk to a temporary file and renames it, but it cannot change two arrays together.
"""

from __future__ import annotations

import operator
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs.zstd import Zstd  # type: ignore[import-untyped]

from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.store.disk.files import check_reachable
from surgicalsam_napari.untrusted import read_json, read_plain

_ZSTD = Zstd(level=1, checksum=True)
_ZSTD_PLAIN = Zstd(level=1)  # a third faster; for arrays whose frames always had a checksum in `checksums`
SEPARATOR = "."  # all chunks lie directly in the array's folder: one file per frame, no sub-folders


def create_array(folder: Path, shape: Sequence[int], chunks: Sequence[int], dtype: str, **options: Any) -> None:
    import zarr

    zarr.create_array(
        folder,
        shape=tuple(shape),
        chunks=tuple(chunks),
        dtype=dtype,
        chunk_key_encoding={"name": "default", "separator": SEPARATOR},
        filters=None,
        **options,
    )


def read_metadata(folder: Path) -> dict[str, Any]:
    """The zarr.json of an array as a dict; a ProjectError if it is missing or not JSON."""
    try:
        metadata = read_json(folder / "zarr.json")
        if not isinstance(metadata, dict):
            raise ValueError
        return metadata
    except (OSError, ValueError) as error:
        raise ProjectError(
            f"{folder / 'zarr.json'} is missing or damaged; it describes the array {folder.name} of this project. "
            "Restore the file from a backup, or start a project in another folder."
        ) from error


def check_metadata(folder: Path, expected: Mapping[str, Any]) -> None:
    """A ProjectError unless the array in `folder` has the layout that this version writes."""
    metadata = read_metadata(folder)
    for name, value in expected.items():
        if metadata.get(name) != value:
            raise ProjectError(
                f"The array {folder} should have {name} {value}, it has {metadata.get(name)}. "
                "Restore its zarr.json from a backup, or start a project in another folder."
            )


def chunk_grid(chunk_shape: tuple[int, ...]) -> dict[str, Any]:
    """The entry of zarr.json about the size of chunks."""
    return {"name": "regular", "configuration": {"chunk_shape": list(chunk_shape)}}


def check_codecs(folder: Path, names: list[str]) -> None:
    """A ProjectError unless the chunks of the array in `folder` are encoded by these codecs."""
    codecs = [codec.get("name") for codec in read_metadata(folder).get("codecs", [])]
    if codecs != names:
        raise ProjectError(
            f"The array {folder} should be stored with {names}, not {codecs}. Restore its zarr.json from a backup."
        )


def check_shape(folder: Path, least: Sequence[int], *exactly: int) -> None:
    """A ProjectError unless the array in `folder` has at least these lengths, and exactly those on its last axes.

    It has more columns than the project has classes, or more frames, if a process died after it enlarged the arrays, before
    it wrote the manifest.
    """
    shape: Any = read_metadata(folder).get("shape")
    is_enough = isinstance(shape, list) and len(shape) == len(least) and all(map(operator.ge, shape, least))
    if not (is_enough and tuple(shape[len(shape) - len(exactly) :]) == exactly):
        raise ProjectError(
            f"The array {folder} should have shape {list(least)}, it has {shape}. "
            "Restore its zarr.json from a backup, or start a project in another folder."
        )


def chunk_names(folder: Path) -> Iterator[str]:
    """The file names of an array's chunks, unordered; yields the first names before a long folder is listed completely."""
    with os.scandir(folder) as entries:
        yield from (entry.name for entry in entries if entry.name.startswith("c."))


def decoded(encoded: bytes) -> np.ndarray:
    """(N,) uint8: the content of a frame's file; ValueError if it is damaged."""
    try:
        return np.frombuffer(_ZSTD.decode(encoded), np.uint8)
    except (RuntimeError, MemoryError) as error:
        raise ValueError(str(error)) from error


class FrameArray:
    """A (T, H, W) array of bytes or booleans, one zstd chunk per frame; a frame without a file is all zero.

    Parameters
    ----------
    folder : the zarr array
    shape : (T, H, W)
    is_optional : the folder may be missing, in a project of an earlier version; then no frame has a file
    has_checksum : whether zstd adds its own checksum
    """

    def __init__(
        self,
        folder: Path,
        shape: tuple[int, int, int],
        dtype: str,
        *,
        is_optional: bool = False,
        has_checksum: bool = True,
    ) -> None:
        self.folder = folder
        self._codec = _ZSTD if has_checksum else _ZSTD_PLAIN
        self._start = f"{folder}{os.sep}"  # a text, because a Path is slow to extend
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._witness = folder  # while this is there, a missing file means that the frame is all zero
        if is_optional and not folder.exists():
            self._witness = folder.parent
            return
        check_shape(folder, shape, *shape[1:])
        check_metadata(folder, {"zarr_format": 3, "data_type": str(self.dtype), "chunk_grid": chunk_grid((1, *shape[1:]))})
        check_codecs(folder, ["bytes", "zstd"])

    @staticmethod
    def create(
        folder: Path, shape: tuple[int, int, int], dtype: str, attributes: dict[str, Any], *, has_checksum: bool = True
    ) -> None:
        from zarr.codecs import ZstdCodec

        create_array(
            folder,
            shape,
            (1, *shape[1:]),
            dtype,
            fill_value=0,
            compressors=ZstdCodec(level=_ZSTD.level, checksum=has_checksum),
            dimension_names=("frame", "y", "x"),
            attributes=attributes,
        )

    def path(self, frame_index: int) -> Path:
        return self.folder / self.path_name(frame_index)

    @staticmethod
    def path_name(frame_index: int) -> str:
        return f"c.{frame_index}.0.0"

    def signature(self, frame_index: int) -> tuple[int, int, int] | None:
        """A value that changes whenever the frame's file is replaced; None without a file."""
        try:
            status = os.stat(self._start + self.path_name(frame_index))
        except FileNotFoundError:
            check_reachable(self._witness)
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def encode(self, frame: np.ndarray) -> bytes:
        return self._codec.encode(np.ascontiguousarray(frame, self.dtype).view(np.uint8))

    def read_encoded(self, frame_index: int) -> bytes | None:
        """The frame's file as it is; None without a file."""
        try:
            return read_plain(self.path(frame_index))
        except FileNotFoundError:
            check_reachable(self._witness)
            return None

    def names(self) -> set[str]:
        """The names of the files of all frames, and of stray ones."""
        try:
            return set(chunk_names(self.folder))
        except FileNotFoundError:
            check_reachable(self._witness)
            return set()

    def decode(self, encoded: bytes) -> np.ndarray:
        """(H, W), read-only; ValueError if the bytes are damaged."""
        return decoded(encoded).reshape(self.shape[1:]).view(self.dtype)


class FrameCache:
    """The frames used last, by array and frame index; a frame counts as absent after its file was replaced."""

    def __init__(self, byte_limit: int) -> None:
        self._byte_limit = byte_limit
        self._frames: OrderedDict[tuple[str, int], tuple[Any, np.ndarray]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, array: FrameArray, frame_index: int, signature: Any) -> np.ndarray | None:
        key = (array.folder.name, frame_index)
        with self._lock:
            stored = self._frames.get(key)
            if stored is None or stored[0] != signature:
                return None
            self._frames.move_to_end(key)
            return stored[1]

    def last_known(self, array: FrameArray, frame_index: int) -> np.ndarray | None:
        """The frame as it was read last, even if its file cannot be reached now."""
        with self._lock:
            return self._frames.get((array.folder.name, frame_index), (None, None))[1]

    def put(self, array: FrameArray, frame_index: int, signature: Any, frame: np.ndarray) -> None:
        with self._lock:
            self._pop((array.folder.name, frame_index))
            self._frames[array.folder.name, frame_index] = (signature, frame)
            self._bytes += frame.nbytes
            while self._bytes > self._byte_limit and len(self._frames) > 2:
                self._pop(next(iter(self._frames)))

    def drop(self, frame_index: int) -> None:
        with self._lock:
            for key in [key for key in self._frames if key[1] == frame_index]:
                self._pop(key)

    def clear(self) -> None:
        with self._lock:
            self._frames.clear()
            self._bytes = 0

    def _pop(self, key: tuple[str, int]) -> None:
        stored = self._frames.pop(key, None)
        self._bytes -= 0 if stored is None else stored[1].nbytes
