"""Who has a project open for editing: one window at a time, and the next one is told."""

from __future__ import annotations

import getpass
import json
import os
import platform
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from surgicalsam_napari.store.files import WriteLock, writing

LOCK_FOLDER, RECORD = ".window", "owner.json"


@dataclass(frozen=True)
class Owner:
    """Who has a project open.

    Attributes
    ----------
    since : local date and time, to the minute
    """

    user: str
    host: str
    process: int
    since: str

    def __str__(self) -> str:
        return f"{self.user} on {self.host}, since {self.since} (process {self.process})"


class Ownership:
    """The claim of a window to a project; the system drops it when the process dies, however it dies.

    Parameters
    ----------
    root : the project folder
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / LOCK_FOLDER
        self._lock: WriteLock | None = None

    def claim(self) -> bool:
        """Take the project for this window; False if another one has it. A record left by a crash is replaced."""
        if self._lock is not None:
            return True
        with writing("The claim to the project", self._root):
            self._folder.mkdir(exist_ok=True)
            lock = WriteLock(self._folder)
            if not lock.try_to_hold():
                return False
            self._lock = lock
            now = datetime.now().astimezone().isoformat(" ", timespec="minutes")
            owner = Owner(_user(), platform.node() or "this machine", os.getpid(), now)
            (self._folder / RECORD).write_text(json.dumps(asdict(owner)), encoding="utf-8")
        return True

    @property
    def owner(self) -> Owner | None:
        """Who claimed it last; whether they still have it, only `claim` tells."""
        with suppress(OSError, ValueError, TypeError):
            return Owner(**json.loads((self._folder / RECORD).read_text(encoding="utf-8")))
        return None

    def release(self) -> None:
        """Let the next window have it."""
        if self._lock is not None:
            (self._folder / RECORD).unlink(missing_ok=True)
            self._lock.close()
            self._lock = None


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user id without a name, in some containers
        return "somebody"
