"""Frames and embeddings as bytes on the line: nothing is lost, and what comes in is checked before it is used.

Frames: each pixel minus what its neighbours let expect, then zstd. Embeddings: bytes of equal weight together, then zstd.
Of real frames that leaves a quarter to a third, of float16 embeddings three quarters to four fifths.
"""

from __future__ import annotations

import numpy as np
from numcodecs import Zstd

from surgicalsam_napari.errors import WorkerRefused

LEVEL = 1  # higher levels save nothing that is worth their time
_SLACK = 1024  # bytes by which data that cannot be compressed may grow, besides a share of it


def pack_frames(frames: np.ndarray) -> bytes:
    """(B, h, w, 3) uint8 as bytes."""
    planes = frames.transpose(0, 3, 1, 2).copy()
    planes[:, ::2] -= planes[:, 1:2]  # red and blue are much like green
    gradient = planes.copy()
    gradient[..., 1:] -= planes[..., :-1]
    rows = gradient.copy()
    rows[..., 1:, :] -= gradient[..., :-1, :]
    return Zstd(LEVEL).encode(rows)


def unpack_frames(content: bytes, shape: tuple[int, int, int, int]) -> np.ndarray:
    """The frames (B, h, w, 3) uint8 of `pack_frames`; a WorkerRefused unless they have exactly this shape."""
    count, height, width, channels = shape
    rows = _unpacked(content, count * height * width * channels).reshape(count, channels, height, width)
    _add_up(rows)
    columns = rows.swapaxes(-1, -2).copy()
    _add_up(columns)
    columns[:, ::2] += columns[:, 1:2]
    return np.ascontiguousarray(columns.transpose(0, 3, 2, 1))


def pack_embeddings(embeddings: np.ndarray) -> bytes:
    """(B, D, h, w) of a float type as bytes."""
    numbers = np.ascontiguousarray(embeddings, embeddings.dtype.newbyteorder("<")).reshape(-1)
    number_bytes = numbers.view(np.uint8).reshape(-1, numbers.itemsize)
    planes = np.empty(number_bytes.shape[::-1], np.uint8)
    for place in range(numbers.itemsize):
        planes[place] = number_bytes[:, place]
    return Zstd(LEVEL).encode(planes)


def unpack_embeddings(content: bytes, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """The embeddings of `pack_embeddings`; a WorkerRefused unless they have exactly this shape, and all are finite."""
    itemsize = dtype.itemsize
    planes = _unpacked(content, int(np.prod(shape)) * itemsize).reshape(itemsize, -1)
    number_bytes = np.empty((planes.shape[1], itemsize), np.uint8)
    for place in range(itemsize):
        number_bytes[:, place] = planes[place]
    numbers = number_bytes.view(dtype.newbyteorder("<")).reshape(shape)
    exponent = np.uint16(0x7C00) if itemsize == 2 else np.uint32(0x7F800000)  # all bits set: infinite, or not a number
    if ((numbers.view(exponent.dtype.newbyteorder("<")) & exponent) == exponent).any():
        raise WorkerRefused("The embeddings of the worker should be finite numbers; some are not. Do not use this worker.")
    return numbers.astype(dtype, copy=False)


def most_bytes(size: int) -> int:
    """The most bytes that data of this size can have when packed."""
    return size + size // 128 + _SLACK


def _add_up(rows: np.ndarray) -> None:
    """Add to each row the one before, in place; row by row, which is several times as fast as np.cumsum on bytes."""
    for index in range(1, rows.shape[-2]):
        rows[..., index, :] += rows[..., index - 1, :]


def _unpacked(content: bytes, size: int) -> np.ndarray:
    """(size,) uint8. The size is checked before anything is unpacked, so that no content can ask for more memory."""
    unpacked = np.zeros(size, np.uint8)
    reason = f"they hold {_content_size(content)}"
    try:
        if _content_size(content) == size:
            Zstd(LEVEL).decode(content, unpacked)
            return unpacked
    except (RuntimeError, ValueError) as error:
        reason = str(error)
    raise WorkerRefused(
        f"The {len(content)} bytes from the other side should hold {size} bytes, compressed with zstd ({reason}). "
        "Both sides need the same version of surgicalsam-napari."
    )


def _content_size(content: bytes) -> int | None:
    """The size that the header of a zstd frame states (RFC 8878, 3.1.1.1); None if it states none."""
    if len(content) < 9 or content[:4] != b"\x28\xb5\x2f\xfd":
        return None
    descriptor = content[4]
    is_single_segment = descriptor >> 5 & 1
    length = (is_single_segment, 2, 4, 8)[descriptor >> 6]
    start = 6 - is_single_segment + (0, 1, 2, 4)[descriptor & 3]
    stated = int.from_bytes(content[start : start + length], "little")
    return None if length == 0 else stated + 256 * (length == 2)
