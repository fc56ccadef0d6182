"""Checking a whole project: every file is compared with its checksum, and damage is restored from history or a snapshot."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.store.disk.action import TRACKS_FILE, SavedFrame
from surgicalsam_napari.store.disk.arrays import chunk_names
from surgicalsam_napari.store.disk.cell_table import ROWS
from surgicalsam_napari.store.disk.checksums import ARRAYS, COLUMN, FOLDER, check_command, checksum
from surgicalsam_napari.store.disk.file_records import FileRecords
from surgicalsam_napari.store.disk.files import SET_ASIDE, set_aside, writing
from surgicalsam_napari.store.disk.frame_files import FrameFiles
from surgicalsam_napari.store.manifest import MANIFEST
from surgicalsam_napari.store.part_labels import PARTS

if TYPE_CHECKING:
    from surgicalsam_napari.store.project import Project

FRAMES_NAMED = 10


@dataclass(frozen=True)
class Damage:
    """A damaged part of a project.

    Attributes
    ----------
    path : the damaged file
    how : what is wrong, in words
    frame_index : the frame; None for a file that belongs to no single frame
    remedy : what a person can do; "" once it is restored
    restored_from : where it was restored from; "" if it was not
    """

    path: Path
    how: str
    frame_index: int | None = None
    remedy: str = ""
    restored_from: str = ""

    def __str__(self) -> str:
        where = "" if self.frame_index is None else f"frame {self.frame_index}: "
        end = f"restored from {self.restored_from}" if self.restored_from else self.remedy
        return f"{where}{self.path}: {self.how}. {end[:1].upper()}{end[1:]}."


@dataclass(frozen=True)
class CheckReport:
    """Some more frames were checked; `found` lists all damage until now."""

    done: int
    total: int
    found: tuple[Damage, ...]


def checking(project: Project, *, repair: bool = False) -> Generator[CheckReport, None, tuple[Damage, ...]]:
    """Check every file of labels, instances, tables, tracks, history, snapshots and notes, also of the parts.

    Returns all damage.

    A project of an earlier version gets its checksums now, if it can be written.

    Parameters
    ----------
    repair : restore what is found unchanged in the history or in a snapshot; damaged files go to the folder `damaged`

    Raises
    ------
    ProjectError, DiskSpaceError
        a failed write, or a repair of a read-only project
    """
    found: tuple[Damage, ...] = ()
    projects, unreadable = project_and_parts(project)
    frame_count = len(project.labels)
    for position, each in enumerate(projects):
        reports = _Check(each, repair=repair).frames()
        while True:
            try:
                report = next(reports)
            except StopIteration as end:
                found += end.value
                break
            done, total = position * frame_count + report.done, len(projects) * frame_count
            yield CheckReport(done, total, found + report.found)
    if unreadable:
        found += unreadable
        yield CheckReport(len(projects) * frame_count, len(projects) * frame_count, found)
    return found


def project_and_parts(project: Project) -> tuple[list[Project], tuple[Damage, ...]]:
    """The project and its parts; if these cannot be opened, why."""
    try:
        parts = project.parts
    except ProjectError as error:
        what, _, remedy = str(error).partition(". ")
        return [project], (Damage(project.folder / PARTS / MANIFEST, what, remedy=remedy.rstrip(".")),)
    return [project] if parts is None else [project, parts], ()


def damaged_frames(project: Project) -> list[int]:
    """The frames whose table rows are damaged, or whose files are missing or stray; quick, because it reads no pixels."""
    files = project.labels.files
    return [index for index in files.checksums.suspect_rows() if _confirmed(files, index)]


def file_problems(project: Project) -> Iterator[tuple[Path, str]]:
    """The missing and changed files that belong to no frame, each with what is wrong, in words."""
    return FileRecords(project.folder).problems(is_expected=project.manifest.has_file_records)


def accept_files(project: Project) -> list[Path]:
    """Take the files that belong to no frame as they are now, after a person has looked at them; returns those changed."""
    accepted = []
    for each in project_and_parts(project)[0]:
        changed = [path for path, _ in each.labels.files.settled(partial(_listed_problems, each))]
        if changed:
            each.labels.check_writable("The checksums")
            each.begin_file_records()
        accepted += changed
    return accepted


def _listed_problems(project: Project) -> list[tuple[Path, str]]:
    return list(file_problems(project))


def _keep_or_restore(root: Path) -> str:
    return (
        "Restore it from a backup (surgicalsam restore). If you changed it yourself, or it is not needed: "
        f'`surgicalsam check "{root}" --accept files` keeps what is there'
    )


def check_intact(project: Project) -> None:
    """A ProjectError if `damaged_frames` finds any, so that nothing damaged is exported or learned from."""
    if notice := damage_notice(project):
        raise ProjectError(notice)


def damage_notice(project: Project) -> str:
    """What `damaged_frames` finds and what to do, also for the parts, as text for the user; "" if it finds nothing."""
    projects, unreadable = project_and_parts(project)
    return " ".join(filter(None, (*map(_notice_of, projects), *(f"{each.how}. {each.remedy}." for each in unreadable))))


def _notice_of(project: Project) -> str:
    if MANIFEST in (problems := {path.name: how for path, how in file_problems(project)}):
        path = project.folder / MANIFEST
        return (
            f"{path}, which has the classes, is not as it was written: {problems[MANIFEST]}. "
            f"{_keep_or_restore(project.folder)}."
        )
    if not (damaged := damaged_frames(project)):
        return ""
    named = ", ".join(map(str, damaged[:FRAMES_NAMED])) + (", …" if len(damaged) > FRAMES_NAMED else "")
    return (
        f"{project.folder.name} should be intact, and files of {counted(len(damaged), 'frame')} are damaged ({named}). "
        f"{check_command(project.folder)}."
    )


def complete_tables(project: Project) -> None:
    """Give table chunks that were cut their full size, so that the project can be opened and shown.

    The rows that were lost count as damaged, frame by frame; a copy of the chunk stays in the folder `damaged`. Does nothing
    in a project of an earlier version, whose rows have no checksums, or in one that is read-only.
    """
    if project.writable and project.manifest.has_checksums:
        with project.labels.files.exclusively("The repair"):
            _complete_tables(project)


def accept(project: Project, frame_indices: Iterable[int]) -> list[int]:
    """Take damaged frames as they are now, after a person has looked at them; returns those that were damaged.

    As for `clear`, also their parts.

    Raises
    ------
    ProjectError
        a file of a frame is missing or cannot be read, so there is nothing to accept
    """
    accepted = set()
    for files, frame_index in product([each.labels.files for each in project_and_parts(project)[0]], list(frame_indices)):
        with files.exclusively("The frame"):
            if not files.checksums.problems(frame_index):
                continue
            files.check_readable(frame_index)
            files.seal(frame_index)
            accepted.add(frame_index)
    return sorted(accepted)


def clear(project: Project, frame_indices: Iterable[int]) -> list[int]:
    """Empty damaged frames, and set their files aside in the folder `damaged`; returns those that were damaged.

    Where only the numbers of the instances are damaged, only those are removed.
    """
    cleared = set()
    for each, frame_index in product(project_and_parts(project)[0], list(frame_indices)):
        files = each.labels.files
        with files.exclusively("The frame"):
            problems = files.checksums.problems(frame_index)
            only_instances = problems.keys() == {"instances"}
            if problems:
                _complete_tables(each)
                for name in ("instances",) if only_instances else ARRAYS:
                    set_aside(each.folder, files.checksums.files(frame_index, name)[0])
            if only_instances:
                files.commit(frame_index, {}, numbers=files.blank)
        if problems and not only_instances:
            each.labels.reset_frame(frame_index)
        if problems:
            cleared.add(frame_index)
    return sorted(cleared)


def _confirmed(files: FrameFiles, frame_index: int) -> dict[str, str]:
    """What is wrong with a frame while no other process writes."""
    if frame_index == files.interrupted_frame:
        return {"labels": "the program ended while it wrote this frame; make the folder writable and open the project again"}
    return files.settled(lambda: files.checksums.problems(frame_index))


class _Check:
    def __init__(self, project: Project, *, repair: bool) -> None:
        self._project, self._root = project, project.folder
        self._labels, self._files = project.labels, project.labels.files
        self._repair = repair
        self._found: list[Damage] = []
        self._copied: set[Path] = set()
        self._read: dict[tuple[int, ...], int] = {}
        if repair:
            self._labels.check_writable("The repair")
            with self._files.exclusively("The repair"):
                self._found += _complete_tables(project)

    def frames(self) -> Generator[CheckReport, None, tuple[Damage, ...]]:
        checksums, damaged = self._files.checksums, []
        total = checksums.frame_count
        for done, suspects in checksums.suspects(self._read):
            damaged += [index for index in suspects if _confirmed(self._files, index)]
            if done % ROWS == 0 or done == total:
                self._add_checksums(range((done - 1) // ROWS * ROWS, done))
            yield CheckReport(done, total, tuple(self._found))
        self._restore(damaged)
        for path, how in self._strays():
            self._found.append(self._stray(path, how))
        self._whole_files()
        if not self._found and self._project.writable:
            if not checksums.is_complete:
                self._project.note_checksums()
            if not self._project.manifest.has_file_records:
                self._project.begin_file_records()
        yield CheckReport(total, total, tuple(self._found))
        return tuple(self._found)

    def _add_checksums(self, frame_indices: range) -> None:
        """Give the frames of a project of an earlier version their checksums, except damaged ones."""
        checksums = self._files.checksums
        if checksums.is_complete or self._files.read_only_reason or not self._project.writable:
            return
        with self._files.exclusively("The checksums"):
            records, _ = checksums.table.stored_table(frame_indices.start, frame_indices.stop)
            before = records.copy()
            for frame_index, record in zip(frame_indices, records, strict=True):
                if not record.any() and not checksums.problems(frame_index):
                    record[:] = checksums.present(frame_index)
            if (records != before).any():
                with writing("The checksums", self._root):
                    checksums.table.write_chunks(frame_indices.start, records, self._root)

    # ---- repair

    def _restore(self, damaged: list[int]) -> None:
        earlier: dict[int, list[tuple[str, SavedFrame]]] = {index: [] for index in damaged}
        if self._repair and damaged:
            for states in (self._labels.snapshots.states(damaged), self._labels.history.states(set(damaged))):
                for source, saved in states:
                    earlier[saved.frame_index].append((source, saved))
        for frame_index in damaged:
            restored: dict[str, tuple[str, str]] = {}
            if self._repair:
                restored = self._restored(frame_index, earlier[frame_index])
            for part, (how, source) in restored.items():
                self._found.append(Damage(self._path(frame_index, part), how, frame_index, restored_from=source))
            for part, how in _confirmed(self._files, frame_index).items():
                remedy = self._remedy(frame_index, part)
                self._found.append(Damage(self._path(frame_index, part), how, frame_index, remedy))

    def _restored(self, frame_index: int, earlier: list[tuple[str, SavedFrame]]) -> dict[str, tuple[str, str]]:
        """Restore the parts of a frame that are found unchanged elsewhere; returns what was wrong, and the source."""
        checksums, files = self._files.checksums, self._files
        with files.exclusively("The repair"):
            problems = checksums.problems(frame_index)
            restored: dict[str, tuple[str, str]] = {}
            if FOLDER in problems:
                present = files.saved(frame_index).digest
                source = next((source for source, saved in earlier if saved.digest == present), None)
                if source is None:
                    return {}
                files.seal(frame_index)
                return {FOLDER: (problems[FOLDER], source)}
            record = checksums.record(frame_index)
            if record is None:
                return {}
            rows: dict[str, np.ndarray] = {}
            chunks: dict[Path, bytes | None] = {}
            for part, how in problems.items():
                for source, content in _contents(part, earlier):
                    if checksum(content) == record[COLUMN[part]]:
                        restored[part] = how, source
                        if part in ARRAYS:
                            chunks[set_aside(self._root, self._path(frame_index, part))] = content
                        else:
                            self._keep_copy(self._path(frame_index, part))
                            rows[part] = files.full_row(part, content or b"")
                        break
            if restored:
                files.put_back(frame_index, rows, chunks)
            return restored

    def _keep_copy(self, table_chunk: Path) -> None:
        """Keep a table's chunk as it was before the first repair of a row in it."""
        if table_chunk not in self._copied:
            self._copied.add(table_chunk)
            set_aside(self._root, table_chunk, copy=True)

    def _path(self, frame_index: int, part: str) -> Path:
        return self._files.checksums.files(frame_index, part)[0]

    def _remedy(self, frame_index: int, part: str) -> str:
        command = f'`surgicalsam check "{self._root}"'
        if not self._repair:
            return f"Try to restore it: {command} --repair`, or the button in the window"
        if part == FOLDER:
            return (
                f"Look at the frame: {command} --accept {frame_index}` keeps it as it is, --clear {frame_index} empties it"
            )
        if part == "instances":
            return f"Link the instances of frame {frame_index} again; its labels are intact"
        return (
            "It is neither in the history nor in a snapshot. Restore the project from a backup (surgicalsam restore), "
            f"return to an earlier snapshot, or empty the frame with {command} --clear {frame_index}` and work on "
            "it again"
        )

    # ---- other files

    def _strays(self) -> Iterator[tuple[Path, str]]:
        """Files of frames and rows that cannot be."""
        checksums = self._files.checksums
        for name in ARRAYS:
            folder = self._root / name
            expected = {checksums.files(index, name)[0].name for index in range(checksums.frame_count)}
            strays = (set(chunk_names(folder)) if folder.exists() else set()) - expected
            yield from ((folder / chunk, "no frame of the video has this file") for chunk in strays)
        for name, table in {**self._files.tables, FOLDER: checksums.table}.items():
            if table.folder.exists():
                rows = range(0, checksums.frame_count, ROWS)
                expected = {path.name for first in rows for path in table.paths(first)}
                strays = set(chunk_names(table.folder)) - expected
                yield from ((self._root / name / chunk, "no frame or class has this file") for chunk in strays)

    def _stray(self, path: Path, how: str) -> Damage:
        if not self._repair:
            return Damage(path, how, remedy=f'`surgicalsam check "{self._root}" --repair` moves it to the folder damaged')
        with self._files.exclusively("The repair"):
            set_aside(self._root, path)
        return Damage(path, how, restored_from=f"nothing: it was moved to the folder {SET_ASIDE}")

    def _whole_files(self) -> None:
        for path, how in self._files.settled(lambda: list(self._labels.history.problems())):
            remedy = "that action cannot be undone completely. Restore the file from a backup, or return to a snapshot"
            self._found.append(Damage(path, how, remedy=remedy))
        for path, how in self._labels.snapshots.problems(self._read):
            remedy = "That snapshot cannot be used for these frames. Restore it from a backup, or remove the snapshot"
            self._found.append(Damage(path, how, remedy=remedy))
        self._tracks()
        try:
            self._project.notes.entries()
        except ProjectError as error:
            self._found.append(
                Damage(self._root / "notes.json", str(error).split(". ")[0], remedy="Restore it from a backup")
            )
        named = {damage.path for damage in self._found}
        for path, how in self._files.settled(lambda: _listed_problems(self._project)):
            if path not in named:
                self._found.append(Damage(path, how, remedy=_keep_or_restore(self._root)))

    def _tracks(self) -> None:
        tracks = self._project.tracks
        if how := self._files.settled(lambda: tracks.damage):
            remedy = "link the instances again, return to a snapshot, or restore the file from a backup; labels are intact"
            self._found.append(Damage(self._root / TRACKS_FILE, how, remedy=remedy))


def _contents(part: str, earlier: list[tuple[str, SavedFrame]]) -> Iterator[tuple[str, bytes | None]]:
    """The contents that a part of a frame had; and that it had none."""
    for source, saved in earlier:
        yield source, saved.chunks.get(part) if part in ARRAYS else saved.rows.get(part, b"") or None
    yield "its checksum: nothing was stored there", None


def _complete_tables(project: Project) -> list[Damage]:
    """Give table chunks that were cut their full size, so that their rows can be written again. Call it with the lock."""
    files, found = project.labels.files, []
    for table in (*files.tables.values(), files.checksums.table):
        for first in range(0, table.frame_count, ROWS):
            for path in table.complete(first, project.folder, lambda path: set_aside(project.folder, path, copy=True)):
                how = "it had a wrong size"
                found.append(Damage(path, how, restored_from="what was left of it; its frames are checked one by one"))
    return found
