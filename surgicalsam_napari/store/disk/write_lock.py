"""The write lock of a project: one writer at a time, among threads and processes."""

from __future__ import annotations

import errno
import os
import threading
from contextlib import suppress
from pathlib import Path

from filelock import lock_descriptor, unlock_descriptor

POLL_SECONDS = 0.002  # between two attempts while another process holds the lock
_LOCKS_UNSUPPORTED = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}


class WriteLock:
    """One writer at a time: among threads, and among processes that have the same folder open.

    The operating system releases the lock when the process ends, even by a kill: a `.lock` file that stays blocks nobody.
    On file systems without locks (some network shares), only the threads that share this object wait for each other.
    Nested use by one thread is allowed.

    Parameters
    ----------
    root : the folder to guard; the lock is the file `.lock` in it
    """

    def __init__(self, root: Path) -> None:
        self._path = root / ".lock"
        self._threads = threading.RLock()
        self._depth = 0
        self._descriptor: int | None = None

    def __enter__(self) -> WriteLock:
        """Wait for the lock, without a time limit; an OSError if it cannot be taken. The block runs only with the lock."""
        self._threads.acquire()
        try:
            if self._depth == 0:
                if not self.is_current:  # the folder was away, and may be another one now
                    self._close()
                    self._descriptor = self._open()
                assert self._descriptor is not None
                _lock(self._descriptor, blocking=True)
            self._depth += 1
        except BaseException:
            self._threads.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        try:
            if self._depth == 0 and self._descriptor is not None:
                unlock_descriptor(self._descriptor)
        except OSError:
            self.close()  # closing the file always releases the lock
        finally:
            self._threads.release()

    def try_to_hold(self) -> bool:
        """Take the lock until `close`; return False immediately if another `WriteLock` holds it."""
        with self._threads:
            descriptor = self._open()
            try:
                is_held = _lock(descriptor, blocking=False)
            except BaseException:
                os.close(descriptor)
                raise
            if is_held:
                self._descriptor = descriptor
            else:
                os.close(descriptor)
            return is_held

    @property
    def is_current(self) -> bool:
        """Whether the open file is still the one in the folder: a folder that was away may have come back as another one."""
        try:
            return self._descriptor is not None and os.path.samestat(os.fstat(self._descriptor), os.stat(self._path))
        except OSError:
            return False

    def close(self) -> None:
        with self._threads:
            if self._depth == 0:
                self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            with suppress(OSError):  # of a share that is away
                os.close(descriptor)  # also releases the lock

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)


def _lock(descriptor: int, *, blocking: bool) -> bool:
    """Whether the lock is taken now; also True if the file system has no locks, because no other owner can be seen there."""
    try:
        return lock_descriptor(descriptor, blocking=blocking, poll_interval=POLL_SECONDS)
    except OSError as error:
        if error.errno in _LOCKS_UNSUPPORTED:
            return True
        raise
