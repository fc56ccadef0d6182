"""Downloading a published file: resumed after a broken connection, and kept only if its SHA-256 is the published one."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import requests

from surgicalsam_napari.errors import DiskSpaceError, DownloadError
from surgicalsam_napari.files import replacing
from surgicalsam_napari.formatting import in_bytes

MODELS_VARIABLE = "SURGICALSAM_MODELS"
PIECE_BYTES = 1 << 16  # a broken connection loses at most one piece
REPORT_BYTES = 1 << 20
TIMEOUT_SECONDS = (15.0, 60.0)  # to connect; between two pieces


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """A file at an address.

    Attributes
    ----------
    url : its published address
    file_name : its name on this machine
    size_bytes, sha256 : of a complete and unchanged copy
    """

    url: str
    file_name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class DownloadReport:
    """Progress of a download: bytes on disk, bytes in total, and the path of the complete file (exists if both agree)."""

    done_bytes: int
    total_bytes: int
    path: Path


def file_size(path: Path) -> int | None:
    """Bytes of a file; None if there is none."""
    return path.stat().st_size if path.is_file() else None


def download_file(file: PublishedFile, folder: Path, *, url: str | None = None) -> Iterator[DownloadReport]:
    """Download a file into a folder, and report after every megabyte; an interrupted download is resumed.

    The bytes go to `<file name>.part`, which gets its final name only if its SHA-256 is the published one. Closing the
    generator cancels the download; the part stays for the next time.

    Parameters
    ----------
    url : address to download from instead of the published one

    Raises
    ------
    DownloadError
        the server cannot be reached, has no such file, stops early or sends another file; the folder is not writable
    DiskSpaceError
        the file does not fit on the disk
    """
    address, path = url or file.url, folder / file.file_name
    if file_size(path) == file.size_bytes and sha256_of(path) == file.sha256:
        yield DownloadReport(file.size_bytes, file.size_bytes, path)
        return
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, part, keep_partial=True):
            for done_bytes in _fetch(file, address, part):
                if done_bytes < file.size_bytes:  # the last report follows the rename
                    yield DownloadReport(done_bytes, file.size_bytes, path)
            _check_hash(file, part, address)
    except requests.RequestException as error:
        _refuse_connection(file, address, part, error)
    except OSError as error:
        _refuse_disk(file, path.parent, error)
    yield DownloadReport(file.size_bytes, file.size_bytes, path)


def _fetch(file: PublishedFile, url: str, part: Path) -> Iterator[int]:
    """Append the missing bytes to the part; yields the number of bytes it holds."""
    done_bytes = file_size(part) or 0
    if done_bytes > file.size_bytes:
        part.unlink()
        done_bytes = 0
    if done_bytes == file.size_bytes:
        return
    _check_free_space(file, part.parent, file.size_bytes - done_bytes)
    headers = {"Accept-Encoding": "identity"}  # no compression, so that the bytes can be counted
    if done_bytes:
        headers["Range"] = f"bytes={done_bytes}-"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as response:
        if done_bytes and response.status_code != requests.codes.partial_content:
            done_bytes = 0  # a server that ignores Range sends the complete file
        _check_response(file, url, response, part, done_bytes)
        with part.open("ab" if done_bytes else "wb") as stream:
            yield done_bytes
            reported_bytes = done_bytes
            for piece in response.iter_content(PIECE_BYTES):
                stream.write(piece)
                done_bytes += len(piece)
                if done_bytes > file.size_bytes:
                    break
                if done_bytes - reported_bytes >= REPORT_BYTES:
                    yield done_bytes
                    reported_bytes = done_bytes
            stream.flush()
            os.fsync(stream.fileno())
    if done_bytes != file.size_bytes:
        _refuse_length(file, url, part, done_bytes)


def _check_response(file: PublishedFile, url: str, response: requests.Response, part: Path, start: int) -> None:
    if not response.ok:
        raise DownloadError(
            f"{url} should hold {file.file_name}; the server answered {response.status_code} {response.reason}. "
            f"Try later, or copy the file to {part.parent} by hand."
        )
    if start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        sent = response.headers.get("Content-Range", "no such range")
        raise DownloadError(f"{url} should continue at byte {start:,}; the server sent {sent}. Delete {part} and try again.")
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and start + int(length) != file.size_bytes:
        _refuse_other_file(file, url, f"{start + int(length):,} bytes")


def _check_hash(file: PublishedFile, part: Path, url: str) -> None:
    """Remove a complete file with other content, because it could never be resumed."""
    digest = sha256_of(part)
    if digest != file.sha256:
        part.unlink()
        _refuse_other_file(file, url, f"{file.size_bytes:,} bytes with SHA-256 {digest[:12]}…")


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_free_space(file: PublishedFile, folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskSpaceError(
            f"{file.file_name} needs {in_bytes(needed)} in {folder}; {in_bytes(free)} are free. "
            f"Free some space, or set {MODELS_VARIABLE} to a folder on another disk."
        )


def _refuse_other_file(file: PublishedFile, url: str, received: str) -> NoReturn:
    raise DownloadError(
        f"{url} should hold {file.size_bytes:,} bytes with SHA-256 {file.sha256[:12]}…; it sent {received}, "
        "and nothing was kept. Try again, or download the file from another address."
    )


def _refuse_length(file: PublishedFile, url: str, part: Path, done_bytes: int) -> NoReturn:
    if done_bytes > file.size_bytes:
        part.unlink()
        _refuse_other_file(file, url, "more than that")
    raise DownloadError(
        f"{file.file_name} should have {file.size_bytes:,} bytes; the connection ended after {done_bytes:,}. "
        "Download again: it resumes from there."
    )


def _refuse_connection(file: PublishedFile, url: str, part: Path, error: requests.RequestException) -> NoReturn:
    done_bytes = file_size(part) or 0
    if isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError) and done_bytes:
        raise DownloadError(
            f"{file.file_name} should have {file.size_bytes:,} bytes; the connection broke after {done_bytes:,}. "
            "Download again: it resumes from there."
        ) from error
    raise DownloadError(
        f"{url} should hold {file.file_name}; it cannot be reached ({type(error).__name__}). "
        f"Check the network, or copy the file to {part.parent} by hand."
    ) from error


def _refuse_disk(file: PublishedFile, folder: Path, error: OSError) -> NoReturn:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise DiskSpaceError(
            f"{file.file_name} needs {in_bytes(file.size_bytes)} in {folder}; the disk is full. "
            "Free some space and download again: it resumes from there."
        ) from error
    raise DownloadError(
        f"{file.file_name} should be written to {folder}; that failed ({error.strerror or error}). "
        f"Make the folder writable, or set {MODELS_VARIABLE} to another folder."
    ) from error
