"""The owner of a project: one window at a time edits it, and one cluster run at a time works on it."""

from __future__ import annotations

import getpass
import json
import os
import platform
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from surgicalsam_napari.store.disk.files import writing
from surgicalsam_napari.store.disk.write_lock import WriteLock
from surgicalsam_napari.untrusted import read_json

LOCK_FOLDER, RUN_FOLDER, RECORD = ".window", ".run", "owner.json"


@dataclass(frozen=True)
class Owner:
    """The user, computer and process that have a project open.

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
    """The claim of a window or a run to a project. The operating system releases it when the process ends, even by a kill.

    Parameters
    ----------
    root : the project folder
    folder : LOCK_FOLDER for a window, RUN_FOLDER for a cluster run
    """

    def __init__(self, root: Path, folder: str = LOCK_FOLDER) -> None:
        self._root = root
        self._folder = root / folder
        self._lock: WriteLock | None = None

    def claim(self) -> bool:
        """Claim the project; False if another window or run has it. A record that a crash has left is replaced."""
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
        """Whether nobody has the project now, as far as this computer can see. The owner itself must not call this."""
        lock = WriteLock(self._folder)
        try:
            return lock.try_to_hold()
        except FileNotFoundError:  # nobody has claimed it yet
            return True
        finally:
            lock.close()

    @property
    def owner(self) -> Owner | None:
        """The last owner. Only `claim` shows whether they still have the project."""
        with suppress(OSError, ValueError, TypeError):
            return Owner(**read_json(self._folder / RECORD))
        return None

    @property
    def current(self) -> Owner | None:
        """Who has the project now, as far as this computer can see; None if nobody has. The owner itself may ask, too.

        While somebody has it, the lock is not touched: asking never disturbs a window that opens the project.
        """
        owner = self.owner
        if owner is None:
            return None
        try:
            return None if self.is_free else owner
        except OSError:  # the folder cannot be written to
            return owner

    def renew(self) -> bool:
        """Claim the project again if the claim was lost while its folder was away; False if somebody else has it now."""
        if self._lock is None or self._lock.is_current:
            return True
        self._lock.close()
        self._lock = None
        return self.claim()

    def release(self) -> None:
        """End the claim, so that another window or run can claim the project."""
        if self._lock is not None:
            with suppress(OSError):  # of a folder that is away
                (self._folder / RECORD).unlink(missing_ok=True)
            self._lock.close()
            self._lock = None


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user id without a name, in some containers
        return "somebody"
