"""Who has a project: one window at a time edits it, one run at a time has a cluster work on it; the next one is told."""

from __future__ import annotations

import getpass
import json
import os
import platform
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from surgicalsam_napari.store.files import writing
from surgicalsam_napari.store.write_lock import WriteLock

LOCK_FOLDER, RUN_FOLDER, RECORD = ".window", ".run", "owner.json"


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
    """The claim of a window, or of a run, to a project; the system drops it when the process dies, however it dies.

    Parameters
    ----------
    root : the project folder
    folder : LOCK_FOLDER for a window, RUN_FOLDER for a run of a cluster
    """

    def __init__(self, root: Path, folder: str = LOCK_FOLDER) -> None:
        self._root = root
        self._folder = root / folder
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
    def is_free(self) -> bool:
        """Whether nobody has it now, as far as this machine can tell; not to be asked by the one who has it."""
        lock = WriteLock(self._folder)
        try:
            return lock.try_to_hold()
        except FileNotFoundError:  # nobody ever claimed it
            return True
        finally:
            lock.close()

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
