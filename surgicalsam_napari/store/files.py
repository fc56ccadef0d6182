"""Writing files that are whole or not there, one writer at a time, and errors a user can act on."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

from surgicalsam_napari.errors import DiskSpaceError, ProjectError, SurgicalSAMError
from surgicalsam_napari.formatting import in_bytes

STAGING = ".partial"  # files being written; whatever lies here while nobody holds the lock is left over from a crash
_FULL = {errno.ENOSPC, errno.EDQUOT}
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}


def free_bytes(folder: Path | str) -> int:
    """Free disk space, in bytes, where `folder` is or would be created."""
    existing = Path(folder).absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    return shutil.disk_usage(existing).free


def translate(error: OSError, what: str, folder: Path) -> SurgicalSAMError:
    """The user's version of a failed write of `what` to `folder`."""
    if error.errno in _FULL:
        return DiskSpaceError(
            f"{what} needs more space than the disk of {folder} has left ({in_bytes(free_bytes(folder))}). "
            "Nothing was changed: free some space and try again."
        )
    if error.errno in _READ_ONLY:
        return ProjectError(
            f"{what} must be written to {folder}, which is read-only ({error.strerror}). "
            "Nothing was changed: make the folder writable, or use a project in another folder."
        )
    return ProjectError(f"{what} could not be written to {folder} ({error}). Nothing was changed: check the disk.")


@contextlib.contextmanager
def writing(what: str, folder: Path) -> Iterator[None]:
    """Turn an OSError inside the block into a DiskSpaceError or ProjectError about `what`."""
    try:
        yield
    except OSError as error:
        raise translate(error, what, folder) from error


def stage(root: Path, *parts: bytes | memoryview, durable: bool = False) -> Path:
    """Write a new file into the staging folder of `root`; nothing is left of it if that fails.

    `durable` waits until the bytes are on the disk itself (some milliseconds), for files that must outlive a power cut.
    """
    folder = root / STAGING
    path = folder / uuid.uuid4().hex
    try:
        folder.mkdir(exist_ok=True)
        with path.open("wb", buffering=0) as file:
            for part in parts:
                write_all(file.fileno(), part)
            if durable:
                os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """os.write until every byte is written (one call may write less, on a disk that fills up)."""
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def clear_staging(root: Path) -> None:
    """Remove what a killed process left half-written. Only while holding the lock of `root`."""
    with contextlib.suppress(FileNotFoundError):
        for leftover in (root / STAGING).iterdir():
            leftover.unlink(missing_ok=True)


def write_in_place(path: Path, offset: int, data: bytes) -> None:
    """Overwrite bytes of an existing file."""
    with path.open("r+b", buffering=0) as file:
        file.seek(offset)
        write_all(file.fileno(), data)


class WriteLock:
    """One writer at a time: among threads, and among processes that have the same folder open.

    The system drops the lock when its process dies, however it dies. File systems that know no locks (some network
    shares) are guarded among threads only. Nested use by one thread is allowed.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / ".lock"
        self._threads = threading.RLock()
        self._depth = 0
        self._descriptor: int | None = None

    def __enter__(self) -> WriteLock:
        self._threads.acquire()
        try:
            if self._depth == 0:
                if self._descriptor is None:
                    self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
                _lock(self._descriptor)
            self._depth += 1
        except BaseException:
            self._threads.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0 and self._descriptor is not None:
            _unlock(self._descriptor)
        self._threads.release()

    def try_to_hold(self) -> bool:
        """Take the lock for as long as this object is open; False, at once, if another one has it."""
        with self._threads:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            if not _try_to_lock(descriptor):
                os.close(descriptor)
                return False
            self._descriptor = descriptor
            return True

    def close(self) -> None:
        with self._threads:
            if self._descriptor is not None and self._depth == 0:
                os.close(self._descriptor)
                self._descriptor = None


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        with contextlib.suppress(OSError):
            msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)

    def _try_to_lock(descriptor: int) -> bool:
        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        with contextlib.suppress(OSError):
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)

    def _try_to_lock(descriptor: int) -> bool:
        with contextlib.suppress(OSError):  # a file system without locks: nobody can be told apart
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def _unlock(descriptor: int) -> None:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
