"""What an action remembers: each frame as it was, a line a frame, in a file that several processes may write to."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.files import write_all


@dataclass(frozen=True)
class SavedFrame:
    """Everything that is stored of a frame.

    Attributes
    ----------
    rows : bytes of the frame's row in each table, cells at the end that hold only the table's fill value cut off, so that
        classes added later make no difference
    chunks : the encoded files "painted" and "labels"; None for one that is not there
    """

    frame_index: int
    rows: Mapping[str, bytes]
    chunks: Mapping[str, bytes | None]

    @property
    def digest(self) -> str:
        """Tells two states of a frame apart."""
        hashed = hashlib.blake2b(digest_size=12)
        for name, content in (*sorted(self.rows.items()), *sorted(self.chunks.items())):
            if content:  # a table that came with a later version is all fill in an earlier state
                hashed.update(f"{name} {len(content)} ".encode() + content)
        return hashed.hexdigest()


class Action:
    """An action while it is being done: remembers each frame as it was. Given to the writers of a `LabelStore`.

    Other processes take part in it by its number (`History.joined`).
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    @property
    def number(self) -> int:
        return int(self._file.stem)

    @property
    def position(self) -> int:
        """Where the next record will begin, in bytes; while holding the project's lock."""
        with self._file.open("a+b", buffering=0) as stream:
            return cut_torn_line(stream)

    def record(self, before: SavedFrame, after: str) -> None:
        """Note a frame, on disk, just before it changes; an OSError leaves no trace.

        Parameters
        ----------
        after : digest of the frame as it is about to be
        """
        append(self._file, before, after)

    def records(self, position: int = 0) -> Iterator[tuple[int, str]]:
        """The frames that were noted since a `position`, and the digest of each as it was to become."""
        for offset in line_offsets(self._file, position):
            before, after = read_line(self._file, offset)
            yield before.frame_index, after


class JoinedAction(Action):
    """An action that another process has open; once that process has ended it, nothing is written with it any more."""

    def __init__(self, file: Path, is_open: Callable[[], bool]) -> None:
        super().__init__(file)
        self._is_open = is_open

    def record(self, before: SavedFrame, after: str) -> None:
        """As `Action.record`, holding the project's lock; a ProjectError if the action has ended."""
        if not self._is_open():
            raise ProjectError("The run that this frame belongs to has ended, so the frame was not written. Start it again.")
        super().record(before, after)


def append(file: Path, before: SavedFrame, after: str) -> None:
    record = {
        "frame": before.frame_index,
        "rows": {name: row.hex() for name, row in before.rows.items()},
        "chunks": {
            name: None if chunk is None else base64.b64encode(chunk).decode() for name, chunk in before.chunks.items()
        },
        "after": after,
    }
    with file.open("a+b", buffering=0) as stream:
        start = cut_torn_line(stream)
        try:
            write_all(stream.fileno(), json.dumps(record).encode() + b"\n")
        except BaseException:
            os.ftruncate(stream.fileno(), start)
            raise


def cut_torn_line(stream: IO[bytes]) -> int:
    """Drop a last line that a kill cut off, lest the next one be written onto it; returns the file's length then."""
    end = stream.seek(0, os.SEEK_END)
    if end:
        stream.seek(end - 1)
    if not end or stream.read(1) == b"\n":
        return end
    stream.seek(0)
    whole = stream.read(end).rfind(b"\n") + 1
    stream.truncate(whole)
    return whole


def line_offsets(file: Path, position: int = 0) -> list[int]:
    """Where each whole line begins, from `position` on; a last line that a kill cut off is left out."""
    offsets = []
    try:
        with file.open("rb") as stream:
            stream.seek(position)
            for line in stream:
                if line.endswith(b"\n"):
                    offsets.append(position)
                position += len(line)
    except FileNotFoundError:
        return []
    return offsets


def read_line(file: Path, offset: int) -> tuple[SavedFrame, str]:
    try:
        with file.open("rb") as stream:
            stream.seek(offset)
            record = json.loads(stream.readline())
        rows = {name: bytes.fromhex(row) for name, row in record["rows"].items()}
        chunks = {name: None if chunk is None else base64.b64decode(chunk) for name, chunk in record["chunks"].items()}
        return SavedFrame(int(record["frame"]), rows, chunks), str(record["after"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ProjectError(
            f"{file} should tell how frames were before the action, and is damaged. What it did cannot be undone; return to "
            "a snapshot instead."
        ) from error
