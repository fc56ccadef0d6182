"""Whole actions (a prediction run, an import, an edit of many frames) that can be undone, after a restart too."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, ClassVar

from psygnal import Signal

from surgicalsam_napari.errors import ProjectError, SurgicalSAMError
from surgicalsam_napari.store.files import stage, write_all, writing

if TYPE_CHECKING:
    from surgicalsam_napari.store.frame_files import FrameFiles

FOLDER = "history"
KEPT_ACTIONS = 50
KEPT_BYTES = 2**30  # of frames as they were before; the latest action is kept whatever its size


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


@dataclass(frozen=True)
class HistoryEntry:
    """One action.

    Attributes
    ----------
    number : ascending in time
    started : ISO 8601, UTC
    frame_count : frames that it wrote
    """

    number: int
    name: str
    started: str
    frame_count: int
    is_undone: bool


@dataclass(frozen=True)
class UndoReport:
    """One more frame was put back, or left alone because it has changed since the action."""

    frame_index: int
    done: int
    total: int
    was_put_back: bool


@dataclass(frozen=True)
class Undone:
    """What undoing, or doing again, came to.

    Attributes
    ----------
    frame_indices : the frames that were put back
    kept : those that somebody has changed since, which stay as they are
    """

    entry: HistoryEntry
    frame_indices: tuple[int, ...]
    kept: tuple[int, ...]


class Action:
    """An action while it is being done: remembers each frame as it was. Given to the writers of a `LabelStore`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.frame_count = 0

    def record(self, before: SavedFrame, after: str) -> None:
        """Note a frame, on disk, just before it changes; an OSError leaves no trace.

        Parameters
        ----------
        after : digest of the frame as it is about to be
        """
        _append(self._file, before, after)
        self.frame_count += 1


