"""Which video it is: the fingerprint of its file, and samples of its frames, which other files with it have, too."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from surgicalsam_napari.video.image_folder import image_files

_MEBIBYTE = 1 << 20
_POINTS = 24  # of a frame's sample, along each axis


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


def frame_sample(frame: np.ndarray) -> str:
    """The grey levels of a frame, (H, W, 3) uint8, at 24 x 24 points all over it, as base64.

    The points are not averaged: encoding a frame again changes many of them, copying its packets into another file none.
    """
    rows, columns = (np.linspace(0, length - 1, _POINTS).round().astype(int) for length in frame.shape[:2])
    grey = frame[np.ix_(rows, columns)].mean(axis=-1)
    return base64.b64encode(grey.round().astype(np.uint8).tobytes()).decode()


def sample_difference(first: str, second: str) -> np.ndarray:
    """(24 x 24,) int, the differences of two frame samples at each point, in levels of 0 to 255."""
    levels = (np.frombuffer(base64.b64decode(sample), np.uint8).astype(int) for sample in (first, second))
    difference: np.ndarray = np.abs(np.subtract(*levels))
    return difference
