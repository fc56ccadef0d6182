"""The zarr v3 arrays of a project. Their chunks are read and written directly.

zarr creates every array and can read it (`zarr.open_group(folder)`). This module reads and writes the chunks itself, for two
reasons. A brush stroke costs 2 ms instead of 20. And the files of a frame are written in an order that survives a kill:
zarr 3.1 writes each chunk to a temporary file and renames it, but it cannot change two arrays together.
"""

from __future__ import annotations

import json
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
from surgicalsam_napari.files import write_file, write_in_place
from surgicalsam_napari.store.files import STAGING, check_reachable

ROWS = 1024  # frames per chunk of a table
COLUMNS = 8  # classes per chunk of a table
_ZSTD = Zstd(level=1, checksum=True)
_SEPARATOR = "."  # all chunks lie directly in the array's folder: one file per frame, no sub-folders


def create_array(folder: Path, shape: Sequence[int], chunks: Sequence[int], dtype: str, **options: Any) -> None:
    import zarr

    zarr.create_array(
        folder,
        shape=tuple(shape),
        chunks=tuple(chunks),
        dtype=dtype,
        chunk_key_encoding={"name": "default", "separator": _SEPARATOR},
        filters=None,
        **options,
    )


def read_metadata(folder: Path) -> dict[str, Any]:
    """The zarr.json of an array as a dict; a ProjectError if it is missing or not JSON."""
    try:
        metadata = json.loads((folder / "zarr.json").read_text(encoding="utf-8"))
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


def check_codecs(folder: Path, names: list[str]) -> None:
    """A ProjectError unless the chunks of the array in `folder` are encoded by these codecs."""
    codecs = [codec.get("name") for codec in read_metadata(folder).get("codecs", [])]
    if codecs != names:
        raise ProjectError(
            f"The array {folder} should be stored with {names}, not {codecs}. Restore its zarr.json from a backup."
        )


def _check_shape(folder: Path, least: Sequence[int], *exactly: int) -> None:
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


class FrameArray:
    """A (T, H, W) array of bytes or booleans, one zstd chunk per frame; a frame without a file is all zero.

    Parameters
    ----------
    folder : the zarr array
    shape : (T, H, W)
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int], dtype: str) -> None:
        self.folder = folder
        self.shape = shape
        self.dtype = np.dtype(dtype)
        _check_shape(folder, shape, *shape[1:])
        check_metadata(folder, {"zarr_format": 3, "data_type": str(self.dtype)})
        check_codecs(folder, ["bytes", "zstd"])

    @staticmethod
    def create(folder: Path, shape: tuple[int, int, int], dtype: str, attributes: dict[str, Any]) -> None:
        from zarr.codecs import ZstdCodec

        create_array(
            folder,
            shape,
            (1, *shape[1:]),
            dtype,
            fill_value=0,
            compressors=ZstdCodec(level=_ZSTD.level, checksum=True),
            dimension_names=("frame", "y", "x"),
            attributes=attributes,
        )

    def path(self, frame_index: int) -> Path:
        return self.folder / f"c.{frame_index}.0.0"

    def signature(self, frame_index: int) -> tuple[int, int, int] | None:
        """A value that changes whenever the frame's file is replaced; None without a file."""
        try:
            status = os.stat(self.path(frame_index))
        except FileNotFoundError:
            check_reachable(self.folder)
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def encode(self, frame: np.ndarray) -> bytes:
        return _ZSTD.encode(np.ascontiguousarray(frame, self.dtype).view(np.uint8))

    def read(self, frame_index: int) -> np.ndarray | None:
        """(H, W), read-only; None without a file; ValueError if the file is damaged."""
        try:
            encoded = self.path(frame_index).read_bytes()
        except FileNotFoundError:
            check_reachable(self.folder)
            return None
        try:
            decoded = np.frombuffer(_ZSTD.decode(encoded), np.uint8)
        except (RuntimeError, MemoryError) as error:
            raise ValueError(str(error)) from error
        return decoded.reshape(self.shape[1:]).view(self.dtype)


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


