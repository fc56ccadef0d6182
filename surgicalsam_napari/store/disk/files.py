"""The staging folder of the store, and the error messages of failed writes."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from surgicalsam_napari.errors import DiskSpaceError, SurgicalSAMError, UnreachableError
from surgicalsam_napari.formatting import in_bytes

STAGING = ".partial"  # files being written; a file that lies here while nobody holds the lock is left over from a crash
SET_ASIDE = "damaged"  # folder for damaged files that were replaced
_FULL = {errno.ENOSPC, errno.EDQUOT}
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}


def free_bytes(folder: Path | str) -> int:
    """Free disk space in bytes at `folder`, which need not exist yet."""
    existing = Path(folder).absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    return shutil.disk_usage(existing).free


def translate(error: OSError, what: str, folder: Path) -> SurgicalSAMError:
    """The error message for the user after a failed write of `what` to `folder`."""
    if error.errno in _FULL:
        return DiskSpaceError(
            f"{what} needs more space than the disk of {folder} has left ({in_bytes(free_bytes(folder))}). "
            "Nothing was changed: free some space and try again."
        )
    if error.errno in _READ_ONLY:
        return UnreachableError(
            f"{what} must be written to {folder}, which is read-only ({error.strerror}). "
            "Nothing was changed: make the folder writable, or use a project in another folder."
        )
    if not is_reachable(folder):
        return UnreachableError(f"{what} could not be written. {gone(folder)}")
    return UnreachableError(f"{what} could not be written to {folder} ({error}). Nothing was changed: check the disk.")


def is_reachable(folder: Path) -> bool:
    """Whether a folder is there now: the share or disk that it lies on may be away."""
    try:
        os.stat(folder)
    except OSError:
        return False
    return True


def gone(folder: Path) -> str:
    """The message for the user about a folder that is not there now."""
    return f"{folder} cannot be reached. Connect its disk or share again, or move the folder back."


def check_reachable(array: Path) -> None:
    """An UnreachableError unless the folder of a zarr array is there now. Call it before a missing chunk counts as empty."""
    if not is_reachable(array / "zarr.json"):
        raise UnreachableError(gone(array.parent))


@contextlib.contextmanager
def writing(what: str, folder: Path) -> Iterator[None]:
    """Turn an OSError inside the block into a DiskSpaceError or ProjectError about `what`."""
    try:
        yield
    except OSError as error:
        raise translate(error, what, folder) from error


def clear_staging(root: Path) -> None:
    """Remove incomplete files of a killed process. Call it only while holding the lock of `root`."""
    with contextlib.suppress(FileNotFoundError):
        for leftover in (root / STAGING).iterdir():
            leftover.unlink(missing_ok=True)


def set_aside(root: Path, path: Path, *, copy: bool = False) -> Path:
    """Move or copy a damaged file to the folder `damaged`, where nothing replaces it; returns its path."""
    folder = root / SET_ASIDE
    if path.exists():
        folder.mkdir(exist_ok=True)
        name = path.name if path.parent == root else f"{path.parent.name}.{path.name}"
        number = sum(1 for _ in folder.glob(f"{name}*"))
        target = folder / (f"{name}.{number}" if number else name)
        shutil.copy2(path, target) if copy else os.replace(path, target)
    return path
