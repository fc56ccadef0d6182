"""The record of an action: each frame as it was before, one line per frame. Several processes may write to the file."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.files import write_all
from surgicalsam_napari.store.disk.checksums import ARRAYS, sealed_record, unsealed_record
from surgicalsam_napari.untrusted import json_from

LINE_KEYS = ("frame", "rows", "chunks", "after")
TRACKS_FILE = "tracks.json"
TRACKS = -1  # the frame index that stands for the table of tracks, which belongs to no single frame


@dataclass(frozen=True)
class SavedFrame:
    """Everything that is stored for one frame; or the table of tracks, as the only chunk of the frame `TRACKS`.

    Attributes
    ----------
    rows : bytes of the frame's row in each table, without trailing cells that hold the table's fill value. So classes that
        are added later make no difference
    chunks : the encoded files "painted", "labels" and "instances"; None for a file that does not exist
    """

    frame_index: int
    rows: Mapping[str, bytes]
    chunks: Mapping[str, bytes | None]

    @property
    def digest(self) -> str:
        """A hash, to compare two states of the frame."""
        hashed = hashlib.blake2b(digest_size=12)
        for name, content in (*sorted(self.rows.items()), *sorted(self.chunks.items())):
            if content:  # what a later version added is empty in an older state
                hashed.update(f"{name} {len(content)} ".encode() + content)
        return hashed.hexdigest()


class Action:
    """An action in progress: it records each frame before the frame changes. Pass it to the write methods of `LabelStore`.

    Other processes join it by its number (`History.joined`).
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    @property
    def number(self) -> int:
        return int(self._file.stem)

    @property
    def position(self) -> int:
        """Where the next record will begin, in bytes. Call it while holding the project's lock."""
        with self._file.open("a+b", buffering=0) as stream:
            return cut_torn_line(stream)

    def record(self, before: SavedFrame, after: str) -> None:
        """Record a frame on disk just before it changes; after an OSError the file is as before.

        Parameters
        ----------
        after : digest of the frame's new state
        """
        append(self._file, before, after)

    def records(self, position: int = 0) -> Iterator[tuple[int, str]]:
        """The frames recorded from `position` on, each with the digest of its intended new state."""
        for offset in line_offsets(self._file, position):
            before, after = read_line(self._file, offset)
            yield before.frame_index, after


class JoinedAction(Action):
    """An action that another process has open. After that process has ended it, it accepts no more frames."""

    def __init__(self, file: Path, is_open: Callable[[], bool]) -> None:
        super().__init__(file)
        self._is_open = is_open

    def record(self, before: SavedFrame, after: str) -> None:
        """As `Action.record`. Call it while holding the project's lock. A ProjectError if the action has ended."""
        if not self._is_open():
            raise ProjectError("The run that this frame belongs to has ended, so the frame was not written. Start it again.")
        super().record(before, after)


def append(file: Path, before: SavedFrame, after: str) -> None:
    record: dict[str, Any] = {
        "frame": before.frame_index,
        "rows": {name: row.hex() for name, row in before.rows.items()},
        "chunks": {
            name: None if chunk is None else base64.b64encode(chunk).decode() for name, chunk in before.chunks.items()
        },
        "after": after,
    }
    record = sealed_record(record, salt=f"{file.name} ")
    with file.open("a+b", buffering=0) as stream:
        start = cut_torn_line(stream)
        try:
            write_all(stream.fileno(), json.dumps(record).encode() + b"\n")
        except BaseException:
            os.ftruncate(stream.fileno(), start)
            raise


def cut_torn_line(stream: IO[bytes]) -> int:
    """Remove an incomplete last line, which a kill may leave, before the next line; returns the new length in bytes."""
    end = stream.seek(0, os.SEEK_END)
    if end:
        stream.seek(end - 1)
    if not end or stream.read(1) == b"\n":
        return end
    stream.seek(0)
    complete_length = stream.read(end).rfind(b"\n") + 1
    stream.truncate(complete_length)
    return complete_length


def line_offsets(file: Path, position: int = 0) -> list[int]:
    """The start of each complete line, in bytes, from `position` on; an incomplete last line is left out."""
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


class LineCounts(NamedTuple):
    """What a file records: its complete lines, how many frames they are about, and whether one is about the table of tracks.

    A frame has several lines if it was written several times, for example by a run and by its vote.
    """

    lines: int = 0
    frames: int = 0
    has_tracks: bool = False


def count_lines(file: Path) -> LineCounts:
    """Count the complete lines of a file, without reading what they restore."""
    lines, begins = 0, set[bytes]()
    with suppress(FileNotFoundError), file.open("rb") as stream:
        for line in stream:
            if line.endswith(b"\n"):
                lines += 1
                begins.add(line[: line.find(b",")])
    tracks = f'{{"frame": {TRACKS}'.encode()
    return LineCounts(lines, len(begins - {tracks}), tracks in begins)


def read_line(file: Path, offset: int) -> tuple[SavedFrame, str]:
    try:
        with file.open("rb") as stream:
            stream.seek(offset)
            record = unsealed_record(json_from(stream.readline()), salt=f"{file.name} ", earlier=LINE_KEYS)
        rows = {name: bytes.fromhex(row) for name, row in record["rows"].items()}
        if not set(record["chunks"]) <= ({TRACKS_FILE} if record["frame"] == TRACKS else set(ARRAYS)):
            raise ValueError
        chunks = {name: None if chunk is None else base64.b64decode(chunk) for name, chunk in record["chunks"].items()}
        return SavedFrame(int(record["frame"]), rows, chunks), str(record["after"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProjectError(
            f"{file} should record the frames before the action, but it is damaged. The action cannot be undone: return to "
            "a snapshot instead."
        ) from error
