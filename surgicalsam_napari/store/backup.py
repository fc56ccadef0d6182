"""Backups: a whole project in one zip file with checksums, and a new project from such a file."""

from __future__ import annotations

import json
import os
import shutil
import uuid
import zipfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

import google_crc32c

from surgicalsam_napari import __version__
from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.files import replacing
from surgicalsam_napari.store.checking import Damage, checking, project_and_parts
from surgicalsam_napari.store.disk.checksums import ARRAYS
from surgicalsam_napari.store.disk.files import STAGING, writing
from surgicalsam_napari.store.manifest import MANIFEST
from surgicalsam_napari.store.part_labels import PARTS
from surgicalsam_napari.untrusted import json_from, plain_file

if TYPE_CHECKING:
    from surgicalsam_napari.store.project import Project

CONTENTS = "backup.json"
FORMAT = "surgicalsam-backup"
SUFFIX = ".surgicalsam.zip"
COMPUTED_AGAIN = ("embeddings", "augmented")
LEFT_OUT = {STAGING, ".lock", ".window", ".run", "pending.json", "damaged"}
RESUME_FILE = "last.pt"  # of a training: large, and only needed to resume it
HELD = ".backup-"  # folder of hard links to the files of a backup in progress
BLOCK = 2**20
LARGEST_CONTENTS = 2**29


@dataclass(frozen=True)
class BackupReport:
    """`done` of `total` steps; `what` is "check", "write" or "restore"."""

    what: str
    done: int
    total: int


def backing_up(
    project: Project, path: Path | str, *, embeddings: bool = False, damaged: bool = False, overwrite: bool = False
) -> Generator[BackupReport, None, Path]:
    """Check a project, then write it to one file, completely or not at all. A person may go on working meanwhile.

    Parts are always written with the project around them.

    Parameters
    ----------
    path : the zip file
    embeddings : also write what can be computed again, several MB per frame
    damaged : write a damaged project, too
    overwrite : replace an existing file

    Returns
    -------
    the path

    Raises
    ------
    ProjectError
        the project is damaged, the file exists, or lies in the project
    DiskSpaceError
        the disk is full
    """
    project = project.top
    path, root = Path(path).expanduser().absolute(), project.folder
    if path.exists() and not overwrite:
        raise ProjectError(f"{path} already exists. Choose another name, or replace it with --overwrite.")
    if root in path.parents:
        raise ProjectError(f"{path} lies in the project, which it should protect. Choose another folder.")
    found = yield from _checked(project)
    if found and not damaged:
        raise ProjectError(
            f"{root.name} should be intact, and {len(found):,} files of it are damaged, first {found[0].path}. Run "
            f'`surgicalsam check "{root}" --repair` before the backup, or back it up as it is with --damaged.'
        )
    with (
        writing("The backup", path.parent),
        _held(project, embeddings=embeddings) as (folder, sizes),
        replacing(path, path.with_name(f".{path.name}.part"), durable=True) as partial,
    ):
        yield from _write_zip(partial, project, folder, sizes)
    return path


def _checked(project: Project) -> Generator[BackupReport, None, tuple[Damage, ...]]:
    found: tuple[Damage, ...] = ()
    for report in checking(project):
        found = report.found
        yield BackupReport("check", report.done, report.total)
    return found


@contextmanager
def _held(project: Project, *, embeddings: bool) -> Iterator[tuple[Path, dict[str, int]]]:
    """The state of the project now: a folder with hard links and copies, and the bytes of each file of it to read.

    Files of frames are replaced and never changed, and records of the history only grow: so links are enough for them.
    """
    root = project.folder
    if not project.writable:  # nothing can be linked, and nothing but another process writes
        yield root, {name: (root / name).stat().st_size for name in _files(root, embeddings)}
        return
    for leftover in root.glob(f"{HELD}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    folder = root / f"{HELD}{uuid.uuid4().hex[:8]}"
    sizes: dict[str, int] = {}
    try:
        with ExitStack() as locks:
            for each in reversed(project_and_parts(project)[0]):  # parts first: who writes them reads the whole, too
                locks.enter_context(each.labels.files.exclusively("The backup"))
            for name in _files(root, embeddings):
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                _link_or_copy(root / name, target)
                sizes[name] = target.stat().st_size
        yield folder, sizes
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _files(root: Path, embeddings: bool) -> list[str]:
    """The files of a backup, relative to the project, "/" between folders."""
    names = []
    for parent, folders, files in os.walk(root):
        inside = Path(parent).relative_to(root)
        is_top = inside in (Path(), Path(PARTS))
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not (is_top and name in LEFT_OUT))
        for name in sorted(files):
            relative = inside / name
            is_computed = relative.parts[0] in COMPUTED_AGAIN and len(relative.parts) > 2
            is_left_out = name in LEFT_OUT or name.startswith(".") or name == RESUME_FILE
            if is_left_out or (is_computed and not embeddings):
                continue
            names.append(relative.as_posix())
    return names


def _link_or_copy(source: Path, target: Path) -> None:
    """Link files that are never changed in place; copy the others."""
    if source.parent.name in (*ARRAYS, "embeddings") or source.suffix in (".undo", ".redo", ".safetensors"):
        with suppress(OSError):  # no hard links here
            os.link(source, target)
            return
    shutil.copy2(source, target)


