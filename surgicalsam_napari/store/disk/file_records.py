"""Checksums of the files that belong to no frame: project.json, notes.json, tracks.json, the work log, and the actions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import google_crc32c

from surgicalsam_napari.files import write_file
from surgicalsam_napari.store.disk.checksums import checksum, sealed_record, unsealed_record
from surgicalsam_napari.store.disk.files import STAGING
from surgicalsam_napari.untrusted import read_json, read_plain

RECORDS = "files.json"
WHOLE = ("project.json", "notes.json", "tracks.json")  # replaced as a whole
GROWING = "work.csv"  # only grows
HISTORY = "history"
_DIFFERENT = "it is cut or changed, or is not the file that was written last"


class FileRecords:
    """The file `files.json` of a project. A project of an earlier version has none until it is checked.

    A file is announced before it is replaced: its record then has the checksums of the old and of the new content. So
    a kill between the two writes leaves a file that has one of them. Call everything but `problems` while holding the lock.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root / RECORDS

    def begin(self) -> None:
        """Record all files as they are now; may raise OSError."""
        length, running = self._grown({"bytes": 0, "crc32c": 0})
        self._write(
            {
                "whole": {name: [checksum(self._content(name))] for name in WHOLE},
                "growing": {"bytes": length, "crc32c": running},
                "actions": sorted(int(path.stem) for path in (self._root / HISTORY).glob("[0-9]*.json")),
            }
        )

    @contextmanager
    def replacing(self, name: str, content: bytes, *, is_new: bool = False) -> Iterator[None]:
        """Announce a new content of a file; the block writes it. May raise OSError.

        A damaged file stays named as damaged, unless the new content does not come from it (`is_new`).
        """
        record, present = self._read(), checksum(self._content(name))
        if record is None or not (is_new or present in record["whole"].get(name, [])):
            yield
            return
        record["whole"][name] = [present, checksum(content)]
        self._write(record)
        yield
        record["whole"][name] = [checksum(content)]
        self._write(record)

    def note_actions(self, *, added: int | None = None, removed: tuple[int, ...] = ()) -> None:
        """Say that a record of an action was written, or will be removed; may raise OSError."""
        record = self._read()
        if record is not None and (added is not None or set(removed) & set(record["actions"])):
            numbers = {*record["actions"], *([] if added is None else [added])} - set(removed)
            self._write({**record, "actions": sorted(numbers)})

    def note_growth(self) -> None:
        """Record the lines that the work log has gained; may raise OSError."""
        record = self._read()
        if record is not None:
            length, running = self._grown(record["growing"])
            if length > record["growing"]["bytes"]:
                self._write({**record, "growing": {"bytes": length, "crc32c": running}})

    def problems(self, *, is_expected: bool) -> Iterator[tuple[Path, str]]:
        """The missing and changed files, each with what is wrong, in words.

        Parameters
        ----------
        is_expected : whether the project must have a record
        """
        record = self._read()
        if record is None:
            if is_expected or self._path.exists():
                yield self._path, "it is missing or damaged; it has the checksums of the other files"
            return
        for name, known in record["whole"].items():
            present = checksum(self._content(name))
            if present not in known:
                yield self._root / name, _DIFFERENT if present else "it is missing"
        if checksum(self._start(record["growing"]["bytes"])) != (record["growing"]["crc32c"] or checksum(b"")):
            yield self._root / GROWING, "it is missing, cut or changed"
        for number in record["actions"]:
            path = self._root / HISTORY / f"{number:06}.json"
            if not path.exists():
                yield path, "it is missing"

    def _grown(self, before: dict[str, int]) -> tuple[int, int]:
        """The bytes of the work log, and their running checksum."""
        added = (self._content(GROWING) or b"")[before["bytes"] :]
        return before["bytes"] + len(added), google_crc32c.extend(before["crc32c"], added)

    def _start(self, length: int) -> bytes:
        return (self._content(GROWING) or b"")[:length]

    def _content(self, name: str) -> bytes | None:
        try:
            return read_plain(self._root / name)
        except OSError:
            return None

    def _read(self) -> dict[str, Any] | None:
        """The record; None if there is none, or it is damaged."""
        try:
            return unsealed_record(read_json(self._path))
        except (OSError, ValueError):
            return None

    def _write(self, record: dict[str, Any]) -> None:
        content = json.dumps(sealed_record(record)).encode()
        write_file(self._path, content, staging=self._root / STAGING)
