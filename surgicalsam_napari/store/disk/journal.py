"""The journal of a project: all files of one frame change together, or none does, even if the process dies."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.files import stage
from surgicalsam_napari.store.disk.arrays import FrameArray
from surgicalsam_napari.store.disk.cell_table import CellTable
from surgicalsam_napari.store.disk.checksums import ARRAYS
from surgicalsam_napari.store.disk.files import STAGING, clear_staging
from surgicalsam_napari.untrusted import read_json

JOURNAL = "pending.json"
_STAGED_NAME = re.compile("[0-9a-f]{32}")


class Journal:
    """A redo log with room for one frame.

    A change has four steps:

    1. Write the new chunks to the staging folder, and allocate disk space for the table rows.
    2. Rename `pending.json` into place. It names the new chunks and holds the new rows. This rename commits the change.
    3. Overwrite the table rows, then rename the chunks into place.
    4. Remove `pending.json`.

    If the process is killed before the rename, the old state stays. If it is killed later, the next writer carries out the
    journal. This protects against kills, not against power cuts: no fsync, because it would add tens of milliseconds
    to every brush stroke.

    Parameters
    ----------
    root : the project folder
    tables : by the name of the table's folder in `root`
    """

    def __init__(self, root: Path, tables: Mapping[str, CellTable]) -> None:
        self._root = root
        self._path = root / JOURNAL
        self._tables = tables

    def interrupted_frame(self) -> int | None:
        """The frame whose change was committed but not yet carried out, or None."""
        return None if (entry := self._read()) is None else entry["frame"]

    def commit(self, frame_index: int, rows: Mapping[str, np.ndarray], chunks: Mapping[Path, bytes | None]) -> None:
        """Change one frame. Call it while holding the lock.

        After an OSError nothing has changed. After a ProjectError the change is committed, but not completed yet.

        Parameters
        ----------
        rows : new rows by table name, in write order
        chunks : new contents by file, in write order; None removes the file
        """
        staged: list[Path] = []
        try:
            files = []
            for path, content in chunks.items():
                if content is not None:
                    staged.append(stage(self._root / STAGING, content))
                name = None if content is None else staged[-1].name
                files.append([path.relative_to(self._root).as_posix(), name])
            for name in rows:
                self._tables[name].prepare(frame_index, self._root)
            hexadecimal = {name: np.ascontiguousarray(row).tobytes().hex() for name, row in rows.items()}
            entry = {"frame": int(frame_index), "rows": hexadecimal, "files": files}
            staged.append(stage(self._root / STAGING, json.dumps(entry).encode()))
            os.replace(staged[-1], self._path)
        except BaseException:
            for path in staged:
                path.unlink(missing_ok=True)
            raise
        try:
            self._carry_out(entry)
        except OSError as error:
            raise ProjectError(
                f"The last change of frame {frame_index} could not be completed ({error}). It is stored in {self._path}; "
                "the next change completes it. Check the disk."
            ) from error

    def recover(self, *, clean: bool = False) -> bool:
        """Carry out a change that a killed writer had committed. Call it while holding the lock.

        Parameters
        ----------
        clean : also remove the staged files of a change that was not committed

        Returns
        -------
        whether there was a committed change
        """
        entry = self._read()
        if entry is not None:
            self._carry_out(entry)
        if clean:
            clear_staging(self._root)
        return entry is not None

    def _carry_out(self, entry: dict) -> None:
        """Steps 3 and 4. Safe to repeat from the start after a kill at any line."""
        for name, row in entry["rows"].items():
            table = self._tables[name]
            table.put(entry["frame"], np.frombuffer(bytes.fromhex(row), table.dtype))
        for target, name in entry["files"]:
            if name is None:
                (self._root / target).unlink(missing_ok=True)
            elif (self._root / STAGING / name).exists():
                os.replace(self._root / STAGING / name, self._root / target)
        self._path.unlink()

    def _read(self) -> dict | None:
        try:
            return self._checked(read_json(self._path))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ProjectError(
                f"{self._path} should describe the last change of this project, but it is damaged. "
                "Remove the file to continue: at most the last change is lost."
            ) from error

    def _checked(self, entry: dict) -> dict:
        """The entry, if it changes nothing but one frame of this project: it may come from somebody else."""
        frame, rows, files = entry["frame"], entry["rows"], entry["files"]
        for name, row in rows.items():
            table = self._tables[name]
            if not 0 <= frame < table.frame_count or len(bytes.fromhex(row)) > table.stored_width * table.dtype.itemsize:
                raise ValueError(f"the row of {name}")
        for target, staged in files:
            folder, _, name = target.partition("/")
            if folder not in ARRAYS or name != FrameArray.path_name(frame):
                raise ValueError(target)
            if staged is not None and _STAGED_NAME.fullmatch(staged) is None:
                raise ValueError(staged)
        return {"frame": frame, "rows": rows, "files": files}
