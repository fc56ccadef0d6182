"""The composition offsets of an MP4 or QuickTime file, which FFmpeg's index does not contain.

FFmpeg lists the samples of an open file (position, size, decode time), but not their presentation times. The `ctts` box
gives the difference. So an hour of video is indexed without reading gigabytes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np


def composition_offsets(file: BinaryIO, track_id: int, sample_count: int) -> np.ndarray | None:
    """Read the presentation time minus the decode time of each sample of a track.

    Parameters
    ----------
    track_id : the track's number in the file (PyAV's `stream.id`)
    sample_count : number of samples in FFmpeg's index

    Returns
    -------
    (sample_count,) int64 in units of the track's time scale; None if the file is fragmented, damaged, has another count, or
    describes the track in several ways
    """
    try:
        return _read_offsets(file, file.seek(0, os.SEEK_END), track_id, sample_count)
    except (OSError, struct.error, ValueError):
        return None


def _read_offsets(file: BinaryIO, file_size: int, track_id: int, sample_count: int) -> np.ndarray | None:
    movie = _find(file, 0, file_size, b"moov")
    if movie is None or _find(file, *movie, b"mvex") is not None:
        return None
    for kind, start, end in _boxes(file, *movie):
        if kind != b"trak" or _track_id(file, start, end) != track_id:
            continue
        table = _find(file, start, end, b"mdia", b"minf", b"stbl")
        if table is None or _description_count(file, *table) != 1:  # several: the demuxer says where they change
            return None
        offsets = _find(file, *table, b"ctts")
        if offsets is None:
            return np.zeros(sample_count, np.int64)
        file.seek(offsets[0])
        entry_count = struct.unpack(">4xI", file.read(8))[0]
        entries = np.frombuffer(file.read(8 * entry_count), ">i4").reshape(entry_count, 2).astype(np.int64)
        # run lengths are unsigned; a damaged one must not lead to an array of gigabytes
        if (entries[:, 0] < 0).any() or entries[:, 0].sum() != sample_count:
            return None
        return np.repeat(entries[:, 1], entries[:, 0])
    return None


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, start, end) for the content of each box between two positions in the file."""
    while start + 8 <= end:
        file.seek(start)
        size, kind = struct.unpack(">I4s", file.read(8))
        header = 8
        if size == 1:
            size, header = struct.unpack(">Q", file.read(8))[0], 16
        elif size == 0:
            size = end - start
        if size < header or start + size > end:
            return
        yield kind, start + header, start + size
        start += size


def _find(file: BinaryIO, start: int, end: int, *kinds: bytes) -> tuple[int, int] | None:
    for wanted in kinds:
        content = next(((s, e) for kind, s, e in _boxes(file, start, end) if kind == wanted), None)
        if content is None:
            return None
        start, end = content
    return start, end


def _track_id(file: BinaryIO, start: int, end: int) -> int | None:
    header = _find(file, start, end, b"tkhd")
    if header is None:
        return None
    file.seek(header[0])
    version = file.read(1)[0]
    file.seek(header[0] + (20 if version == 1 else 12))
    return int(struct.unpack(">I", file.read(4))[0])


def _description_count(file: BinaryIO, start: int, end: int) -> int:
    descriptions = _find(file, start, end, b"stsd")
    if descriptions is None:
        return 0
    file.seek(descriptions[0])
    return int(struct.unpack(">4xI", file.read(8))[0])
