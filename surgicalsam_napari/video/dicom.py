"""DICOM video, as hospitals export it: MPEG-2, MPEG-4 and HEVC inside of the file, and multi-frame images.

The headers of such a file name the patient. Only what describes the pictures is read from them (`_TAGS`), and nothing else
gets out of this module, also not in errors and warnings. The library pydicom is optional: the extra `dicom`.
"""

from __future__ import annotations

import io
import struct
import warnings
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np

from surgicalsam_napari.errors import VideoError
from surgicalsam_napari.formatting import in_bytes
from surgicalsam_napari.video.bit_depth import to_8_bits
from surgicalsam_napari.video.stream_decoder import StreamDecoder

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

DICOM_SUFFIXES: tuple[str, ...] = (".dcm", ".dicom")

_TAGS = [
    "NumberOfFrames", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsStored", "PixelRepresentation",
    "FrameTime", "FrameTimeVector", "CineRate", "RecommendedDisplayFrameRate",
]  # fmt: skip
_MARK, _MARK_AT = b"DICM", 128
_VIDEO_SYNTAX = "1.2.840.10008.1.2.4.10"  # .100 to .108, with a further .1 if the bit stream is in fragments
_VALUE_HEADER_BYTES = 12  # of the pixel data: tag, kind, length
_ITEM, _ITEM_HEADER_BYTES = (0xFFFE, 0xE000), 8


def is_dicom(path: Path) -> bool:
    """Whether this is a DICOM file, by its suffix, or by its content if the suffix is no word, as in `IM000001`."""
    suffix = path.suffix.lower()
    if suffix in DICOM_SUFFIXES:
        return True
    if suffix.lstrip(".").isalpha():
        return False
    try:
        with path.open("rb") as file:
            file.seek(_MARK_AT)
            return file.read(len(_MARK)) == _MARK
    except OSError:
        return False


def open_dicom(path: Path) -> StreamDecoder | DicomFrames:
    """The frames of a DICOM file.

    Raises
    ------
    VideoError
        if pydicom is missing, or if the file cannot be read or holds no pictures
    """
    try:
        import pydicom  # noqa: F401
    except ImportError:
        raise VideoError(
            f"{path.name} is a DICOM file, which needs the package pydicom. "
            'Install it: pip install "surgicalsam-napari[dicom]"'
        ) from None
    with _without_header_values(path):
        header, start = _header(path)
        syntax = header.file_meta.TransferSyntaxUID
        if not syntax.startswith(_VIDEO_SYNTAX):
            _check_decoder(path, syntax)
            return DicomFrames(path, header)
        with path.open("rb") as file:
            fragments = list(_fragments(file, start))
    return StreamDecoder(path, lambda: cast(BinaryIO, _Fragments(path, fragments)))


