"""Files of datasets: names, label images, and atomic writing."""

from __future__ import annotations

import errno
import io
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from surgicalsam_napari import files
from surgicalsam_napari.errors import DiskSpaceError, ExchangeError
from surgicalsam_napari.untrusted import plain_file
from surgicalsam_napari.video.image_folder import frame_files, natural_key

LABEL_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")  # lossless formats, which keep class ids unchanged
UNREADABLE = (0, 0)  # the size of a picture whose header is damaged
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
_RESERVED_ON_WINDOWS = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def safe_name(name: str) -> str:
    """A folder name that is valid on every system; without underscores, which end a frame's name in EndoVis."""
    name = re.sub(r'[\x00-\x1f<>:"/\\|?*_]+', "-", name).strip(" .-")
    return f"{name}-" if _RESERVED_ON_WINDOWS.fullmatch(name) else name or "video"


def files_by_stem(
    folder: Path, suffixes: tuple[str, ...] = LABEL_SUFFIXES, *, is_wanted: Callable[[Path], bool] | None = None
) -> dict[str, Path]:
    """The files of a folder by name without suffix, frame2 before frame10; empty if there is no such folder.

    Parameters
    ----------
    is_wanted : leaves out other files

    Raises
    ------
    ExchangeError
        two files differ only in their suffix
    """
    if not folder.is_dir():
        return {}
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir(), key=natural_key):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        if is_wanted is not None and not is_wanted(path):
            continue
        if path.stem in files:
            raise ExchangeError(f"{path} and {files[path.stem].name} are two files for the same frame. Remove one of them.")
        files[path.stem] = path
    return files


def pictures_by_stem(folder: Path) -> dict[str, Path]:
    """The frames in a folder of pictures by name without suffix, without masks and doubles; empty if there is no folder."""
    return {path.stem: path for path in frame_files(folder)[0]} if folder.is_dir() else {}


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder in natural order, without hidden ones; empty if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")), key=natural_key)


def has_files(folder: Path, pattern: str) -> bool:
    return next(folder.glob(pattern), None) is not None


def image_size(path: Path) -> tuple[int, int]:
    """(H, W) from the file's header; UNREADABLE if the header is damaged (`read_labels` then raises the error)."""
    try:
        with Image.open(plain_file(path)) as image:
            return image.height, image.width
    except DAMAGED:
        return UNREADABLE


def is_color_picture(path: Path) -> bool:
    """Whether the file's pixels are colours instead of class ids; False if it cannot be read."""
    return _mode(path) in ("RGB", "RGBA", "CMYK", "YCbCr")


def is_id_mask(path: Path) -> bool:
    """Whether the file's pixels can be class ids: grey or indexed, in a lossless format."""
    return path.suffix.lower() in LABEL_SUFFIXES and _mode(path) in ("1", "L", "P", "I", "I;16", "I;16B")


def _mode(path: Path) -> str:
    """Pillow's name for the kind of pixels, from the file's header; "" if it cannot be read."""
    try:
        with Image.open(plain_file(path)) as image:
            return image.mode
    except DAMAGED:
        return ""


def read_labels(path: Path, name: str) -> np.ndarray:
    """The class ids in a grey or indexed picture: (H, W) uint8.

    Parameters
    ----------
    name : the name that error messages show

    Raises
    ------
    ExchangeError
        the file is missing, damaged, or a colour picture
    """
    try:
        with Image.open(plain_file(path)) as image:
            image.load()
            pixels = np.asarray(image if image.mode != "1" else image.convert("L"))
    except FileNotFoundError as error:
        raise ExchangeError(f"{name} is missing. Restore the file.") from error
    except DAMAGED as error:
        raise ExchangeError(
            f"{name} is damaged and cannot be read as a picture. Restore the file from its source."
        ) from error
    if pixels.ndim == 3:
        colors = pixels[..., :3] if pixels.shape[2] > 2 else pixels[..., :1]
        if np.any(colors != colors[..., :1]):
            raise ExchangeError(
                f"{name} is a colour picture, but labels need a grey or indexed picture of class ids. Convert it."
            )
        pixels = colors[..., 0]
    if pixels.dtype != np.uint8:
        if pixels.min() < 0 or pixels.max() > 255:
            raise ExchangeError(
                f"{name} has the value {int(pixels.max())}, but class ids are 0 to 255. Save it as an 8-bit picture."
            )
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
    return png_bytes(Image.fromarray(image), compress_level=1)  # a fifth of the time, a tenth more bytes


def write_file(path: Path, content: bytes) -> Path:
    """Write a complete file or nothing, and create the folders above it.

    Raises
    ------
    DiskSpaceError, ExchangeError
        it cannot be written; an earlier file stays unchanged
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_file(path, content)
    except OSError as error:
        raise not_written(error, path) from error
    return path


def not_written(error: OSError, path: Path) -> DiskSpaceError | ExchangeError:
    """The error to show to the user after a failed write."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskSpaceError(f"No space is left to write {path}. Free some space, or choose another folder.")
    return ExchangeError(f"{path} cannot be written ({error.strerror}). Choose a folder that you can write to.")
