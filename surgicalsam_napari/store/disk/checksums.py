"""Checksums of each frame's files and table rows, so that a missing, cut, changed, exchanged or stray one is noticed."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.store.disk.arrays import FrameArray
from surgicalsam_napari.store.disk.cell_table import ROWS, CellTable
from surgicalsam_napari.store.disk.files import check_reachable
from surgicalsam_napari.store.provenance import EXPECTS, TABLES
from surgicalsam_napari.untrusted import read_plain

FOLDER = "checksums"
ARRAYS = ("labels", "painted", "instances")
PARTS = (*ARRAYS, *TABLES)  # columns from 1 on; column 0 is the checksum of the other columns
WIDTH = 16  # columns, some for tables of later versions
OWN = "crc32c"  # the key of a record's own checksum
COLUMN = {name: position for position, name in enumerate(PARTS, 1)}
ATTRIBUTES = {
    "description": "CRC-32C of a frame's files and table rows (without trailing fill values); 0 for what does not exist",
    "columns": ["this row", *PARTS],
}
STEP = 64  # frames between two reports of a check
_BYTE_STEPS = np.zeros(256, np.uint32)
for _byte in range(256):
    _step = _byte
    for _ in range(8):
        _step = (_step >> 1) ^ (0x82F63B78 if _step & 1 else 0)
    _BYTE_STEPS[_byte] = _step


def checksum(content: bytes | None) -> int:
    """CRC-32C of stored bytes, never 0; 0 without any."""
    return 0 if content is None else google_crc32c.value(content) or 1


def sealed_record(record: dict[str, Any], *, salt: str = "") -> dict[str, Any]:
    """A JSON record with its own checksum, as the last key.

    Parameters
    ----------
    salt : a part of the checksum that is not stored, such as the name of the file that the record belongs to
    """
    return {**record, OWN: _own(record, salt)}


def unsealed_record(record: Any, *, salt: str = "", earlier: Collection[str] = ()) -> dict[str, Any]:
    """A record of `sealed_record` without its checksum; a ValueError if it is not as it was written.

    Parameters
    ----------
    earlier : the keys of the records of an earlier version, which have no checksum. A record with another key has lost it
    """
    if not isinstance(record, dict):
        raise ValueError("it is not a record")
    content = {key: value for key, value in record.items() if key != OWN}
    if record[OWN] != _own(content, salt) if OWN in record else not set(record) <= set(earlier):
        raise ValueError("it is cut or changed")
    return content


def _own(record: dict[str, Any], salt: str) -> int:
    return google_crc32c.value(f"{salt}{json.dumps(record)}".encode())


def row_checksums(rows: np.ndarray, fill: float) -> np.ndarray:
    """(N,) uint32: `checksum` of each row of (N, C) without its trailing fill values; all rows at once."""
    is_set = ~np.isnan(rows) if np.isnan(fill) else rows != fill
    sums = np.zeros(len(rows), np.uint32)
    chosen = np.flatnonzero(is_set.any(axis=1))
    if not len(chosen):
        return sums
    cells = rows.shape[1] - is_set[chosen, ::-1].argmax(axis=1)
    data = np.ascontiguousarray(rows[chosen]).view(np.uint8).reshape(len(chosen), -1)
    running = np.full(len(chosen), 0xFFFFFFFF, np.uint32)
    for position in range(int(cells.max(initial=0)) * rows.itemsize):
        step = _BYTE_STEPS[(running ^ data[:, position]) & 0xFF] ^ (running >> np.uint32(8))
        running = np.where(position < cells * rows.itemsize, step, running)
    running = ~running
    running[running == 0] = 1
    sums[chosen] = running
    return sums


def sealed(frame_index: int, record: np.ndarray) -> np.ndarray:
    """(WIDTH,) uint32: the record with its own checksum; a record of nothing is all 0."""
    record[0] = checksum(struct.pack("<q", frame_index) + record[1:].tobytes()) if record[1:].any() else 0
    return record


class Checksums:
    """The table `checksums`: a record per frame, which changes with the frame through the journal.

    Parameters
    ----------
    tables, arrays : the tables and arrays of the project, by name
    is_complete : whether every frame has a record, and an empty one means that nothing is stored. In a project of an earlier
        version, an empty record means that the frame has not been written or checked since
    """

    def __init__(
        self,
        root: Path,
        frame_count: int,
        tables: Mapping[str, CellTable],
        arrays: Mapping[str, FrameArray],
        *,
        is_complete: bool,
    ) -> None:
        self._root = root
        self._tables, self._arrays = tables, arrays
        self.is_complete = is_complete
        self.table = _open(root, frame_count, is_optional=not is_complete)

    @staticmethod
    def create(root: Path, frame_count: int) -> None:
        CellTable.create(root / FOLDER, frame_count, WIDTH, "uint32", 0, ATTRIBUTES, chunk_width=WIDTH)

    @property
    def frame_count(self) -> int:
        return self.table.frame_count

    # ---- one frame

    def record(self, frame_index: int) -> np.ndarray | None:
        """(WIDTH,) uint32; None if the frame has none yet; ValueError if the record itself is damaged."""
        record = self.table.row(frame_index)
        if not record.any():
            return record if self.is_complete else None
        stored = record[0]
        if sealed(frame_index, record)[0] != stored:
            raise ValueError("its checksums are damaged")
        return record

    def present(self, frame_index: int) -> np.ndarray:
        """(WIDTH,) uint32: the record of what is on disk now."""
        record = np.zeros(WIDTH, np.uint32)
        for name, array in self._arrays.items():
            record[COLUMN[name]] = checksum(array.read_encoded(frame_index))
        for name, table in self._tables.items():
            record[COLUMN[name]] = checksum(table.trimmed(table.stored_row(frame_index)) or None)
        return sealed(frame_index, record)

    def after(
        self,
        frame_index: int,
        rows: Mapping[str, np.ndarray],
        chunks: Mapping[Path, bytes | None],
        *,
        is_whole: bool = False,
    ) -> np.ndarray:
        """The record after a change. Call it while holding the lock.

        Parameters
        ----------
        is_whole : whether the change replaces everything that is stored for the frame

        Raises
        ------
        ProjectError
            a part that stays, or a table row that changes, is damaged: it must not look intact afterwards
        """
        record = np.zeros(WIDTH, np.uint32)
        if not is_whole:
            self._refuse_damaged_rows(frame_index, rows)
            known = self.record(frame_index)
            record = self.present(frame_index) if known is None else known
        for name, row in rows.items():
            stored = self._tables[name].stored_row(frame_index)
            stored[: len(row)] = row
            record[COLUMN[name]] = checksum(self._tables[name].trimmed(stored) or None)
        for path, content in chunks.items():
            record[COLUMN[path.parent.name]] = checksum(content)
        return sealed(frame_index, record)

    def _refuse_damaged_rows(self, frame_index: int, rows: Mapping[str, np.ndarray]) -> None:
        problems = self.problems(frame_index, (FOLDER, *rows))
        if problems:
            raise self.error(frame_index, problems)

    def error(self, frame_index: int, problems: Mapping[str, str]) -> ProjectError:
        """The error that says which files of a frame are damaged."""
        name, how = next(iter(problems.items()))
        return ProjectError(
            f"Frame {frame_index} is damaged: {', '.join(map(str, self.files(frame_index, name)))}: {how}. "
            f"{check_command(self._root)}; the other frames are intact."
        )

    def files(self, frame_index: int, part: str) -> list[Path]:
        """The files that hold a part of a frame."""
        if part in self._arrays:
            return [self._arrays[part].path(frame_index)]
        return (self.table if part == FOLDER else self._tables[part]).paths(frame_index)

    def problems(self, frame_index: int, parts: tuple[str, ...] = (FOLDER, *PARTS)) -> dict[str, str]:
        """What is wrong with the parts of a frame, in words, by part. Call it while no other process writes."""
        try:
            record = self.record(frame_index)
            if record is not None and not record.any() and self._has_rows(frame_index):
                raise ValueError("its checksums are missing")
        except (ValueError, ProjectError) as error:
            return {FOLDER: str(error)}
        found = {}
        for name in parts:
            try:
                if name in self._tables:
                    self._check_row(name, frame_index, record)
                elif name in self._arrays:
                    self._check_file(name, frame_index, record)
            except (ValueError, ProjectError) as error:
                found[name] = str(error)
        return found

    def _has_rows(self, frame_index: int) -> bool:
        """Whether something is stored for the frame: a table row, not only a file that may be a stray one."""
        try:
            return any(table.trimmed(table.stored_row(frame_index)) for table in self._tables.values())
        except ProjectError:
            return False

    def _check_row(self, name: str, frame_index: int, record: np.ndarray | None) -> None:
        table = self._tables[name]
        row = table.trimmed(table.stored_row(frame_index))
        if record is not None and checksum(row or None) != record[COLUMN[name]]:
            raise ValueError("the row of this frame is missing, or is not what was written last")

    def _check_file(self, name: str, frame_index: int, record: np.ndarray | None) -> None:
        array = self._arrays[name]
        try:
            encoded = array.read_encoded(frame_index)
        except OSError as error:
            check_reachable(array.folder)
            raise ValueError(f"it is unreadable ({error.strerror})") from error
        self.check_encoded(name, frame_index, encoded, record)
        if encoded is not None and record is None:
            array.decode(encoded)

    def check_encoded(self, name: str, frame_index: int, encoded: bytes | None, record: np.ndarray | None) -> None:
        """A ValueError unless these are the bytes of a frame's file; None for no file."""
        if record is not None:
            expected = record[COLUMN[name]]
            if encoded is None and expected:
                raise ValueError("it is missing")
            if encoded is not None and not expected:
                raise ValueError("it is there although nothing was written there")
            if checksum(encoded) != expected:
                raise ValueError("it is cut or changed, or is not the file that was written last")
        elif encoded is None and EXPECTS[name](self._tables["provenance"].row(frame_index)):
            raise ValueError("it is missing")

    # ---- all frames

    def suspects(self, read: dict[tuple[int, ...], int] | None = None) -> Iterator[tuple[int, list[int]]]:
        """Check all frames: yields how many are done, and those that seem damaged among the last ones.

        Another process may write meanwhile, so look at them again with `problems`, while holding the lock.

        Parameters
        ----------
        read : checksums of files that were read before; snapshots are hard links to the same files
        """
        read = {} if read is None else read
        names = {name: array.names() for name, array in self._arrays.items()}
        for first in range(0, self.frame_count, ROWS):
            last = min(first + ROWS, self.frame_count)
            records, is_suspect = self._suspect_rows(first, last)
            for step in range(first, last, STEP):
                part = range(step, min(step + STEP, last))
                suspects = [i for i in part if is_suspect[i - first] or self._is_suspect(i, records[i - first], names, read)]
                yield part.stop, suspects

    def suspect_rows(self) -> list[int]:
        """The frames whose table rows, or the presence of whose files, seem damaged; reads no pixels."""
        found: list[int] = []
        names = {name: array.names() for name, array in self._arrays.items()}
        for first in range(0, self.frame_count, ROWS):
            last = min(first + ROWS, self.frame_count)
            records, is_suspect = self._suspect_rows(first, last)
            for name, array in self._arrays.items():
                has_file = np.array([array.path_name(index) in names[name] for index in range(first, last)])
                is_known = records.any(axis=1) | self.is_complete
                is_suspect |= is_known & (has_file != (records[:, COLUMN[name]] != 0))
            found += (first + np.flatnonzero(is_suspect)).tolist()
        return found

    def _suspect_rows(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """(N, WIDTH) records and (N,) bool: frames with a damaged row or record, or with none in an earlier project."""
        records, wrong = self.table.stored_table(first, last)
        is_suspect = np.full(last - first, bool(wrong))
        is_known = records.any(axis=1)
        content = np.empty((len(records), 8 + 4 * (WIDTH - 1)), np.uint8)
        content[:, :8] = np.arange(first, last, dtype="<i8")[:, None].view(np.uint8)
        content[:, 8:] = np.ascontiguousarray(records[:, 1:]).view(np.uint8)
        own = _checksums_of(content)
        is_suspect |= is_known & (own != records[:, 0])
        for name, table in self._tables.items():
            rows, wrong = table.stored_table(first, last)
            sums = row_checksums(rows, table.fill)
            is_suspect |= bool(wrong) | ((is_known | self.is_complete) & (sums != records[:, COLUMN[name]]))
            is_suspect |= ~(is_known | self.is_complete) & (sums != 0)
        return records, is_suspect

    def _is_suspect(
        self, frame_index: int, record: np.ndarray, names: Mapping[str, set[str]], read: dict[tuple[int, ...], int]
    ) -> bool:
        """Whether a file of the frame is not what its record says; or there is one, and no record yet."""
        file_name = FrameArray.path_name(frame_index)
        for name, array in self._arrays.items():
            expected = record[COLUMN[name]]
            try:
                is_there = file_name in names[name]
                if is_there != bool(expected) or (is_there and _file_checksum(array.path(frame_index), read) != expected):
                    return True
            except OSError:
                return True
        return False


def _file_checksum(path: Path, read: dict[tuple[int, ...], int]) -> int:
    status = os.stat(path)
    key = status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
    if key not in read:
        read[key] = checksum(read_plain(path))
    return read[key]


def _checksums_of(content: np.ndarray) -> np.ndarray:
    """(N,) uint32: `checksum` of each row of bytes, (N, B)."""
    return np.array([checksum(row) for row in map(bytes, content)], np.uint32)


def _open(root: Path, frame_count: int, *, is_optional: bool) -> CellTable:
    return CellTable(root / FOLDER, frame_count, WIDTH, "uint32", 0, is_optional=is_optional, chunk_width=WIDTH)


def check_command(root: Path) -> str:
    """What a person does about damage."""
    return f'Run `surgicalsam check "{root}" --repair`, or press Check in the section History'
