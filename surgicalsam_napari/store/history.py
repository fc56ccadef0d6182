"""The actions of a project, such as a prediction run or an import: each can be undone, also after a restart."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from psygnal import Signal

from surgicalsam_napari.errors import ProjectError, SurgicalSAMError
from surgicalsam_napari.files import write_file
from surgicalsam_napari.store.disk.action import (
    TRACKS,
    Action,
    JoinedAction,
    LineCounts,
    SavedFrame,
    append,
    count_lines,
    line_offsets,
    read_line,
)
from surgicalsam_napari.store.disk.checksums import sealed_record, unsealed_record
from surgicalsam_napari.store.disk.file_records import FileRecords
from surgicalsam_napari.store.disk.files import STAGING, writing
from surgicalsam_napari.untrusted import read_json

if TYPE_CHECKING:
    from surgicalsam_napari.store.disk.frame_files import FrameFiles

FOLDER = "history"
RECORD_KEYS = ("name", "started", "frames", "is_undone", "lines", "note", "tracks")
KEPT_ACTIONS = 50
KEPT_BYTES = 2**30  # total size of the records; the latest action is kept at any size


@dataclass(frozen=True)
class HistoryEntry:
    """One action.

    Attributes
    ----------
    number : later actions have higher numbers
    started : ISO 8601, UTC
    frame_count : number of frames that it wrote, each counted once
    is_open : whether it is still in progress, or its process died before it ended
    note : how it was done, such as the choices of an import; "" if there is nothing to say
    has_tracks : whether it changed the table of tracks
    """

    number: int
    name: str
    started: str
    frame_count: int
    is_undone: bool
    is_open: bool = False
    note: str = ""
    has_tracks: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether it changed nothing."""
        return not self.frame_count and not self.has_tracks


@dataclass(frozen=True)
class UndoReport:
    """One frame was restored, or kept because it has changed since the action; `TRACKS` (-1) for the table of tracks."""

    frame_index: int
    done: int
    total: int
    is_restored: bool


@dataclass(frozen=True)
class Undone:
    """The result of an undo or a redo.

    Attributes
    ----------
    frame_indices : the frames that were restored
    kept : the frames that have changed since the action; they stay as they are
    has_tracks : whether the table of tracks was restored
    """

    entry: HistoryEntry
    frame_indices: tuple[int, ...]
    kept: tuple[int, ...]
    has_tracks: bool = False


