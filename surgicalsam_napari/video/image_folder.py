"""A folder of numbered images, read as the frames of a video."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from surgicalsam_napari.errors import VideoError

IMAGE_SUFFIXES: tuple[str, ...] = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")

_MASK_ENDING = re.compile(
    r"[-_. ](?:color[-_]?)?(?:masks?|labels?|seg|segmentation|gt|annotations?|ids?)(?:\.[a-z]+)?$", re.IGNORECASE
)
_HEADERS_READ = 1000
_EXIF_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)
_WITH_ORIENTATION = ("JPEG", "MPO", "TIFF")  # formats that cameras write; for a png, Pillow would decode the whole image


def image_files(folder: Path) -> list[Path]:
    """List the images of a folder in natural order (frame2 before frame10), without hidden files and subfolders."""
    files = (
        f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith(".") and f.is_file()
    )
    return sorted(files, key=natural_key)


def frame_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """The images of a folder that are frames of a video, in natural order; and those that are not.

    No frames are masks beside a picture (`000_mask.png` beside `000.jpg`), and of two files of one name (`000.jpg` and
    `000.png`) the one that is grey or indexed, or else the one of the rarer kind.
    """
    files = image_files(folder)
    stems = {path.stem for path in files}
    by_stem: dict[str, list[Path]] = {}
    for path in files:
        if (base := without_mask_ending(path.stem)) == path.stem or base not in stems:
            by_stem.setdefault(path.stem, []).append(path)
    kinds = Counter(path.suffix.lower() for path in files)
    frames = {_frame_of(paths, kinds) for paths in by_stem.values()}
    return [path for path in files if path in frames], [path for path in files if path not in frames]


def without_mask_ending(name: str) -> str:
    """The name of the picture that a mask beside it belongs to: `000` for `000_mask`; other names stay."""
    return _MASK_ENDING.sub("", name)


def _frame_of(paths: Sequence[Path], kinds: Counter[str]) -> Path:
    """The frame among files of one name."""
    if len(paths) == 1:
        return paths[0]
    return max(paths, key=lambda path: (_is_colored(path), kinds[path.suffix.lower()], path.name))


def _is_colored(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.mode not in ("1", "L", "P", "I", "I;16")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def natural_key(path: Path) -> tuple[tuple[tuple[int, int | str], ...], str]:
    """A sort key that compares runs of digits as numbers."""
    parts = re.split(r"([0-9]+)", path.name.casefold())
    return tuple((1, int(part)) if part.isdigit() else (0, part) for part in parts), path.name


class ImageFolder:
    """The images of a folder as frames of one size.

    Parameters
    ----------
    every_image : also masks and doubles (see `frame_files`), as before version 0.1.0

    Sizes are read from the file headers when the folder is opened (of at most 1,000 images, evenly spaced), and checked
    again when an image is decoded.

    Attributes
    ----------
    files : the images in frame order
    left_out : images in the folder that are no frames
    frame_count, size (H, W), frame_rate (None), codec ("png images" and so on), frames_decoded

    Raises
    ------
    VideoError
        if the folder holds no image, images of several sizes, or an unreadable image
    """

    def __init__(self, folder: Path, *, every_image: bool = False) -> None:
        self.path = folder
        try:
            self.files, self.left_out = (image_files(folder), []) if every_image else frame_files(folder)
        except OSError as error:
            raise VideoError(
                f"The folder {folder.name} cannot be read ({error.strerror}). Check its permissions."
            ) from error
        if not self.files:
            raise VideoError(
                f"The folder {folder.name} holds no images; at least one {', '.join(IMAGE_SUFFIXES)} file is needed. "
                "Choose the folder that holds the frames themselves."
            )
        self.frame_count = len(self.files)
        self.size = _size_in_header(self.files[0])
        self.frame_rate: float | None = None
        self.codec = f"{self.files[0].suffix.lower().lstrip('.')} images"
        self.frames_decoded = 0
        for index in np.unique(np.linspace(0, self.frame_count - 1, min(self.frame_count, _HEADERS_READ)).astype(int)):
            self._check_size(self.files[index], _size_in_header(self.files[index]))

    def close(self) -> None:
        """Do nothing: no file stays open between frames."""

    def keyframes(self) -> list[int]:
        """All frames: each one decodes without others."""
        return list(range(self.frame_count))

    def frames_until(self, index: int, _frames_before: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Decode frame `index`; yield only (index, (H, W, 3) uint8)."""
        path = self.files[index]
        try:
            with Image.open(path) as image:
                upright = ImageOps.exif_transpose(image) if image.format in _WITH_ORIENTATION else image
                array = _rgb_array(upright, path)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise VideoError(_unreadable(path)) from error
        self.frames_decoded += 1
        self._check_size(path, array.shape[:2])
        yield index, array

    def rgb(self, frame: np.ndarray) -> np.ndarray:
        return frame.copy()  # the original stays in the cache

    @staticmethod
    def byte_count(frame: np.ndarray) -> int:
        return frame.nbytes

    def _check_size(self, path: Path, size: tuple[int, ...]) -> None:
        if size != self.size:
            raise VideoError(
                f"Images in {self.path.name} differ in size: {self.files[0].name} has {self.size[1]}x{self.size[0]} pixels, "
                f"{path.name} has {size[1]}x{size[0]}; all must have one size. Move images of other sizes to another folder."
            )


def _size_in_header(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            width, height = image.size
            sideways = image.format in _WITH_ORIENTATION and image.getexif().get(_EXIF_ORIENTATION) in _SIDEWAYS
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise VideoError(_unreadable(path)) from error
    return (width, height) if sideways else (height, width)


def _rgb_array(image: Image.Image, path: Path) -> np.ndarray:
    if image.mode.startswith("I"):  # 16-bit grey: Pillow would clip it instead of scaling it
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() > 65535:
            raise VideoError(_unreadable(path))
        return np.repeat((grey.astype(np.uint16) >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode == "F":
        raise VideoError(f"{path.name} holds floating-point pixels; 8 or 16 bits are needed. Save it as an 8-bit png.")
    return np.array(image.convert("RGB"))


def _unreadable(path: Path) -> str:
    return (
        f"{path.name} cannot be read as an 8- or 16-bit image. Remove it from {path.parent.name}, or save it again as png."
    )