class History:
    """The actions of a project, a file each; `undo` takes back the last one that stands.

    A frame that has changed since an action is left alone: what a person painted later stays. Strokes of the brush are no
    actions; napari undoes those.
    """

    changed: ClassVar[Signal] = Signal()  #: in the thread that recorded, undid or redid

    def __init__(self, root: Path, files: FrameFiles) -> None:
        self._root = root
        self._folder = root / FOLDER
        self._files = files
        self._counted: dict[Path, tuple[int, int]] = {}  # bytes and frames of files whose record does not tell

    @contextmanager
    def action(self, name: str, *, all_or_none: bool = False) -> Iterator[Action]:
        """Record what is written with this action as one that can be undone; what was undone before is forgotten.

        Parameters
        ----------
        name : in a user's words, as it stands behind "Undo"
        all_or_none : take everything back where the block ends with an exception

        Raises
        ------
        ProjectError
            the block failed, and some frames could not be put back; the action stays, to be undone later
        """
        self._files.check_writable(name)
        with writing("The history", self._root), self._files.lock:
            self._folder.mkdir(exist_ok=True)
            self._forget([entry for entry in self.entries() if entry.is_undone])
            self._prune()
            started = datetime.now(UTC).isoformat(timespec="seconds")
            entry = HistoryEntry(self._next_number(), name, started, 0, False)
            self._write(entry, is_open=True)
        action = Action(self._frames_file(entry))
        is_taken_back = False
        try:
            yield action
        except BaseException as error:
            if all_or_none:
                self._take_back(entry, error)
                is_taken_back = True
            raise
        finally:
            if action.frame_count and not is_taken_back:
                with suppress(OSError):  # the frames count: an entry without its number of frames is counted again
                    self._write(replace(entry, frame_count=action.frame_count))
            else:
                self._forget([entry])
            self.changed.emit()

    def entries(self) -> list[HistoryEntry]:
        """What was done, the earliest first; damaged entries are left out."""
        found = (self._read(path) for path in sorted(self._folder.glob("*.json")))
        return [entry for entry in found if entry is not None and entry.frame_count]

    @property
    def to_undo(self) -> HistoryEntry | None:
        """The last action that stands."""
        return next((entry for entry in reversed(self.entries()) if not entry.is_undone), None)

    @property
    def to_redo(self) -> HistoryEntry | None:
        """The action that was undone last."""
        return next((entry for entry in self.entries() if entry.is_undone), None)

    def undo(self) -> Undone | None:
        """Take the last action back; None if there is none. See `undoing`."""
        return _exhausted(self.undoing())

    def redo(self) -> Undone | None:
        """Do again what was undone last; None if there is nothing."""
        return _exhausted(self.redoing())

    def undoing(self) -> Generator[UndoReport, None, Undone | None]:
        """`undo`, frame by frame, the last frame first; closed early it can be gone on with.

        Raises
        ------
        ProjectError, DiskSpaceError
            frames reported up to then stay put back
        """
        return (yield from self._turn_back(self.to_undo))

    def redoing(self) -> Generator[UndoReport, None, Undone | None]:
        """`redo`, frame by frame."""
        return (yield from self._turn_back(self.to_redo))

    def _turn_back(self, entry: HistoryEntry | None) -> Generator[UndoReport, None, Undone | None]:
        """Swap the frames of an entry with what they were; what they are now is kept for the way back."""
        if entry is None:
            return None
        source, target = self._frames_file(entry), self._frames_file(replace(entry, is_undone=not entry.is_undone))
        offsets = _line_offsets(source)
        put_back: list[int] = []
        kept: list[int] = []
        for done, offset in enumerate(reversed(offsets), 1):
            before, after = _read_line(source, offset)
            is_back = self._swap(before, after, target)
            (put_back if is_back else kept).append(before.frame_index)
            yield UndoReport(before.frame_index, done, len(offsets), is_back)
        turned = replace(entry, is_undone=not entry.is_undone, frame_count=len(put_back))
        with writing("The history", self._root):
            if put_back:
                self._write(turned)
                source.unlink(missing_ok=True)
            else:
                self._forget([entry])
        self.changed.emit()
        return Undone(entry, tuple(sorted(set(put_back))), tuple(sorted(set(kept) - set(put_back))))

    def _take_back(self, entry: HistoryEntry, cause: BaseException) -> None:
        """Put every frame back that has not changed since, first of all where that frees space."""
        file = self._frames_file(entry)
        failed = []
        for offset in sorted(_line_offsets(file), key=lambda offset: any(_read_line(file, offset)[0].chunks.values())):
            before, after = _read_line(file, offset)
            try:
                self._swap(before, after, None)
            except SurgicalSAMError:
                failed.append(before.frame_index)
        if failed:
            raise ProjectError(
                f"{entry.name} failed ({cause}), and {len(failed)} frames could not be put back: {failed[:20]}. "
                "Mend the cause, then undo it."
            ) from cause

    def _swap(self, before: SavedFrame, after: str, target: Path | None) -> bool:
        """Put one frame back, and note in `target` what it was; False if it has changed since the action."""
        with self._files.exclusively("The frame"):
            now = self._files.saved(before.frame_index)
            if now.digest == before.digest:  # an earlier try was cut off behind this frame
                return True
            if now.digest != after:
                return False
            if target is not None:
                _append(target, now, before.digest)
            self._files.restore(before)
            return True

    # ---- files

    def _json_file(self, entry: HistoryEntry) -> Path:
        return self._folder / f"{entry.number:06}.json"

    def _frames_file(self, entry: HistoryEntry) -> Path:
        return self._folder / f"{entry.number:06}.{'redo' if entry.is_undone else 'undo'}"

    def _next_number(self) -> int:
        return 1 + max((int(path.stem) for path in self._folder.glob("[0-9]*.json")), default=0)

    def _write(self, entry: HistoryEntry, *, is_open: bool = False) -> None:
        record = {
            "name": entry.name,
            "started": entry.started,
            "frames": None if is_open else entry.frame_count,
            "is_undone": entry.is_undone,
        }
        with self._files.lock:  # who opens the project clears the staging folder, holding it
            staged = stage(self._root, json.dumps(record, ensure_ascii=False).encode())
            os.replace(staged, self._json_file(entry))

    def _read(self, path: Path) -> HistoryEntry | None:
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            count = record["frames"]
            entry = HistoryEntry(int(path.stem), record["name"], record["started"], count or 0, bool(record["is_undone"]))
            if count is None or not self._frames_file(entry).exists():  # being recorded, cut off, or forgotten half way
                entry = replace(entry, frame_count=self._frames_in(self._frames_file(entry)))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return entry

    def _frames_in(self, file: Path) -> int:
        """Counts them; again only once the file has grown, for a long run takes seconds to be read through."""
        size = file.stat().st_size if file.exists() else 0
        counted_at, count = self._counted.get(file, (0, 0))
        if size != counted_at:
            count = len(_line_offsets(file))
            self._counted[file] = size, count
        return count

    def _forget(self, entries: list[HistoryEntry]) -> None:
        for entry in entries:
            for is_undone in (False, True):
                self._frames_file(replace(entry, is_undone=is_undone)).unlink(missing_ok=True)
            self._json_file(entry).unlink(missing_ok=True)

    def _prune(self) -> None:
        """Forget the oldest actions, where there are too many or they take too much room."""
        total = 0
        for position, entry in enumerate(reversed(self.entries()), 1):
            with suppress(OSError):
                total += self._frames_file(entry).stat().st_size
            if position >= KEPT_ACTIONS or total > KEPT_BYTES:
                self._forget([entry])


def _exhausted(steps: Generator[UndoReport, None, Undone | None]) -> Undone | None:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def _append(file: Path, before: SavedFrame, after: str) -> None:
    record = {
        "frame": before.frame_index,
        "rows": {name: row.hex() for name, row in before.rows.items()},
        "chunks": {
            name: None if chunk is None else base64.b64encode(chunk).decode() for name, chunk in before.chunks.items()
        },
        "after": after,
    }
    with file.open("a+b", buffering=0) as stream:
        start = _cut_torn_line(stream)
        try:
            write_all(stream.fileno(), json.dumps(record).encode() + b"\n")
        except BaseException:
            os.ftruncate(stream.fileno(), start)
            raise


def _cut_torn_line(stream: IO[bytes]) -> int:
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


def _line_offsets(file: Path) -> list[int]:
    """Where each whole line begins; a last line that a kill cut off is left out."""
    offsets, position = [], 0
    try:
        with file.open("rb") as stream:
            for line in stream:
                if line.endswith(b"\n"):
                    offsets.append(position)
                position += len(line)
    except FileNotFoundError:
        return []
    return offsets


def _read_line(file: Path, offset: int) -> tuple[SavedFrame, str]:
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