@contextmanager
def _without_header_values(path: Path) -> Iterator[None]:
    """pydicom's errors and warnings can contain values of the header: only that there was an error goes on."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except VideoError:
        raise
    except Exception:  # the file decides which: any of pydicom's readers and decoders may fail
        raise VideoError(
            f"{path.name} cannot be read as a DICOM video: it is damaged, or holds no pictures. Export it again, as a "
            "multi-frame image or as MPEG-4 video."
        ) from None


def _check_decoder(path: Path, syntax: UID) -> None:
    from pydicom.pixels import get_decoder

    if not get_decoder(syntax).is_available:
        raise VideoError(
            f"{path.name} is compressed as {syntax.name}, which needs more packages. Install them: pip install pylibjpeg "
            "pylibjpeg-libjpeg. Or export it as MPEG-4 video, or uncompressed."
        )


def _header(path: Path) -> tuple[Dataset, int]:
    """What describes the pictures, and the place of the pixel data in the file."""
    from pydicom import dcmread

    with path.open("rb") as file:
        header = dcmread(file, stop_before_pixels=True, specific_tags=cast(Any, _TAGS), force=True)
        return header, file.tell() + _VALUE_HEADER_BYTES


def _fragments(file: BinaryIO, start: int) -> Iterator[tuple[int, int]]:
    """(place, size) of the parts of encapsulated pixel data, without the first item, a table of offsets."""
    place, is_table = start, True
    while True:
        file.seek(place)
        head = file.read(_ITEM_HEADER_BYTES)
        if len(head) < _ITEM_HEADER_BYTES or struct.unpack_from("<HH", head) != _ITEM:
            return
        size = struct.unpack_from("<I", head, 4)[0]
        if not is_table:
            yield place + _ITEM_HEADER_BYTES, size
        place, is_table = place + _ITEM_HEADER_BYTES + size, False


class _Fragments(io.RawIOBase):
    """Parts of a file as one file, read from the disk as needed.

    Parameters
    ----------
    fragments : (place, size) of each part
    """

    def __init__(self, path: Path, fragments: list[tuple[int, int]]) -> None:
        self._file = path.open("rb")
        self._places = [place for place, _ in fragments]
        self._starts = [0, *accumulate(size for _, size in fragments)]
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._starts[-1]}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        part = bisect_right(self._starts, self._position) - 1
        if not 0 <= part < len(self._places):
            return 0
        self._file.seek(self._places[part] + self._position - self._starts[part])
        data = self._file.read(min(len(buffer), self._starts[part + 1] - self._position))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


class DicomFrames:
    """The pictures of a multi-frame DICOM file as frames; also of a file with one picture.

    Attributes
    ----------
    frame_count, size (H, W), frame_rate (None if not stated), codec ("dicom"), frames_decoded
    """

    def __init__(self, path: Path, header: Dataset) -> None:
        self.path = path
        self.frame_count = int(header.get("NumberOfFrames") or 1)
        self.size = (int(header.Rows), int(header.Columns))
        if self.frame_count < 1 or min(self.size) < 1 or self.frame_count > path.stat().st_size:
            raise VideoError(
                f"{path.name} should hold pictures; its header names {self.frame_count} of {self.size[1]}x{self.size[0]} "
                f"pixels, and the file has {in_bytes(path.stat().st_size)}. It is damaged: export it again."
            )
        self.codec = "dicom"
        self.frames_decoded = 0
        self._times = _times(header, self.frame_count)
        self.frame_rate = _rate(header)
        if self.frame_rate is None and self._times is not None:
            self.frame_rate = (self.frame_count - 1) / float(self._times[-1])

    def close(self) -> None:
        """Do nothing: no file stays open between frames."""

    def keyframes(self) -> list[int]:
        """All frames: each one decodes without others."""
        return list(range(self.frame_count))

    def frame_times(self) -> np.ndarray | None:
        """(T,) seconds, as the header states them, or in even steps; None without a frame rate."""
        if self._times is None and self.frame_rate:
            return np.arange(self.frame_count) / self.frame_rate
        return self._times

    def frames_until(self, index: int, _frames_before: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Decode frame `index`; yield only (index, (H, W, 3) uint8)."""
        with _without_header_values(self.path):
            frame = _picture(self.path, index)
        self.frames_decoded += 1
        yield index, frame

    def rgb(self, frame: np.ndarray) -> np.ndarray:
        return frame.copy()  # the original stays in the cache

    @staticmethod
    def byte_count(frame: np.ndarray) -> int:
        return frame.nbytes


def _picture(path: Path, index: int) -> np.ndarray:
    from pydicom import Dataset
    from pydicom.pixels import apply_color_lut, pixel_array

    description = Dataset()
    samples = pixel_array(path, ds_out=description, index=index)
    kind, bits = description.PhotometricInterpretation, int(description.BitsStored)
    if kind == "PALETTE COLOR":
        samples = apply_color_lut(samples, description)
        bits = 8 * samples.dtype.itemsize
    if description.PixelRepresentation:
        samples = samples.astype(np.int32) + (1 << bits - 1)
    if kind == "MONOCHROME1":  # white is 0
        samples = (1 << bits) - 1 - samples.astype(np.int32)
    return to_8_bits(samples, bits)


def _rate(header: Dataset) -> float | None:
    """Frames per second, as the header states it."""
    if header.get("FrameTime"):
        return 1000 / float(header.FrameTime)
    stated = header.get("CineRate") or header.get("RecommendedDisplayFrameRate")
    return float(stated) if stated else None


def _times(header: Dataset, count: int) -> np.ndarray | None:
    """(T,) seconds from the steps between frames in milliseconds, of which the first one is 0."""
    steps = header.get("FrameTimeVector")
    if steps is None or count < 2 or len(steps) != count:
        return None
    times = np.cumsum(np.array(steps, float)) / 1000
    return times - times[0] if times[-1] > times[0] else None
