"""The files of each frame: labels, painted record, instances and table rows. They change together or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
from psygnal import Signal

from surgicalsam_napari.errors import ProjectError, UnreachableError
from surgicalsam_napari.files import write_file
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.store.disk.action import TRACKS, TRACKS_FILE, Action, SavedFrame
from surgicalsam_napari.store.disk.arrays import FrameArray, FrameCache, chunk_names
from surgicalsam_napari.store.disk.cell_table import CellTable
from surgicalsam_napari.store.disk.checksums import COLUMN, Checksums, check_command
from surgicalsam_napari.store.disk.checksums import FOLDER as CHECKSUMS
from surgicalsam_napari.store.disk.file_records import FileRecords
from surgicalsam_napari.store.disk.files import STAGING, check_reachable, set_aside, writing
from surgicalsam_napari.store.disk.journal import Journal
from surgicalsam_napari.store.disk.merging import followed_numbers
from surgicalsam_napari.store.disk.write_lock import WriteLock
from surgicalsam_napari.store.provenance import EXPECTS, LATER_TABLES, TABLE_NOTES, TABLES, class_attributes, is_corrected
from surgicalsam_napari.store.tracks import NO_TRACKS, is_intact

Found = TypeVar("Found")
CACHE_BYTES = 64 * 2**20
ATTEMPTS, ATTEMPT_SECONDS = 10, 0.02  # to read a frame that another process may write, where nothing can be locked


class _DamagedError(Exception):
    """A file of a frame is not what its checksum says, or cannot be decoded."""


@lru_cache(maxsize=8)  # projects of equal size share it
def _blank_frame(height: int, width: int) -> np.ndarray:
    """(H, W) uint8 of background, read-only."""
    blank = np.zeros((height, width), np.uint8)
    blank.flags.writeable = False
    return blank


class FrameFiles:
    """The files of a LabelStore, read through a cache and changed through a journal.

    Attributes
    ----------
    tables : CellTable by name
    lock : hold it to write
    read_only_reason : why nothing may be written, as a sentence for the user; None if writing is allowed
    blank : (H, W) uint8 of background, read-only
    interrupted_frame : the frame that a killed process has half written, in a folder that is read-only; else None
    """

    changed: ClassVar[Signal] = Signal(int)  #: frame index; emitted after every write, in the thread that wrote
    instances_changed: ClassVar[Signal] = Signal(object)  #: frame index of new numbers, or None for the table of tracks

    def __init__(
        self,
        root: Path,
        shape: tuple[int, int, int],
        classes: ClassSet,
        column_count: int,
        *,
        writable: bool,
        has_checksums: bool,
    ) -> None:
        self._root = root
        self._pixels = FrameArray(root / "labels", shape, "uint8")
        self._painted = FrameArray(root / "painted", shape, "bool")
        self.lock = WriteLock(root)
        if writable:
            self._add_later_parts(shape, classes, column_count, add_checksums=not has_checksums)
        self._instances = FrameArray(root / "instances", shape, "uint8", is_optional=True, has_checksum=False)
        self._arrays = {"painted": self._painted, "labels": self._pixels, "instances": self._instances}  # in write order
        self.tables = {
            name: CellTable(root / name, shape[0], column_count, *properties, is_optional=name in LATER_TABLES)
            for name, properties in TABLES.items()
        }
        self.checksums = Checksums(root, shape[0], self.tables, self._arrays, is_complete=has_checksums)
        self._journal = Journal(root, {**self.tables, CHECKSUMS: self.checksums.table})
        self.read_only_reason: str | None = None
        self._cache = FrameCache(CACHE_BYTES)
        self.blank = _blank_frame(*shape[1:])
        self.interrupted_frame = None
        if writable:
            with writing("The project", root), self.lock:
                self._journal.recover(clean=True)
        else:
            self.interrupted_frame = self._journal.interrupted_frame()

    @staticmethod
    def create(root: Path, shape: tuple[int, int, int], classes: ClassSet) -> None:
        """Make the empty arrays in a new project folder; may raise OSError."""
        about = class_attributes(classes)
        FrameArray.create(root / "labels", shape, "uint8", {"background": 0, **about})
        painted = "True where a person set the label, also to background; no prediction changes these pixels"
        FrameArray.create(root / "painted", shape, "bool", {"description": painted})
        _create_instances(root, shape)
        for name, (dtype, fill) in TABLES.items():
            CellTable.create(root / name, shape[0], len(classes), dtype, fill, {**TABLE_NOTES[name], **about})
        Checksums.create(root, shape[0])

    def _add_later_parts(
        self, shape: tuple[int, int, int], classes: ClassSet, column_count: int, *, add_checksums: bool
    ) -> None:
        """Add the tables and the array that a project of an earlier version lacks."""

        def create_table(name: str) -> None:
            notes = {**TABLE_NOTES[name], **class_attributes(classes)}
            CellTable.create(self._root / name, shape[0], column_count, *TABLES[name], notes)

        parts: dict[str, Callable[[], None]] = {name: partial(create_table, name) for name in LATER_TABLES}
        parts["instances"] = lambda: _create_instances(self._root, shape)
        if add_checksums:
            parts[CHECKSUMS] = lambda: Checksums.create(self._root, shape[0])
        for name, create in parts.items():
            if not (self._root / name).exists():
                with writing("The project", self._root), self.lock:
                    if not (self._root / name).exists():
                        create()

    def close(self) -> None:
        self._cache.clear()
        self.lock.close()

    def rows(self, frame_index: int) -> dict[str, np.ndarray]:
        """The frame's row, (C,), of every table; copies."""
        return {name: table.row(frame_index) for name, table in self.tables.items()}

    def commit(
        self,
        frame_index: int,
        rows: dict[str, np.ndarray],
        *,
        labels: np.ndarray | None = None,
        painted: np.ndarray | None = None,
        numbers: np.ndarray | None = None,
        within: tuple[slice, slice] = (slice(None), slice(None)),
        action: Action | None = None,
    ) -> None:
        """Change one frame on disk, then in the cache; call it within `exclusively`.

        The order on disk: the action's record, table rows with the provenance, the painted record, the labels, the numbers
        of the instances, which follow the labels if they are not given (`followed_numbers`). A file with nothing in it is
        removed, unless the provenance expects it.

        Parameters
        ----------
        within : rows and columns, step 1, outside of which the labels stay
        """
        provenance = rows["provenance"] if "provenance" in rows else self.tables["provenance"].row(frame_index)
        if labels is None and self._pixels.signature(frame_index) is None and EXPECTS["labels"](provenance):
            labels = self.blank  # write background: without a file, the labels would count as lost
        if numbers is None and labels is not None:
            numbers = self._followed_numbers(frame_index, labels, within)
        frames = [(array, frame) for array, frame in zip(self._arrays.values(), (painted, labels, numbers), strict=True)]
        chunks: dict[Path, bytes | None] = {}
        for array, frame in frames:
            if frame is not None:
                is_expected = EXPECTS[array.folder.name](provenance)
                chunks[array.path(frame_index)] = array.encode(frame) if is_expected or frame.view(bool).any() else None
        try:
            if action is not None:
                self._record(action, frame_index, rows, {path.parent.name: content for path, content in chunks.items()})
            self._write(frame_index, rows, chunks)
        except OSError:
            self._cache.drop(frame_index)
            raise
        for array, frame in frames:
            if frame is not None:
                frame.flags.writeable = False
                self._cache.put(array, frame_index, array.signature(frame_index), frame)
        self.changed.emit(frame_index)
        if numbers is not None:
            self.instances_changed.emit(frame_index)

    def _followed_numbers(self, frame_index: int, labels: np.ndarray, within: tuple[slice, slice]) -> np.ndarray | None:
        """(H, W) uint8: the numbers of the frame's instances with new labels; None if they stay as they are."""
        try:
            if (numbers := self._read_expected(self._instances, frame_index)) is None:
                return None
            followed = followed_numbers(self.labels(frame_index), labels, numbers, within)
        except UnreachableError:
            raise
        except ProjectError:  # damaged: the labels count, and the instances of this frame can be linked again
            return self.blank
        return None if followed is numbers else followed

    def readable_numbers(self, frame_index: int) -> np.ndarray | None:
        """(H, W) uint8, read-only: the numbers of the frame's instances; None if it has none, or they are damaged."""
        with suppress(ProjectError):
            return self._read_expected(self._instances, frame_index)
        return None

    def _write(
        self, frame_index: int, rows: dict[str, np.ndarray], chunks: Mapping[Path, bytes | None], *, is_whole: bool = False
    ) -> None:
        """Change the frame and its checksums together; `is_whole` as for `Checksums.after`."""
        record = self.checksums.after(frame_index, rows, chunks, is_whole=is_whole)
        self._journal.commit(frame_index, {**rows, CHECKSUMS: record}, chunks)

    def _record(
        self, action: Action, frame_index: int, rows: dict[str, np.ndarray], chunks: dict[str, bytes | None]
    ) -> None:
        before = self._before(frame_index)
        new_rows = {name: self.trimmed(name, row) for name, row in rows.items()}
        action.record(before, SavedFrame(frame_index, {**before.rows, **new_rows}, {**before.chunks, **chunks}).digest)

    @contextmanager
    def exclusively(self, what: str) -> Iterator[None]:
        """Hold the lock. First complete a change that a killed process had committed.

        Raises
        ------
        ProjectError
            `read_only_reason` says why nothing may be written
        """
        self.check_writable(what)
        with writing(what, self._root), self.lock:
            self._journal.recover()
            yield

    def check_writable(self, what: str) -> None:
        """A ProjectError if `read_only_reason` is set, or the folder cannot be reached."""
        if self.read_only_reason is not None:
            raise ProjectError(f"{what} was not written: {self.read_only_reason}")
        check_reachable(self._pixels.folder)

    def labels(self, frame_index: int) -> np.ndarray:
        """(H, W) uint8, read-only; a ProjectError if the file is damaged."""
        frame = self._read_expected(self._pixels, frame_index)
        return self.blank if frame is None else frame

    def last_known_labels(self, frame_index: int) -> np.ndarray:
        """(H, W) uint8, read-only: as they were read last, also if the folder cannot be reached; else background."""
        frame = self._cache.last_known(self._pixels, frame_index)
        return self.blank if frame is None else frame

    def numbers(self, frame_index: int) -> np.ndarray:
        """(H, W) uint8, read-only: the numbers of the frame's instances; a ProjectError if the file is damaged."""
        frame = self._read_expected(self._instances, frame_index)
        return self.blank if frame is None else frame

    def last_known_numbers(self, frame_index: int) -> np.ndarray:
        """(H, W) uint8, read-only: as they were read last, also if the folder cannot be reached; else 0."""
        frame = self._cache.last_known(self._instances, frame_index)
        return self.blank if frame is None else frame

    def numbers_checksum(self, frame_index: int) -> int:
        """A value that changes with the numbers of the frame's instances; 0 without any."""
        with suppress(ValueError):
            if (record := self.checksums.record(frame_index)) is not None:
                return int(record[COLUMN["instances"]])
        return 0

    def painted(self, frame_index: int) -> np.ndarray | None:
        """(H, W) bool, read-only; None if nobody painted."""
        return self._read_expected(self._painted, frame_index)

    def _read_expected(self, array: FrameArray, frame_index: int) -> np.ndarray | None:
        """A frame of an array, compared with its checksum; None if there is none."""
        frame: np.ndarray | None = None

        def problem() -> str:
            nonlocal frame
            try:
                frame = self._read(array, frame_index)
            except _DamagedError as error:
                return str(error)
            return ""

        if how := self.settled(problem):
            raise self._damaged(array, frame_index, how)
        return frame

    def settled(self, find: Callable[[], Found]) -> Found:
        """What `find` finds wrong. What seems damaged may be what another process writes now: then wait, and look again."""
        if not (found := find()):
            return found
        with suppress(OSError), self.lock:
            self._journal.recover()
            return find()
        for _attempt in range(ATTEMPTS):  # nothing can be locked in a folder that is read-only
            time.sleep(ATTEMPT_SECONDS)
            if not (found := find()):
                break
        return found

    def _read(self, array: FrameArray, frame_index: int) -> np.ndarray | None:
        if frame_index == self.interrupted_frame:
            raise ProjectError(
                f"The program ended while it wrote frame {frame_index}. {self._root} is read-only, so the frame cannot be "
                "completed. Make the folder writable and open the project again; the other frames are intact."
            )
        name = array.folder.name
        try:
            signature = array.signature(frame_index)
            if signature is not None and (cached := self._cache.get(array, frame_index, signature)) is not None:
                return cached
            record = self.checksums.record(frame_index)
            encoded = None if signature is None else array.read_encoded(frame_index)
            self.checksums.check_encoded(name, frame_index, encoded, record)
            if encoded is None:
                return None
            frame = array.decode(encoded)
        except ValueError as error:
            raise _DamagedError(str(error)) from error
        except OSError as error:
            check_reachable(self._pixels.folder)
            raise _DamagedError(f"it is unreadable ({error.strerror})") from error
        frame.flags.writeable = False
        self._cache.put(array, frame_index, signature, frame)
        return frame

    def _damaged(self, array: FrameArray, frame_index: int, how: str) -> ProjectError:
        if array is self._instances:
            remedy = f"Link the instances of frame {frame_index} again"
        elif self.has_work_of_a_person(frame_index, self.tables["provenance"].row(frame_index)):
            remedy = (
                f"{check_command(self._root)}. If that cannot restore it: restore the file from a backup, or clear the "
                f"frame with labels.reset_frame({frame_index})"
            )
        else:
            remedy = f"Segment frame {frame_index} again"
        return ProjectError(
            f"Frame {frame_index} should have its {array.folder.name} in {array.path(frame_index)}: {how}. "
            f"{remedy}; the other frames are intact."
        )

    def saved(self, frame_index: int) -> SavedFrame:
        """Everything that is stored for a frame, or the table of tracks for `TRACKS`. Call it while holding the lock."""
        if frame_index == TRACKS:
            content = _content(self._root / TRACKS_FILE)
            return SavedFrame(TRACKS, {}, {TRACKS_FILE: None if content == NO_TRACKS else content})
        rows = {name: self.trimmed(name, row) for name, row in self.rows(frame_index).items()}
        return SavedFrame(
            frame_index, rows, {name: _content(array.path(frame_index)) for name, array in self._arrays.items()}
        )

    def _before(self, frame_index: int) -> SavedFrame:
        """The frame for the record of an action. What is damaged is recorded as empty: an undo brings no damage back."""
        problems = self.checksums.problems(frame_index)
        if problems.keys() - {"instances"}:
            return SavedFrame(frame_index, dict.fromkeys(self.tables, b""), dict.fromkeys(self._arrays))
        saved = self.saved(frame_index)
        return replace(saved, chunks={**saved.chunks, "instances": None}) if problems else saved

    def restore(self, saved: SavedFrame, action: Action | None = None) -> None:
        """Return a frame, or the table of tracks, to a saved state. Call it while holding the lock."""
        if saved.frame_index == TRACKS:
            self.write_tracks(saved.chunks[TRACKS_FILE], action)
            return
        rows = {name: self.full_row(name, saved.rows.get(name, b"")) for name in self.tables}
        chunks = {array.path(saved.frame_index): saved.chunks.get(name) for name, array in self._arrays.items()}
        if action is not None:
            action.record(self._before(saved.frame_index), saved.digest)
        self._write(saved.frame_index, rows, chunks, is_whole=True)
        self._emit_restored(saved.frame_index)

    def _emit_restored(self, frame_index: int) -> None:
        self._cache.drop(frame_index)
        self.changed.emit(frame_index)
        self.instances_changed.emit(frame_index)

    def write_tracks(self, content: bytes | None, action: Action | None = None) -> None:
        """Replace the file of the table of tracks; None is a table without tracks. Call it while holding the lock.

        A damaged file goes to the folder `damaged`, and is recorded as empty: an undo brings no damage back.
        """
        path = self._root / TRACKS_FILE
        is_lost = not path.exists()
        if self.has_damaged_tracks():
            set_aside(self._root, path)
            is_lost = True
        if action is not None:
            after = None if content == NO_TRACKS else content
            action.record(self.saved(TRACKS), SavedFrame(TRACKS, {}, {TRACKS_FILE: after}).digest)
        content = NO_TRACKS if content is None else content  # a file that is missing would count as lost
        with FileRecords(self._root).replacing(TRACKS_FILE, content, is_new=is_lost):
            write_file(path, content, staging=self._root / STAGING)
        self.instances_changed.emit(None)

    def has_damaged_tracks(self) -> bool:
        """Whether the file of the table of tracks is cut or changed."""
        content = _content(self._root / TRACKS_FILE)
        return content is not None and not is_intact(content)

    def put_back(self, frame_index: int, rows: dict[str, np.ndarray], chunks: dict[Path, bytes | None]) -> None:
        """Write what the frame's checksums expect. Call it while holding the lock."""
        self._journal.commit(frame_index, rows, chunks)
        self._emit_restored(frame_index)

    def seal(self, frame_index: int) -> None:
        """Give a frame the checksums of what is stored now. Call it while holding the lock."""
        self._journal.commit(frame_index, {CHECKSUMS: self.checksums.present(frame_index)}, {})
        self._cache.drop(frame_index)
        self.changed.emit(frame_index)

    def check_readable(self, frame_index: int) -> None:
        """A ProjectError unless the frame can be decoded, and has the files that its provenance expects."""
        provenance = self.tables["provenance"].row(frame_index)
        for name, array in self._arrays.items():
            encoded = array.read_encoded(frame_index)
            try:
                if encoded is not None:
                    array.decode(encoded)
                elif EXPECTS[name](provenance):
                    raise ValueError("missing")
            except ValueError as error:
                raise ProjectError(
                    f"Frame {frame_index} cannot stay as it is: {array.path(frame_index)} is {error}. Restore it from a "
                    "backup, or empty the frame with --clear."
                ) from error

    def trimmed(self, name: str, row: np.ndarray) -> bytes:
        """A row's bytes without the trailing cells that hold the table's fill value, as in `SavedFrame.rows`."""
        return self.tables[name].trimmed(row)

    @property
    def frame_count(self) -> int:
        return self._pixels.shape[0]

    def chunk_name(self, frame_index: int) -> str:
        """The name of a frame's file, the same in the folder of every array."""
        return self._pixels.path(frame_index).name

    def has_labels(self) -> bool:
        """Whether any frame was predicted or edited."""
        return any(next(chunk_names(array.folder), None) is not None for array in (self._painted, self._pixels))

    def has_numbers(self) -> bool:
        """Whether the instances of any frame have numbers."""
        return bool(self._instances.names())

    def full_row(self, name: str, trimmed: bytes) -> np.ndarray:
        """(C,), from `trimmed`."""
        table = self.tables[name]
        row = np.full(table.class_count, table.fill, table.dtype)
        cells = np.frombuffer(trimmed, table.dtype)
        row[: len(cells)] = cells
        return row

    def is_painted(self, frame_index: int) -> bool:
        """Whether a person set any pixel, also if the file with these pixels is lost now; unknown counts as painted."""
        if self._painted.signature(frame_index) is not None:
            return True
        try:
            record = self.checksums.record(frame_index)
        except ValueError:
            return True
        return record is not None and bool(record[COLUMN["painted"]])

    def has_work_of_a_person(self, frame_index: int, provenance: np.ndarray) -> bool:
        """Whether a person worked on the frame; unknown, because its provenance is damaged, counts as work."""
        is_damaged = bool(self.checksums.problems(frame_index, (CHECKSUMS, "provenance")))
        return bool(is_corrected(provenance)) or self.is_painted(frame_index) or is_damaged

    def reset(self, frame_index: int) -> None:
        """Return a frame to its first state: no labels, no provenance."""
        with self.exclusively("The reset"):
            rows = {name: np.full(table.class_count, table.fill, table.dtype) for name, table in self.tables.items()}
            chunks = {array.path(frame_index): None for array in self._arrays.values()}
            self._write(frame_index, rows, chunks, is_whole=True)
        self._emit_restored(frame_index)


def _create_instances(root: Path, shape: tuple[int, int, int]) -> None:
    about = "number of the instance of each pixel, 0 for none; tracks.json says which track a number in a frame is"
    FrameArray.create(root / "instances", shape, "uint8", {"description": about}, has_checksum=False)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
