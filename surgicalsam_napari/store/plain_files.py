"""A project has only files and folders of its own: through a link a write changes another place, a pipe is waited for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.store.part_labels import PARTS
from surgicalsam_napari.store.snapshots import FOLDER as SNAPSHOTS

MAY_BE_LINKS = {"embeddings", "augmented", "training"}  # large, and computed again: they may lie on another disk
PER_FRAME = {"labels", "painted", "instances"}  # as many files as frames: each is looked at when it is read


def check_plain(folder: Path) -> None:
    """A ProjectError if a project has a link or a pipe, or a folder in place of a file, where it reads or writes."""
    for entry in _entries(folder):
        is_chunk = entry.name.startswith("c.") or entry.name in ("zarr.json", "project.json")
        if entry.is_symlink():
            what = f"a link to {os.readlink(entry.path)}"
        elif entry.is_file(follow_symlinks=False) or (entry.is_dir(follow_symlinks=False) and not is_chunk):
            continue
        else:
            what = "no file"
        raise ProjectError(
            f"A project has files and folders of its own, and {entry.path} is {what}. Put the file itself in its place, or "
            "restore the project from a backup. Only embeddings, augmented and training may be links to another disk."
        )


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What is in a project, except in the folders that may be links, and except the files of frames."""
    for entry in _listed(folder):
        if entry.name in MAY_BE_LINKS:
            continue
        yield entry
        if entry.name == PARTS:
            yield from _entries(Path(entry.path))
        elif entry.name == SNAPSHOTS:
            for snapshot in _listed(Path(entry.path)):
                yield snapshot
                for part in _listed(Path(snapshot.path)):
                    yield part
                    yield from _inside(part)
        else:
            yield from _inside(entry)


def _inside(entry: os.DirEntry[str]) -> Iterator[os.DirEntry[str]]:
    if entry.name not in PER_FRAME:
        yield from _listed(Path(entry.path))


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:  # a file, or not there: whoever needs it reports it
        return []