def _write_zip(partial: Path, project: Project, folder: Path, sizes: dict[str, int]) -> Generator[BackupReport, None, None]:
    contents: dict[str, list[int]] = {}
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for done, (name, size) in enumerate(sizes.items(), 1):
            entry = archive.open(_entry(name), "w", force_zip64=size > BLOCK)
            with (folder / name).open("rb") as source, entry as target:
                contents[name] = [size, _copy(source, target, size)]
            yield BackupReport("write", done, len(sizes))
        record = {
            "format": FORMAT,
            "version": 1,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "created_with": f"surgicalsam-napari {__version__}",
            "project": project.folder.name,
            "video": project.manifest.video_path.name,
            "files": contents,
        }
        archive.writestr(_entry(CONTENTS), json.dumps(record, ensure_ascii=False).encode())


def _entry(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name, datetime.now().timetuple()[:6])


def _copy(source: IO[bytes], target: IO[bytes], size: int) -> int:
    """Copy this many bytes; returns their CRC-32C. A ProjectError if there are fewer."""
    running = google_crc32c.Checksum()
    left = size
    while left:
        block = source.read(min(BLOCK, left))
        if not block:
            raise ProjectError(f"{source.name} became shorter while it was copied. Start again.")
        running.update(block)
        target.write(block)
        left -= len(block)
    return int.from_bytes(running.digest(), "big")


# ---- restore


def restoring(path: Path | str, folder: Path | str) -> Generator[BackupReport, None, Path]:
    """Make a project from a backup, completely or not at all.

    Parameters
    ----------
    folder : of the new project; it must not exist, or be empty

    Returns
    -------
    the folder

    Raises
    ------
    ProjectError
        no backup, a damaged one (with the place), or a folder that is in use; nothing is written then
    DiskSpaceError
        the disk is full
    """
    path, folder = Path(path).expanduser().absolute(), Path(folder).expanduser().absolute()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ProjectError(f"A backup is restored to a new or empty folder, {folder} is neither. Choose another one.")
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    try:
        with writing("The restored project", folder.parent), _opened(path) as archive:
            files = _contents(path, archive)
            temporary.mkdir(parents=True)
            for done, (name, (size, expected)) in enumerate(files.items(), 1):
                _restore_file(path, archive, name, size, expected, temporary)
                yield BackupReport("restore", done, len(files))
            if folder.exists():
                folder.rmdir()
            os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(plain_file(path))
    except FileNotFoundError as error:
        raise ProjectError(f"{path} is not there. Choose a backup, a file that `surgicalsam backup` wrote.") from error
    except OSError as error:
        raise ProjectError(
            f"A backup is a file; {path} cannot be read ({error.strerror}). Choose a file of `surgicalsam backup`."
        ) from error
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as error:
        raise _damaged(path, f"its list of files cannot be read ({error})") from error
    with archive:
        yield archive


def _contents(path: Path, archive: zipfile.ZipFile) -> dict[str, tuple[int, int]]:
    """By name, the bytes and the CRC-32C of every file; the list and the archive must agree."""
    names = [entry.filename for entry in archive.infolist()]
    if CONTENTS not in names:
        raise ProjectError(f"{path} is no backup of a project: it has no {CONTENTS}. Choose a file of `surgicalsam backup`.")
    try:
        if archive.getinfo(CONTENTS).file_size > LARGEST_CONTENTS:
            raise ValueError("it is too large")
        record = json_from(archive.read(CONTENTS))
        version = record["version"]
        files = {str(name): (int(size), int(expected)) for name, (size, expected) in record["files"].items()}
    except Exception as error:  # zipfile raises many kinds for damaged data
        raise _damaged(path, f"{CONTENTS} cannot be read ({error})") from error
    if version != 1 or record.get("format") != FORMAT:
        raise ProjectError(f"{path} has the backup version {version}; this version reads 1. Update surgicalsam-napari.")
    if len(names) != len(set(names)) or set(names) - {CONTENTS} != set(files):
        odd = sorted((set(names) - {CONTENTS}) ^ set(files))
        raise _damaged(path, f"its list of files and its content differ, first in {odd[0] if odd else 'a repeated name'}")
    for name in files:
        inside = PurePosixPath(name)
        if inside.is_absolute() or ".." in inside.parts or "\\" in name or ":" in name or not inside.parts:
            raise _damaged(path, f'it has a file "{name}", which would lie outside of the project')
    if sum(size for size, _ in files.values()) > path.stat().st_size:  # a backup is not compressed
        raise _damaged(path, "it lists more bytes than it has")
    if MANIFEST not in files:
        raise _damaged(path, f"it has no {MANIFEST}")
    return files


def _restore_file(path: Path, archive: zipfile.ZipFile, name: str, size: int, expected: int, root: Path) -> None:
    target = root / name
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with archive.open(name) as source, target.open("wb") as file:
            found = _copy(source, file, size)
            if source.read(1):
                raise ValueError("it is longer than listed")
    except OSError:
        raise
    except Exception as error:  # zipfile raises many kinds for damaged data
        raise _damaged(path, f"{name} cannot be read ({error})") from error
    if found != expected:
        raise _damaged(path, f"{name} is not what was backed up")


def _damaged(path: Path, how: str) -> ProjectError:
    return ProjectError(f"The backup {path} is damaged: {how}. Nothing was restored; use another backup.")
