"""Files of datasets: names, label images, and writing that leaves a file whole or not there."""

from __future__ import annotations

import errno
import io
import re
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from surgicalsam_napari import files
from surgicalsam_napari.errors import DiskSpaceError, ExchangeError
from surgicalsam_napari.video.image_folder import IMAGE_SUFFIXES, natural_key

LABEL_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")  # of those that pictures have, the ones that keep ids as they are
UNREADABLE = (0, 0)  # the size of a picture whose header is damaged
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
_NUMBER = re.compile(r"(\d+)(?!.*\d)")
_RESERVED_ON_WINDOWS = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def frame_number(stem: str) -> int | None:
    """The last number in a file's name, as 12 of `frame_00012`; None if there is none."""
    number = _NUMBER.search(stem)
    return None if number is None else int(number[1])


def safe_name(name: str) -> str:
    """A name that every system takes as one folder's name, without the underscore that ends a frame's name in EndoVis."""
    name = re.sub(r'[\x00-\x1f<>:"/\\|?*_]+', "-", name).strip(" .-")
    return f"{name}-" if _RESERVED_ON_WINDOWS.fullmatch(name) else name or "video"


def files_by_stem(folder: Path, suffixes: tuple[str, ...] = LABEL_SUFFIXES) -> dict[str, Path]:
    """The files of a folder by name without suffix, frame2 before frame10; empty if there is no such folder.

    Raises
    ------
    ExchangeError
        two files differ in their suffix only
    """
    if not folder.is_dir():
        return {}
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir(), key=natural_key):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        if path.stem in files:
            raise ExchangeError(f"{path} and {files[path.stem].name} are one frame twice. Remove one of the two.")
        files[path.stem] = path
    return files


def pictures_by_stem(folder: Path) -> dict[str, Path]:
    return files_by_stem(folder, IMAGE_SUFFIXES)


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder in natural order, without hidden ones; empty if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")), key=natural_key)


def has_files(folder: Path, pattern: str) -> bool:
    return next(folder.glob(pattern), None) is not None


def image_size(path: Path) -> tuple[int, int]:
    """(H, W) from the header; UNREADABLE if that is damaged (reading the picture then says so)."""
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except _DAMAGED:
        return UNREADABLE


def is_color_picture(path: Path) -> bool:
    """Whether the file's pixels are colours rather than numbers; False if it cannot be read."""
    try:
        with Image.open(path) as image:
            return image.mode in ("RGB", "RGBA")
    except _DAMAGED:
        return False


def read_labels(path: Path, name: str) -> np.ndarray:
    """(H, W) uint8: the numbers in a grey or indexed picture.

    Parameters
    ----------
    name : for the message

    Raises
    ------
    ExchangeError
        the file is missing, damaged, or a colour picture
    """
    try:
        with Image.open(path) as image:
            image.load()
            pixels = np.asarray(image if image.mode != "1" else image.convert("L"))
    except FileNotFoundError as error:
        raise ExchangeError(f"{name} is missing. Restore it.") from error
    except _DAMAGED as error:
        raise ExchangeError(f"{name} is damaged and cannot be read as a picture. Restore it from its source.") from error
    if pixels.ndim == 3:
        colors = pixels[..., :3] if pixels.shape[2] > 2 else pixels[..., :1]
        if np.any(colors != colors[..., :1]):
            raise ExchangeError(f"{name} is a colour picture, a grey or indexed one of class ids is needed. Convert it.")
        pixels = colors[..., 0]
    if pixels.dtype != np.uint8:
        if pixels.min() < 0 or pixels.max() > 255:
            raise ExchangeError(f"{name} holds the number {int(pixels.max())}, class ids are 0 to 255. Save it with 8 bits.")
        pixels = pixels.astype(np.uint8)
    return pixels


def png_bytes(image: Image.Image, compress_level: int = 6) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "png", compress_level=compress_level)
    return buffer.getvalue()


def grey_png(pixels: np.ndarray) -> bytes:
    """A grey png of (H, W) uint8."""
    return png_bytes(Image.fromarray(np.ascontiguousarray(pixels, np.uint8)))


def picture_png(image: np.ndarray) -> bytes:
    """An RGB png of (H, W, 3) uint8."""
    return png_bytes(Image.fromarray(image), compress_level=1)  # a fifth of the time, for a tenth more bytes


def write_file(path: Path, content: bytes) -> Path:
    """Write a file whole or not at all, and the folders above it.

    Raises
    ------
    DiskSpaceError, ExchangeError
        it cannot be written; what was there before stays
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_file(path, content)
    except OSError as error:
        raise not_written(error, path) from error
    return path


def not_written(error: OSError, path: Path) -> DiskSpaceError | ExchangeError:
    """The user's version of a failed write."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskSpaceError(f"No space is left to write {path}. Free some, or choose another folder.")
    return ExchangeError(f"{path} cannot be written ({error.strerror}). Choose a folder you may write to.")
