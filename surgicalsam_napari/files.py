"""Writing a file completely or not at all: under a temporary name first, then renamed into place."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(
    path: Path | str, partial: Path | None = None, *, durable: bool = False, keep_partial: bool = False
) -> Iterator[Path]:
    """Yield a temporary file to write to. It replaces `path` when the block ends, and is removed if the block fails.

    Parameters
    ----------
    partial : the temporary file, on the same disk as `path`; by default `<name of path>.part` beside it
    durable : wait until the bytes are on the disk itself (fsync, some milliseconds), for files that must survive a power cut
    keep_partial : keep the temporary file if the block fails, to resume from it

    Raises
    ------
    OSError
        the file could not be replaced; the old file at `path` stays
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.part") if partial is None else partial
    try:
        yield partial
        if durable:
            with partial.open("r+b", buffering=0) as file:
                os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        if not keep_partial:
            with contextlib.suppress(OSError):  # the first error is the one to report
                partial.unlink(missing_ok=True)
        raise


def write_file(path: Path | str, *parts: bytes | memoryview, staging: Path | None = None, durable: bool = False) -> None:
    """Write these bytes to `path`, completely or not at all.

    Parameters
    ----------
    staging : folder of the temporary file, made if missing; by default that of `path`
    durable : see `replacing`

    Raises
    ------
    OSError
        nothing was written; the old file at `path` stays
    """
    partial = None if staging is None else _new_file_in(staging)
    with replacing(path, partial, durable=durable) as partial:
        _write_parts(partial, parts)


def stage(staging: Path, *parts: bytes | memoryview) -> Path:
    """Write these bytes to a new file in the folder `staging`, for a later `os.replace`; after a failure no file is left."""
    path = _new_file_in(staging)
    try:
        _write_parts(path, parts)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Repeat os.write until every byte is written: one call may write fewer, for example on a nearly full disk."""
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def write_in_place(path: Path, offset: int, data: bytes) -> None:
    """Overwrite bytes of an existing file."""
    with path.open("r+b", buffering=0) as file:
        file.seek(offset)
        write_all(file.fileno(), data)


def _new_file_in(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder / uuid.uuid4().hex


def _write_parts(path: Path, parts: tuple[bytes | memoryview, ...]) -> None:
    with path.open("wb", buffering=0) as file:
        for part in parts:
            write_all(file.fileno(), part)
