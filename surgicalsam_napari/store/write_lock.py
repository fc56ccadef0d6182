"""One writer at a time, among threads and among processes."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

from filelock import lock_descriptor, unlock_descriptor

POLL_SECONDS = 0.002  # between two tries while another process holds the lock
_KNOWS_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}


class WriteLock:
    """One writer at a time: among threads, and among processes that have the same folder open.

    The system drops the lock when its process dies, however it dies: a `.lock` file that is left behind blocks nobody.
    File systems that know no locks (some network shares) are guarded among threads only. Nested use by one thread is
    allowed.

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
        """Wait for the lock, as long as it takes; an OSError if it cannot be taken. Nobody writes without it."""
        self._threads.acquire()
        try:
            if self._depth == 0:
                if self._descriptor is None:
                    self._descriptor = self._open()
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
            self.close()  # this drops the lock in any case
        finally:
            self._threads.release()

    def try_to_hold(self) -> bool:
        """Take the lock for as long as this object is open; False, at once, if another one has it."""
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

    def close(self) -> None:
        with self._threads:
            if self._descriptor is not None and self._depth == 0:
                os.close(self._descriptor)  # drops the lock, too
                self._descriptor = None

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)


def _lock(descriptor: int, *, blocking: bool) -> bool:
    """Whether the lock is ours now; True, too, where the file system knows no locks: nothing shows another owner there."""
    try:
        return lock_descriptor(descriptor, blocking=blocking, poll_interval=POLL_SECONDS)
    except OSError as error:
        if error.errno in _KNOWS_NO_LOCKS:
            return True
        raise