class CellTable:
    """A (T, C) table with one number per (frame, class), in raw chunks of 1024 frames by 8 classes.

    The chunks are not compressed, so a row is overwritten in place. A write costs the same for ten frames and for 100,000,
    two processes always see the same numbers, and adding classes changes zarr.json only. A chunk without a file holds only
    the fill value. So does an optional table (`is_optional`) without a folder.
    """

    def __init__(
        self, folder: Path, frame_count: int, class_count: int, dtype: str, fill: float, *, is_optional: bool = False
    ) -> None:
        self.folder = folder
        self.frame_count = frame_count
        self.class_count = class_count
        self.dtype = np.dtype(dtype)
        self.fill = fill
        self._last_read: np.ndarray | None = None
        self._witness = folder  # while this is there, a missing file means that its cells hold the fill value
        if is_optional and not folder.exists():
            self._witness = folder.parent
            return
        _check_shape(folder, (frame_count, class_count))
        check_metadata(folder, {"zarr_format": 3, "data_type": self.dtype.name})
        check_codecs(folder, ["bytes"])

    @staticmethod
    def create(
        folder: Path, frame_count: int, class_count: int, dtype: str, fill: float, attributes: dict[str, Any]
    ) -> None:
        create_array(
            folder,
            (frame_count, class_count),
            (ROWS, COLUMNS),
            dtype,
            fill_value=fill,
            compressors=None,
            dimension_names=("frame", "class"),
            attributes=attributes,
        )

    def widen(self, class_count: int, attributes: dict[str, Any]) -> None:
        """Add columns on the right, on disk; stored values stay. The caller sets `class_count` afterwards."""
        import zarr

        array = zarr.open_array(self.folder, mode="r+")
        if array.shape[1] < class_count:
            array.resize((array.shape[0], class_count))
        array.update_attributes(attributes)

    @property
    def _chunk_bytes(self) -> int:
        return ROWS * COLUMNS * self.dtype.itemsize

    def _blocks(self) -> range:
        return range(-(-self.class_count // COLUMNS))

    def _path(self, frame_index: int, block: int) -> Path:
        return self.folder / f"c.{frame_index // ROWS}.{block}"

    def _offset(self, frame_index: int) -> int:
        return frame_index % ROWS * COLUMNS * self.dtype.itemsize

    def _damaged(self, path: Path, byte_count: int) -> ProjectError:
        first = int(path.name.split(_SEPARATOR)[1]) * ROWS
        last = min(first + ROWS, self.frame_count) - 1
        return ProjectError(
            f"{path} should have {self._chunk_bytes} bytes, it has {byte_count}: the {self.folder.name} of frames {first} "
            f"to {last} is damaged. Restore that file from a backup; the other frames are intact."
        )

    def row(self, frame_index: int) -> np.ndarray:
        """(C,), one frame; a copy."""
        row = np.full(len(self._blocks()) * COLUMNS, self.fill, self.dtype)
        width = COLUMNS * self.dtype.itemsize
        for block in self._blocks():
            path = self._path(frame_index, block)
            try:
                descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            except FileNotFoundError:
                check_reachable(self._witness)
                continue
            with os.fdopen(descriptor, "rb", buffering=0) as file:
                size = os.fstat(descriptor).st_size
                if size != self._chunk_bytes:
                    raise self._damaged(path, size)
                file.seek(self._offset(frame_index))
                row[block * COLUMNS : (block + 1) * COLUMNS] = np.frombuffer(file.read(width), self.dtype)
        return row[: self.class_count]

    def table(self, frame_count: int | None = None) -> np.ndarray:
        """(T, C), all frames; a copy. For another `frame_count`, frames that the table does not have hold the fill value."""
        frame_count = self.frame_count if frame_count is None else frame_count
        table = np.full((frame_count, self.class_count), self.fill, self.dtype)
        for first in range(0, frame_count, ROWS):
            for block in self._blocks():
                path = self._path(first, block)
                if path.exists():
                    raw = path.read_bytes()
                    if len(raw) != self._chunk_bytes:
                        raise self._damaged(path, len(raw))
                    chunk = np.frombuffer(raw, self.dtype).reshape(ROWS, COLUMNS)
                    target = table[first : first + ROWS, block * COLUMNS : (block + 1) * COLUMNS]
                    target[:] = chunk[: target.shape[0], : target.shape[1]]
        check_reachable(self._witness)
        self._last_read = table.copy()
        return table

    def last_known(self) -> np.ndarray:
        """(T, C), a copy: the table as it was read last, for the time while its folder cannot be reached."""
        table = np.full((self.frame_count, self.class_count), self.fill, self.dtype)
        if self._last_read is not None:
            known = self._last_read[: self.frame_count, : self.class_count]
            table[: known.shape[0], : known.shape[1]] = known
        return table

    def prepare(self, frame_index: int, root: Path) -> None:
        """Allocate the disk space that `put` needs. May raise OSError; may be called repeatedly."""
        for block in self._blocks():
            path = self._path(frame_index, block)
            if not path.exists():
                empty = np.full(ROWS * COLUMNS, self.fill, self.dtype)
                write_file(path, empty.tobytes(), staging=root / STAGING)
            elif path.stat().st_size != self._chunk_bytes:
                raise self._damaged(path, path.stat().st_size)

    def put(self, frame_index: int, row: np.ndarray) -> None:
        """Overwrite one row, (C,), in place, after `prepare`."""
        if self._last_read is not None and len(row) == self._last_read.shape[1]:
            self._last_read[frame_index] = row
        for block in self._blocks():
            # only the cells of this row: another process may have added classes on the right
            cells = row[block * COLUMNS : (block + 1) * COLUMNS]
            write_in_place(self._path(frame_index, block), self._offset(frame_index), cells.tobytes())
