"""Images read as the frames of a video: a folder of numbered images, or a TIFF file with several pages."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from surgicalsam_napari.errors import VideoError
from surgicalsam_napari.video.bit_depth import bits_for, deep_samples, is_deep, stated_bits, to_8_bits
from surgicalsam_napari.video.tiff_pages import TIFF_SUFFIXES, tiff_pages

IMAGE_SUFFIXES: tuple[str, ...] = (".png", ".jpg", ".jpeg", ".bmp", *TIFF_SUFFIXES)

_MASK_ENDING = re.compile(
    r"[-_. ](?:color[-_]?)?(?:masks?|labels?|seg|segmentation|gt|annotations?|ids?)(?:\.[a-z]+)?$", re.IGNORECASE
)
_HEADERS_READ, _FRAMES_MEASURED = 1000, 8
_EXIF_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)
_WITH_ORIENTATION = ("JPEG", "MPO", "TIFF")  # formats that cameras write; for a png, Pillow would decode the whole image


def image_files(folder: Path) -> list[Path]:
    """List the images of a folder in natural order (frame2 before frame10), without hidden files and subfolders."""
    files = (
        f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith(".") and f.is_file()
    )
    return sorted(files, key=natural_key)


def is_numbered_frames(folder: Path) -> bool:
    """Whether a folder holds at least two images, all numbered. Most folders of images are not a video."""
    files = image_files(folder)
    return len(files) > 1 and all(any(letter.isdigit() for letter in file.stem) for file in files)


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


@dataclass(frozen=True)
class _Frame:
    path: Path
    page: int = 0

    @property
    def name(self) -> str:
        return f"page {self.page + 1} of {self.path.name}" if self.page else self.path.name


class ImageFolder:
    """Images as frames of one size: those of a folder, or the pages of one file. Each page of a TIFF file is a frame.

    Parameters
    ----------
    path : a folder, or a TIFF file
    every_image : of a folder, also masks and doubles (see `frame_files`), as before version 0.1.0

    Sizes are read from the file headers when the folder is opened (of at most 1,000 images, evenly spaced), and checked
    again when an image is decoded. Pages of another size than the first page are previews, and no frames.

    Images with more than 8 bits are scaled by one rule for all frames: the smallest usual depth (8, 10, 12, 14 or 16 bits)
    that holds what the files state and the largest value in some frames, evenly spaced, becomes black to white.

    Attributes
    ----------
    files : the files in frame order
    left_out : images in the folder that are no frames
    remarks : how the samples are scaled, in words, if they have more than 8 bits
    frame_count, size (H, W), frame_rate (None), codec ("png images" and so on), frames_decoded

    Raises
    ------
    VideoError
        if the folder holds no image, images of several sizes, or an unreadable image
    """

    def __init__(self, path: Path, *, every_image: bool = False) -> None:
        self.path = path
        self.files, self.left_out = _files(path, every_image)
        self._open_stack: tuple[Path, Image.Image] | None = None
        self._frames = [frame for file in self.files for frame in _frames_in(file)]
        self.frame_count = len(self._frames)
        self.size = _size_in_header(self.files[0])
        self.frame_rate: float | None = None
        self.codec = f"{self.files[0].suffix.lower().lstrip('.')} images"
        self.frames_decoded = 0
        for index in _spread(len(self.files), _HEADERS_READ):
            self._check_size(_Frame(self.files[index]), _size_in_header(self.files[index]))
        self._bits = self._bits_used()
        self.remarks: tuple[str, ...] = (
            ()
            if self._bits is None
            else (f"{self._bits}-bit images: the value {(1 << self._bits) - 1:,} is shown as white",)
        )

    def close(self) -> None:
        """Close the file with several pages; no other stays open between frames."""
        if self._open_stack is not None:
            self._open_stack[1].close()
            self._open_stack = None

    def keyframes(self) -> list[int]:
        """All frames: each one decodes without others."""
        return list(range(self.frame_count))

    def frame_times(self) -> None:
        """None: images have no times."""

    def frames_until(self, index: int, _frames_before: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Decode frame `index`; yield only (index, (H, W, 3) uint8)."""
        frame = self._frames[index]
        with self._image(frame) as image:
            if not is_deep(image):
                array = _rgb_array(image, frame.path)
            else:
                array = to_8_bits(deep_samples(image, frame.path, frame.page), self._bits or bits_for(65535))
        self.frames_decoded += 1
        self._check_size(frame, array.shape[:2])
        yield index, array

    def rgb(self, frame: np.ndarray) -> np.ndarray:
        return frame.copy()  # the original stays in the cache

    @staticmethod
    def byte_count(frame: np.ndarray) -> int:
        return frame.nbytes

    @contextmanager
    def _image(self, frame: _Frame) -> Iterator[Image.Image]:
        """The opened picture of a frame; a VideoError for whatever goes wrong with it."""
        try:
            if not frame.page:
                with Image.open(frame.path) as image:
                    yield image
                return
            if self._open_stack is None or self._open_stack[0] != frame.path:
                self.close()
                self._open_stack = (frame.path, Image.open(frame.path))  # it remembers where its pages are
            stack = self._open_stack[1]
            stack.seek(frame.page)
            yield stack
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
            raise VideoError(_unreadable(frame.path)) from error

    def _bits_used(self) -> int | None:
        """The bits that the frames with more than 8 bits use, from at most a few of them; None if there are none."""
        bits = []
        for index in _spread(self.frame_count, _FRAMES_MEASURED):
            frame = self._frames[index]
            with suppress(VideoError), self._image(frame) as image:  # a request for this frame reports the error
                if is_deep(image):
                    bits += [stated_bits(image), bits_for(float(deep_samples(image, frame.path, frame.page).max()))]
        return max(bits, default=None)

    def _check_size(self, frame: _Frame, size: tuple[int, ...]) -> None:
        if size != self.size:
            raise VideoError(
                f"Images in {self.path.name} differ in size: {self.files[0].name} has {self.size[1]}x{self.size[0]} pixels, "
                f"{frame.name} has {size[1]}x{size[0]}; all must have one. Move images of other sizes to another folder."
            )