class History:
    """The actions of a project, with one record file each; `undo` undoes the last action that is not undone yet.

    A frame that has changed since the action is kept: what a person painted later stays. Brush strokes are not actions;
    napari undoes them.
    """

    changed: ClassVar[Signal] = Signal()  #: emitted in the thread that recorded, undid or redid

    def __init__(self, root: Path, files: FrameFiles) -> None:
        self._root = root
        self._folder = root / FOLDER
        self._files = files
        self._counted: dict[Path, tuple[int, LineCounts]] = {}  # size and lines of files whose record has no count

    @contextmanager
    def action(self, name: str, *, note: str = "", all_or_none: bool = False) -> Iterator[Action]:
        """Record what is written with this action, so that it can be undone. Undone actions can no longer be redone then.

        Parameters
        ----------
        name : for the user, shown after "Undo"
        note : for the user, how it is done; kept in the history
        all_or_none : undo everything if the block ends with an exception

        Raises
        ------
        ProjectError
            the block failed, and some frames could not be restored; the action is kept, and can be undone later
        """
        self._files.check_writable(name)
        with writing("The history", self._root), self._files.lock:
            self._folder.mkdir(exist_ok=True)
            self._forget([entry for entry in self.entries() if entry.is_undone])
            self._prune()
            started = datetime.now(UTC).isoformat(timespec="seconds")
            entry = HistoryEntry(self.last_number + 1, name, started, 0, False, note=note)
            self._write(entry, is_open=True)
            FileRecords(self._root).note_actions(added=entry.number)
        action = Action(self._frames_file(entry))
        is_rolled_back = False
        try:
            yield action
        except BaseException as error:
            if all_or_none:
                self._roll_back(entry, error)
                is_rolled_back = True
            raise
        finally:
            with writing("The history", self._root), self._files.lock:  # after this, a joined process writes no more frames
                counts = count_lines(self._frames_file(entry))
                entry = replace(entry, frame_count=counts.frames, has_tracks=counts.has_tracks)
                if entry.is_empty or is_rolled_back:
                    self._forget([entry])
                else:
                    with suppress(OSError):  # without this number, the frames of the entry are counted when it is read
                        self._write(entry, line_count=counts.lines)
            self.changed.emit()

    def position(self, action: Action) -> int:
        """Where the next record of an action will begin, in bytes; for `written`."""
        with self._files.exclusively("The history"):
            return action.position

    def joined(self, number: int) -> Action:
        """Join an action that another process has open; frames written with it are undone together with the others."""
        entry = HistoryEntry(number, "", "", 0, False)
        return JoinedAction(self._frames_file(entry), lambda: self._is_open(entry))

    def written(self, action: Action, frame_indices: Iterable[int], position: int = 0) -> set[int]:
        """The frames that were recorded from `position` on and are still as the action wrote them.

        A frame that was recorded and not written, because its process died in between, is left out.
        """
        wanted = set(frame_indices)
        with self._files.exclusively("The frames"):
            recorded = {index: after for index, after in action.records(position) if index in wanted}
            return {index for index, after in recorded.items() if self._files.saved(index).digest == after}

    def entries(self) -> list[HistoryEntry]:
        """The actions, the earliest first; damaged entries are left out."""
        entries = (self._read(path) for path in sorted(self._folder.glob("*.json")))
        return [entry for entry in entries if entry is not None and not entry.is_empty]

    @property
    def last_number(self) -> int:
        """The number of the last action, also if it is undone; 0 without any."""
        return max((int(path.stem) for path in self._folder.glob("[0-9]*.json")), default=0)

    @property
    def to_undo(self) -> HistoryEntry | None:
        """The last action that is not undone."""
        return next((entry for entry in reversed(self.entries()) if not entry.is_undone), None)

    @property
    def to_redo(self) -> HistoryEntry | None:
        """The action that was undone last."""
        return next((entry for entry in self.entries() if entry.is_undone), None)

    def undo(self) -> Undone | None:
        """Undo the last action; None if there is none. See `undoing`."""
        return _exhausted(self.undoing())

    def redo(self) -> Undone | None:
        """Redo the action that was undone last; None if there is none."""
        return _exhausted(self.redoing())

    def undoing(self) -> Generator[UndoReport, None, Undone | None]:
        """`undo`, frame by frame, the last frame first. If it is closed early, a new call resumes it.

        Raises
        ------
        ProjectError, DiskSpaceError
            a damaged record, a failed write; the frames reported so far stay restored
        """
        return (yield from self._turn_back(self.to_undo))

    def redoing(self) -> Generator[UndoReport, None, Undone | None]:
        """`redo`, frame by frame."""
        return (yield from self._turn_back(self.to_redo))

    def _turn_back(self, entry: HistoryEntry | None) -> Generator[UndoReport, None, Undone | None]:
        """Restore the frames of an entry, and record their present state for the opposite step (undo or redo)."""
        if entry is None:
            return None
        source, target = self._frames_file(entry), self._frames_file(replace(entry, is_undone=not entry.is_undone))
        offsets = line_offsets(source)
        restored: list[int] = []
        kept: list[int] = []
        for done, offset in enumerate(reversed(offsets), 1):
            before, after = read_line(source, offset)
            is_restored = self._swap(before, after, target)
            (restored if is_restored else kept).append(before.frame_index)
            yield UndoReport(before.frame_index, done, len(offsets), is_restored)
        has_tracks = TRACKS in restored
        frame_count = len(set(restored) - {TRACKS})
        turned = replace(entry, is_undone=not entry.is_undone, frame_count=frame_count, has_tracks=has_tracks)
        with writing("The history", self._root):
            if restored:
                self._write(turned, line_count=len(line_offsets(target)))
                source.unlink(missing_ok=True)
            else:
                self._forget([entry])
        self.changed.emit()
        frames = set(restored) - {TRACKS}
        return Undone(entry, tuple(sorted(frames)), tuple(sorted(set(kept) - frames - {TRACKS})), has_tracks)

    def _roll_back(self, entry: HistoryEntry, cause: BaseException) -> None:
        """Restore every frame that has not changed since; first the frames whose restoring frees disk space.

        A frame that was written several times goes back step by step, the last write first.
        """
        file = self._frames_file(entry)
        failed = []
        writes: dict[int, list[int]] = {}  # by frame, the last first
        for offset in reversed(line_offsets(file)):
            writes.setdefault(read_line(file, offset)[0].frame_index, []).append(offset)
        frames = sorted(writes.values(), key=lambda offsets: any(read_line(file, offsets[-1])[0].chunks.values()))
        for offset in chain.from_iterable(frames):
            before, after = read_line(file, offset)
            try:
                self._swap(before, after, None)
            except SurgicalSAMError:
                failed.append(before.frame_index)
        if failed:
            raise ProjectError(
                f"{entry.name} failed ({cause}), and {len(failed)} frames could not be restored: {failed[:20]}. "
                "Check the disk and its free space, then undo the action."
            ) from cause

    def _swap(self, before: SavedFrame, after: str, target: Path | None) -> bool:
        """Restore one frame, and record its present state in `target`; False if it has changed since the action."""
        with self._files.exclusively("The frame"):
            now = self._files.saved(before.frame_index)
            if now.digest == before.digest:  # an earlier call was interrupted after this frame
                return True
            if now.digest != after:
                return False
            if target is not None:
                append(target, now, before.digest)
            self._files.restore(before)
            return True

    # ---- files

    def _json_file(self, entry: HistoryEntry) -> Path:
        return self._folder / f"{entry.number:06}.json"

    def _frames_file(self, entry: HistoryEntry) -> Path:
        return self._folder / f"{entry.number:06}.{'redo' if entry.is_undone else 'undo'}"

    def _write(self, entry: HistoryEntry, *, line_count: int | None = None, is_open: bool = False) -> None:
        record: dict[str, Any] = {
            "name": entry.name,
            "started": entry.started,
            "frames": None if is_open else entry.frame_count,
            "is_undone": entry.is_undone,
            "lines": line_count,  # of the file with the frames; None while frames are added
            **({"note": entry.note} if entry.note else {}),
            **({"tracks": True} if entry.has_tracks else {}),
        }
        with self._files.lock:  # a process that opens the project clears the staging folder while it holds the lock
            content = json.dumps(sealed_record(record), ensure_ascii=False).encode()
            write_file(self._json_file(entry), content, staging=self._root / STAGING)

    def _read(self, path: Path) -> HistoryEntry | None:
        try:
            record = unsealed_record(read_json(path), earlier=RECORD_KEYS)
            count = record["frames"]
            about = record["name"], record["started"], count or 0, bool(record["is_undone"])
            note = str(record.get("note", ""))
            has_tracks = bool(record.get("tracks"))
            entry = HistoryEntry(int(path.stem), *about, is_open=count is None, note=note, has_tracks=has_tracks)
            if count is None or not self._frames_file(entry).exists():  # in progress, interrupted, or partly removed
                counts = self._counted_in(self._frames_file(entry))
                entry = replace(entry, frame_count=counts.frames, has_tracks=counts.has_tracks)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return entry

    def _counted_in(self, file: Path) -> LineCounts:
        """`count_lines`; it counts again only when the file has changed, because a long record takes seconds to read."""
        size = file.stat().st_size if file.exists() else 0
        if size != self._counted.get(file, (0, LineCounts()))[0]:
            self._counted[file] = size, count_lines(file)
        return self._counted[file][1] if size else LineCounts()

    def _is_open(self, entry: HistoryEntry) -> bool:
        """Whether the action is in progress: its process has not ended it."""
        try:
            return read_json(self._json_file(entry))["frames"] is None
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def _forget(self, entries: list[HistoryEntry]) -> None:
        with suppress(OSError), self._files.lock:  # a full disk
            FileRecords(self._root).note_actions(removed=tuple(entry.number for entry in entries))
        for entry in entries:
            with suppress(OSError):  # a full disk
                nothing = replace(entry, frame_count=0, has_tracks=False)
                self._write(nothing, line_count=0)  # a kill after this leaves nothing that looks lost
            for is_undone in (False, True):
                self._frames_file(replace(entry, is_undone=is_undone)).unlink(missing_ok=True)
            self._json_file(entry).unlink(missing_ok=True)

    def _prune(self) -> None:
        """Forget the oldest actions, if there are too many or their records are too large."""
        total = 0
        for position, entry in enumerate(reversed(self.entries()), 1):
            with suppress(OSError):
                total += self._frames_file(entry).stat().st_size
            if position >= KEPT_ACTIONS or total > KEPT_BYTES:
                self._forget([entry])

    def problems(self) -> Iterator[tuple[Path, str]]:
        """The damaged files, each with what is wrong, in words. Call it while holding the lock."""
        known: set[Path] = set()
        for path in sorted(self._folder.glob("[0-9]*.json")):
            entry = self._read(path)
            if entry is None:
                yield path, "it is cut or changed"
                known |= {path.with_suffix(suffix) for suffix in (".undo", ".redo")}
                continue
            file, opposite = self._frames_file(entry), self._frames_file(replace(entry, is_undone=not entry.is_undone))
            known |= {file, opposite}
            record = read_json(path)
            expected = record.get("lines", record["frames"] if not entry.is_undone else None)
            if expected and not file.exists():
                yield file, "it is missing"
                continue
            left = len(line_offsets(file))
            if expected is not None and left < expected:
                yield file, f"it should record {expected} frames, {left} are left"
                continue
            for each in (file, opposite):  # an undo that was interrupted leaves both
                lines = enumerate(line_offsets(each), 1)
                if damaged := [number for number, offset in lines if not _is_readable(each, offset)]:
                    yield each, f"line {damaged[0]} is cut or changed"
        for file in sorted({*self._folder.glob("[0-9]*.undo"), *self._folder.glob("[0-9]*.redo")} - known):
            yield file.with_suffix(".json"), f"it is missing; it describes {file.name}"

    def states(self, frame_indices: set[int]) -> Iterator[tuple[str, SavedFrame]]:
        """Earlier states of these frames, as recorded by the actions, the latest action first; damaged ones are left out."""
        for path in sorted(self._folder.glob("[0-9]*.json"), reverse=True):
            entry = self._read(path)
            if entry is None:
                continue
            for offset in reversed(line_offsets(self._frames_file(entry))):
                with suppress(ProjectError):
                    before, _ = read_line(self._frames_file(entry), offset)
                    if before.frame_index in frame_indices:
                        yield f'the state before "{entry.name}"', before


def _is_readable(file: Path, offset: int) -> bool:
    try:
        read_line(file, offset)
    except ProjectError:
        return False
    return True


def _exhausted(steps: Generator[UndoReport, None, Undone | None]) -> Undone | None:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
