"""Snapshots: named states of a project's labels that can be restored."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.store.disk.action import TRACKS, Action, SavedFrame
from surgicalsam_napari.store.disk.arrays import FrameArray, chunk_names, decoded, read_metadata
from surgicalsam_napari.store.disk.cell_table import CellTable
from surgicalsam_napari.store.disk.checksums import ARRAYS, Checksums, checksum, sealed_record, unsealed_record
from surgicalsam_napari.store.disk.checksums import FOLDER as CHECKSUMS
from surgicalsam_napari.store.disk.files import writing
from surgicalsam_napari.store.disk.frame_files import TRACKS_FILE, FrameFiles
from surgicalsam_napari.store.history import History
from surgicalsam_napari.store.provenance import TABLES
from surgicalsam_napari.store.tracks import NO_TRACKS
from surgicalsam_napari.untrusted import read_json, read_plain

FOLDER = "snapshots"
RECORD = "snapshot.json"
RECORD_KEYS = ("name", "created", "is_automatic", "has_checksums", "tracks")
KEPT_AUTOMATIC = 10


@dataclass(frozen=True)
class Snapshot:
    """A named state of the labels.

    Attributes
    ----------
    folder : its files
    created : ISO 8601, UTC
    is_automatic : made before an action on many frames; only the latest of these are kept
    has_checksums : whether every frame has, also an empty one
    tracks : the checksum of its table of tracks; 0 without one
    """

    folder: Path
    name: str
    created: str
    is_automatic: bool
    has_checksums: bool = False
    tracks: int = 0


@dataclass(frozen=True)
class RestoreReport:
    """One frame was restored from the snapshot."""

    frame_index: int
    done: int
    total: int


class Snapshots:
    """The snapshots of a project.

    A frame's file is replaced and never changed in place. So a snapshot keeps a hard link to it, which needs no disk space
    until the frame changes (a copy, if the file system has no hard links). The tables are copied: about 15 bytes per frame
    and class.
    """

    def __init__(self, root: Path, files: FrameFiles, history: History) -> None:
        self._root = root
        self._files = files
        self._history = history

    def entries(self) -> list[Snapshot]:
        """The earliest first; damaged ones are left out."""
        entries = []
        for path in (self._root / FOLDER).glob(f"[!.]*/{RECORD}"):
            with suppress(OSError, ValueError, KeyError, TypeError):
                record = unsealed_record(read_json(path), earlier=RECORD_KEYS)
                has_checksums, tracks = bool(record.get("has_checksums")), int(record.get("tracks", 0))
                about = record["name"], record["created"], bool(record["is_automatic"]), has_checksums, tracks
                entries.append(Snapshot(path.parent, *about))
        return sorted(entries, key=lambda snapshot: (snapshot.created, snapshot.folder.name))

    def create(self, name: str, *, is_automatic: bool = False) -> Snapshot:
        """Make a snapshot of the present labels, completely or not at all.

        Raises
        ------
        ProjectError, DiskSpaceError
            an empty name, a failed write
        """
        if not (name := name.strip()):
            raise ProjectError('A snapshot needs a name, such as "before the second round"; got an empty one.')
        folder = self._root / FOLDER
        partial = folder / f".{uuid.uuid4().hex}"
        with self._files.exclusively("The snapshot"):
            created = self._next_time()
            final = folder / f"{created.replace(':', '').split('+')[0]}-{partial.name[1:5]}"
            for leftover in folder.glob(".*"):
                shutil.rmtree(leftover, ignore_errors=True)
            try:
                tracks = self._fill(partial)
                is_complete = self._files.checksums.is_complete
                record = {"name": name, "created": created, "is_automatic": is_automatic, "has_checksums": is_complete}
                record |= {"tracks": tracks} if tracks else {}
                (partial / RECORD).write_text(json.dumps(sealed_record(record), ensure_ascii=False), encoding="utf-8")
                os.rename(partial, final)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
        if is_automatic:
            automatic = [snapshot for snapshot in self.entries() if snapshot.is_automatic]
            for old in automatic[:-KEPT_AUTOMATIC]:
                self.remove(old)
        return Snapshot(final, name, created, is_automatic, is_complete, tracks)

    def create_before(self, action: str) -> Snapshot | None:
        """Make the automatic snapshot before an action on many frames; None if there are no labels yet."""
        if not self._files.has_labels():
            return None
        return self.create(f"Before: {action}", is_automatic=True)

    def remove(self, snapshot: Snapshot) -> None:
        """Delete a snapshot; the labels stay."""
        with writing("The snapshot", self._root):
            hidden = snapshot.folder.with_name(f".{snapshot.folder.name}")
            os.rename(snapshot.folder, hidden)
            shutil.rmtree(hidden, ignore_errors=True)

    def restore(self, snapshot: Snapshot) -> None:
        """Restore a snapshot; see `restoring`."""
        for _report in self.restoring(snapshot):
            pass

    def restoring(self, snapshot: Snapshot) -> Generator[RestoreReport, None, None]:
        """Restore every frame, including painted pixels and verification, and the tracks, as one action that can be undone.

        Classes that were added later become empty. If it is closed early or killed, a new call resumes it.

        Raises
        ------
        ProjectError, DiskSpaceError
            a damaged snapshot, before anything is written; a failed write: the frames reported so far stay restored
        """
        content = SnapshotContent(snapshot)
        frame_indices = self._changed_since(snapshot, content.tables)
        for frame_index in (*frame_indices, TRACKS):
            content.saved(frame_index)
        with self._history.action(f'Return to "{snapshot.name}"') as action:
            self._restore(content.saved(TRACKS), action)
            for done, frame_index in enumerate(frame_indices, 1):
                self._restore(content.saved(frame_index), action)
                yield RestoreReport(frame_index, done, len(frame_indices))

    def _restore(self, saved: SavedFrame, action: Action) -> None:
        with self._files.exclusively("The frame"):
            if self._files.saved(saved.frame_index).digest != saved.digest:
                self._files.restore(saved, action)

    def problems(self, read: dict[tuple[int, ...], int] | None = None) -> Iterator[tuple[Path, str]]:
        """The damaged files of all snapshots, each with what is wrong, in words; `read` as for `Checksums.suspects`."""
        intact = {snapshot.folder: snapshot for snapshot in self.entries()}
        for folder in sorted((self._root / FOLDER).glob("[!.]*")):
            if folder in intact:
                try:
                    found = list(SnapshotContent(intact[folder]).problems(read))
                except (ProjectError, OSError) as error:
                    found = [(folder, str(error))]
                if folder.exists():  # else another process has removed it meanwhile
                    yield from found
            elif folder.is_dir():
                yield folder / RECORD, "it is missing, cut or changed"

    def states(self, frame_indices: Iterable[int]) -> Iterator[tuple[str, SavedFrame]]:
        """The intact states of these frames in the snapshots, the latest snapshot first."""
        for snapshot in reversed(self.entries()):
            with suppress(ProjectError, OSError):
                content = SnapshotContent(snapshot)
                for frame_index in frame_indices:
                    with suppress(ProjectError, OSError):
                        yield f'the snapshot "{snapshot.name}"', content.saved(frame_index)

    def _next_time(self) -> str:
        """The time now, ISO 8601; after that of every snapshot, also if the clock is coarse or was set back."""
        now = datetime.now(UTC)
        if entries := self.entries():
            with suppress(ValueError):
                now = max(now, datetime.fromisoformat(entries[-1].created) + timedelta(microseconds=1))
        return now.isoformat(timespec="microseconds")

    def _fill(self, folder: Path) -> int:
        """Copy and link the files; returns the checksum of the table of tracks."""
        for name in TABLES:
            shutil.copytree(self._root / name, folder / name)
        if (self._root / CHECKSUMS).exists():
            shutil.copytree(self._root / CHECKSUMS, folder / CHECKSUMS)
        for name in ARRAYS:
            (folder / name).mkdir()
            source, target = f"{self._root / name}{os.sep}", f"{folder / name}{os.sep}"
            for chunk in chunk_names(self._root / name):
                _link(source + chunk, target + chunk)
        tracks = _content(self._root / TRACKS_FILE)
        if tracks is not None:
            (folder / TRACKS_FILE).write_bytes(tracks)
        return checksum(tracks)

    def _changed_since(self, snapshot: Snapshot, tables: dict[str, CellTable]) -> list[int]:
        """The frames that may differ from a snapshot: other table rows, or a file with another time or size."""
        differs = np.zeros(self._files.frame_count, bool)
        for name, table in tables.items():
            now, then = self._files.tables[name].table(), table.table(len(differs))
            width = then.shape[1]
            differs |= ((now[:, :width] != then) & ~((now[:, :width] != now[:, :width]) & (then != then))).any(axis=1)
            fill = table.fill
            added = now[:, width:]
            differs |= (~np.isnan(added) if np.isnan(fill) else added != fill).any(axis=1)
        for name in ARRAYS:
            files_now, files_then = (_identities(root / name) for root in (self._root, snapshot.folder))
            for chunk in files_now.keys() | files_then.keys():
                if files_now.get(chunk) != files_then.get(chunk):
                    differs[int(chunk.split(".")[1])] = True
        return np.flatnonzero(differs).tolist()


class SnapshotContent:
    """The frames of a snapshot, compared with the checksums that it has."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._folder = folder = snapshot.folder
        self.tables = {name: _table(folder / name, name) for name in TABLES if (folder / name).exists()}
        frame_count = self.tables["provenance"].frame_count if "provenance" in self.tables else 0
        arrays = {name: SnapshotArray(folder / name) for name in ARRAYS}
        has_checksums, self._tracks = snapshot.has_checksums, snapshot.tracks
        self.checksums = Checksums(folder, frame_count, self.tables, arrays, is_complete=has_checksums)

    def saved(self, frame_index: int) -> SavedFrame:
        """A frame, or the table of tracks; empty if the snapshot is shorter. A ProjectError if it is damaged."""
        if frame_index == TRACKS:
            return SavedFrame(TRACKS, {}, {TRACKS_FILE: self._table_of_tracks()})
        if frame_index >= self.checksums.frame_count:
            return SavedFrame(frame_index, dict.fromkeys(self.tables, b""), dict.fromkeys(ARRAYS))
        if problems := self.checksums.problems(frame_index):
            raise self.checksums.error(frame_index, problems)
        rows = {name: table.trimmed(table.row(frame_index)) for name, table in self.tables.items()}
        return SavedFrame(
            frame_index, rows, {name: _content(self._folder / name / FrameArray.path_name(frame_index)) for name in ARRAYS}
        )

    def _table_of_tracks(self) -> bytes | None:
        content = _content(self._folder / TRACKS_FILE)
        if checksum(content) != self._tracks:
            raise ProjectError(
                f"{self._folder / TRACKS_FILE} should be the table of tracks of the snapshot, but it is missing or changed. "
                "Restore the file from a backup, or return to another snapshot."
            )
        return None if content == NO_TRACKS else content

    def problems(self, read: dict[tuple[int, ...], int] | None = None) -> Iterator[tuple[Path, str]]:
        """The damaged files, each with what is wrong, in words."""
        if checksum(_content(self._folder / TRACKS_FILE)) != self._tracks:
            yield self._folder / TRACKS_FILE, "it is missing, cut or changed"
        for _done, suspects in self.checksums.suspects(read):
            for frame_index in suspects:
                for part, how in self.checksums.problems(frame_index).items():
                    yield self.checksums.files(frame_index, part)[0], f"frame {frame_index}: {how}"


class SnapshotArray(FrameArray):
    """The files of a snapshot's frames, which have no zarr.json."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read_encoded(self, frame_index: int) -> bytes | None:
        return _content(self.path(frame_index))

    def names(self) -> set[str]:
        """Empty for an array that a later version added."""
        return set(chunk_names(self.folder)) if self.folder.exists() else set()

    def decode(self, encoded: bytes) -> np.ndarray:
        """The bytes of a frame; ValueError if they are damaged."""
        return decoded(encoded)


def _table(folder: Path, name: str) -> CellTable:
    frame_count, class_count = read_metadata(folder)["shape"]
    return CellTable(folder, frame_count, class_count, *TABLES[name])


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # the file system has no hard links, or too many already
        shutil.copy2(source, target)


def _identities(folder: Path) -> dict[str, tuple[int, int]]:
    """Modification time and size of each chunk; hard links and `copy2` preserve both. {} without the folder."""
    if not folder.exists():
        return {}
    return {
        entry.name: (entry.stat().st_mtime_ns, entry.stat().st_size)
        for entry in os.scandir(folder)
        if entry.name.startswith("c.")
    }


def _content(path: Path) -> bytes | None:
    try:
        return read_plain(path)
    except FileNotFoundError:
        return None