def _files(path: Path, every_image: bool) -> tuple[list[Path], list[Path]]:
    """The files with the frames, and the images beside them that are no frames."""
    if path.is_file():
        return [path], []
    try:
        files, left_out = (image_files(path), []) if every_image else frame_files(path)
    except OSError as error:
        raise VideoError(f"The folder {path.name} cannot be read ({error.strerror}). Check its permissions.") from error
    if not files:
        raise VideoError(
            f"The folder {path.name} holds no images; at least one {', '.join(IMAGE_SUFFIXES)} file is needed. "
            "Choose the folder that holds the frames themselves."
        )
    return files, left_out


def _frames_in(file: Path) -> list[_Frame]:
    """One frame for each page that is as large as the first one."""
    if file.suffix.lower() not in TIFF_SUFFIXES:
        return [_Frame(file)]
    pages = tiff_pages(file)
    return [_Frame(file, page.number) for page in pages if page.size == pages[0].size] or [_Frame(file)]


def _spread(count: int, most: int) -> list[int]:
    """At most `most` indices, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int)).tolist()


def _size_in_header(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            width, height = image.size
            sideways = image.format in _WITH_ORIENTATION and image.getexif().get(_EXIF_ORIENTATION) in _SIDEWAYS
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise VideoError(_unreadable(path)) from error
    return (width, height) if sideways else (height, width)


def _rgb_array(image: Image.Image, path: Path) -> np.ndarray:
    if image.mode == "F":
        raise VideoError(f"{path.name} holds floating-point pixels; 8 or 16 bits are needed. Save it as an 8-bit png.")
    return np.array((ImageOps.exif_transpose(image) if image.format in _WITH_ORIENTATION else image).convert("RGB"))


def _unreadable(path: Path) -> str:
    return (
        f"{path.name} cannot be read as an 8- or 16-bit image. Remove it from {path.parent.name}, or save it again as png."
    )
