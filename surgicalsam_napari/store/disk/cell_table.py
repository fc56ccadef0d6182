"""The tables of a project: a number per frame and class, in raw chunks whose rows are overwritten in place."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.files import write_file, write_in_place
from surgicalsam_napari.store.disk.arrays import (
    SEPARATOR,
    check_codecs,
    check_metadata,
    check_shape,
    create_array,
    read_metadata,
)
from surgicalsam_napari.store.disk.files import STAGING, check_reachable

ROWS = 1024  # frames per chunk of a table
COLUMNS = 8  # classes per chunk of a table
MOST_COLUMNS = 256  # there are at most 255 classes


class CellTable:
    """A (T, C) table with one number per (frame, class), in raw chunks of 1024 frames by 8 classes.

    The chunks are not compressed, so a row is overwritten in place. A write costs the same for ten frames and for 100,000,
    two processes always see the same numbers, and adding classes changes zarr.json only. A chunk without a file holds only
    the fill value. So does an optional table (`is_optional`) without a folder.

    Parameters
    ----------
    chunk_width : classes per chunk
    """

    def __init__(
        self,
        folder: Path,
        frame_count: int,
        class_count: int,
        dtype: str,
        fill: float,
        *,
        is_optional: bool = False,
        chunk_width: int = COLUMNS,
    ) -> None:
        self.folder = folder
        self._start = f"{folder}{os.sep}"  # a text, because a Path is slow to extend
        self.frame_count = frame_count
        self.class_count = class_count
        self.dtype = np.dtype(dtype)
        self.fill = fill
        self._chunk_width = chunk_width
        self._stored_width: tuple[int, int] = (0, class_count)  # time of zarr.json, and the number of columns that it names
        self._last_read: np.ndarray | None = None
        self._witness = folder  # while this is there, a missing file means that its cells hold the fill value
        if is_optional and not folder.exists():
            self._witness = folder.parent
            return
        check_shape(folder, (frame_count, class_count))
        check_metadata(folder, {"zarr_format": 3, "data_type": self.dtype.name})
        check_codecs(folder, ["bytes"])

    @staticmethod
    def create(
        folder: Path,
        frame_count: int,
        class_count: int,
        dtype: str,
        fill: float,
        attributes: dict[str, Any],
        *,
        chunk_width: int = COLUMNS,
    ) -> None:
        create_array(
            folder,
            (frame_count, class_count),
            (ROWS, chunk_width),
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
        return ROWS * self._chunk_width * self.dtype.itemsize

    @property
    def stored_width(self) -> int:
        """The number of columns on disk: another process may have added classes."""
        try:
            changed = os.stat(self._start + "zarr.json").st_mtime_ns
        except FileNotFoundError:
            return self.class_count
        if changed != self._stored_width[0]:
            check_shape(self.folder, (self.frame_count, self.class_count))
            self._stored_width = changed, int(read_metadata(self.folder)["shape"][1])
            if self._stored_width[1] > MOST_COLUMNS:
                raise ProjectError(
                    f"The array {self.folder} should have a column for each class, at most {MOST_COLUMNS}, it has "
                    f"{self._stored_width[1]}. Restore its zarr.json from a backup."
                )
        return max(self._stored_width[1], self.class_count)

    def _blocks(self, class_count: int | None = None) -> range:
        return range(-(-(self.class_count if class_count is None else class_count) // self._chunk_width))

    def _path(self, frame_index: int, block: int) -> Path:
        return self.folder / self._name(frame_index, block)

    @staticmethod
    def _name(frame_index: int, block: int) -> str:
        return f"c.{frame_index // ROWS}.{block}"

    def _offset(self, frame_index: int) -> int:
        return frame_index % ROWS * self._chunk_width * self.dtype.itemsize

    def _damaged(self, path: Path, byte_count: int) -> ProjectError:
        first = int(path.name.split(SEPARATOR)[1]) * ROWS
        last = min(first + ROWS, self.frame_count) - 1
        return ProjectError(
            f"{path} should have {self._chunk_bytes} bytes, it has {byte_count}: the {self.folder.name} of frames {first} "
            f'to {last} is damaged. Run `surgicalsam check "{self.folder.parent}" --repair`, or restore that file from a '
            "backup; the other frames are intact."
        )

    def row(self, frame_index: int) -> np.ndarray:
        """(C,), one frame; a copy."""
        return self._row(frame_index, self.class_count)

    def stored_row(self, frame_index: int) -> np.ndarray:
        """(`stored_width`,), one frame with the columns of classes that another process added; a copy."""
        return self._row(frame_index, self.stored_width)

    def _row(self, frame_index: int, class_count: int) -> np.ndarray:
        blocks = self._blocks(class_count)
        row = np.full(len(blocks) * self._chunk_width, self.fill, self.dtype)
        width = self._chunk_width * self.dtype.itemsize
        for block in blocks:
            try:
                path = self._start + self._name(frame_index, block)
                descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            except FileNotFoundError:
                check_reachable(self._witness)
                continue
            with os.fdopen(descriptor, "rb", buffering=0) as file:
                size = os.fstat(descriptor).st_size
                if size != self._chunk_bytes:
                    raise self._damaged(self._path(frame_index, block), size)
                file.seek(self._offset(frame_index))
                row[block * self._chunk_width : (block + 1) * self._chunk_width] = np.frombuffer(
                    file.read(width), self.dtype
                )
        return row[:class_count]

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
                    chunk = np.frombuffer(raw, self.dtype).reshape(ROWS, self._chunk_width)
                    target = table[first : first + ROWS, block * self._chunk_width : (block + 1) * self._chunk_width]
                    target[:] = chunk[: target.shape[0], : target.shape[1]]
        check_reachable(self._witness)
        self._last_read = table.copy()
        return table

    def stored_table(self, first: int, last: int) -> tuple[np.ndarray, list[Path]]:
        """(N, `stored_width`), the frames `first` to `last` - 1, and the chunks of them with a wrong size.

        A chunk that is too short is read as far as it goes, and the fill value after that. `first` is a multiple of `ROWS`.
        """
        width, wrong = self.stored_width, []
        table = np.full((last - first, width), self.fill, self.dtype)
        for start in range(first, last, ROWS):
            for block in self._blocks(width):
                path = self._path(start, block)
                if not path.exists():
                    check_reachable(self._witness)
                    continue
                raw = path.read_bytes()
                if len(raw) != self._chunk_bytes:
                    wrong.append(path)
                target = table[start - first : start - first + ROWS, block * self._chunk_width :][:, : self._chunk_width]
                target[:] = self._chunk(raw)[: target.shape[0], : target.shape[1]]
        return table, wrong

    def _chunk(self, raw: bytes) -> np.ndarray:
        """(ROWS, columns) of a chunk's bytes; cells that are missing hold the fill value."""
        cells = np.full(ROWS * self._chunk_width, self.fill, self.dtype)
        known = np.frombuffer(
            raw[: min(len(raw), self._chunk_bytes) // self.dtype.itemsize * self.dtype.itemsize], self.dtype
        )
        cells[: len(known)] = known
        return cells.reshape(ROWS, self._chunk_width)

    def write_chunks(self, first: int, rows: np.ndarray, root: Path) -> None:
        """Replace the chunks of up to 1024 frames, (N, columns), each completely or not at all; may raise OSError."""
        for block in self._blocks(rows.shape[1]):
            chunk = self._chunk(b"")
            cells = rows[:, block * self._chunk_width : (block + 1) * self._chunk_width]
            chunk[: cells.shape[0], : cells.shape[1]] = cells
            write_file(self._path(first, block), chunk.tobytes(), staging=root / STAGING)

    def complete(self, first: int, root: Path, keep: Callable[[Path], object]) -> list[Path]:
        """Give the chunks of the frames from `first` on their full size, if they have another one; returns those.

        Parameters
        ----------
        keep : called with each of them before it is replaced
        """
        wrong = [path for path in self.paths(first) if path.exists() and path.stat().st_size != self._chunk_bytes]
        for path in wrong:
            keep(path)
            write_file(path, self._chunk(path.read_bytes()).tobytes(), staging=root / STAGING)
        return wrong

    def paths(self, frame_index: int) -> list[Path]:
        """The chunks that hold a frame's row."""
        return [self._path(frame_index, block) for block in self._blocks(self.stored_width)]

    def trimmed(self, row: np.ndarray) -> bytes:
        """A row's bytes without the trailing cells that hold the fill value: classes added later make no difference."""
        filled = np.isnan(row) if np.isnan(self.fill) else row == self.fill
        return row[: 0 if filled.all() else len(row) - int(filled[::-1].argmin())].tobytes()

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
                empty = np.full(ROWS * self._chunk_width, self.fill, self.dtype)
                write_file(path, empty.tobytes(), staging=root / STAGING)
            elif path.stat().st_size != self._chunk_bytes:
                raise self._damaged(path, path.stat().st_size)

    def put(self, frame_index: int, row: np.ndarray) -> None:
        """Overwrite one row, (C,), in place, after `prepare`."""
        if self._last_read is not None and len(row) == self._last_read.shape[1]:
            self._last_read[frame_index] = row
        for block in self._blocks():
            # only the cells of this row: another process may have added classes on the right
            cells = row[block * self._chunk_width : (block + 1) * self._chunk_width]
            write_in_place(self._path(frame_index, block), self._offset(frame_index), cells.tobytes())
