"""The fingerprint of a video: quick to compute, from its content, the same after moving or renaming the file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from surgicalsam_napari.video.image_folder import image_files

_MEBIBYTE = 1 << 20


def fingerprint(path: Path) -> str:
    """The fingerprint of a video file or of a folder of images, as in `VideoInfo`."""
    return folder_fingerprint(image_files(path)) if path.is_dir() else file_fingerprint(path)


def file_fingerprint(path: Path) -> str:
    """Hash a file's size and its first, middle and last MiB: 32 hexadecimal digits, independent of its name."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for start in (0, (size - _MEBIBYTE) // 2, size - _MEBIBYTE):
            file.seek(max(0, start))
            digest.update(file.read(_MEBIBYTE))
    return digest.hexdigest()[:32]


def folder_fingerprint(files: Sequence[Path]) -> str:
    """Hash the names and sizes of `files` (in frame order) and the content of the first and the last file."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name}\0{path.stat().st_size}\n".encode())
    for path in (files[0], files[-1]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:32]
