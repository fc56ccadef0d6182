"""The pages of a TIFF file, read from its directories without decoding."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

TIFF_SUFFIXES: tuple[str, ...] = (".tif", ".tiff")

_KIND, _WIDTH, _HEIGHT, _SAMPLES_PER_PIXEL = 254, 256, 257, 277
_SMALLER_COPY = 1  # bit of the kind
_SHORT = 3  # type of a value with two bytes


@dataclass(frozen=True)
class TiffPage:
    """A full picture in a TIFF file: `number` counts all pictures of the file, also smaller copies. `size` is (H, W)."""

    number: int
    size: tuple[int, int]
    is_colored: bool


def tiff_pages(path: Path) -> list[TiffPage]:
    """The pages of a file, without smaller copies of a picture; none if the file is damaged or no TIFF."""
    try:
        with path.open("rb") as file:
            directories = list(_directories(file))
    except (OSError, struct.error):
        return []
    return [
        TiffPage(number, (tags.get(_HEIGHT, 0), tags.get(_WIDTH, 0)), tags.get(_SAMPLES_PER_PIXEL, 1) >= 3)
        for number, tags in enumerate(directories)
        if not tags.get(_KIND, 0) & _SMALLER_COPY
    ]


def _directories(file: BinaryIO) -> Iterator[dict[int, int]]:
    """The tags with a single whole number of each picture, by the tag's number."""
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2], "")
    version = struct.unpack_from(f"{order}H", head, 2)[0] if order else 0
    if version not in (42, 43):
        return
    is_big = version == 43
    count_kind, offset_kind, entry_size = ("Q", "Q", 20) if is_big else ("H", "I", 12)
    offset = struct.unpack_from(f"{order}{offset_kind}", head, 8 if is_big else 4)[0]
    seen: set[int] = set()
    while offset and offset not in seen:
        seen.add(offset)
        file.seek(offset)
        count = struct.unpack(order + count_kind, file.read(struct.calcsize(order + count_kind)))[0]
        entries = file.read(entry_size * min(count, 4096))
        offset = struct.unpack(order + offset_kind, file.read(struct.calcsize(order + offset_kind)))[0]
        yield dict(_number(entries[i : i + entry_size], order) for i in range(0, len(entries), entry_size))


def _number(entry: bytes, order: str) -> tuple[int, int]:
    tag, kind = struct.unpack_from(f"{order}HH", entry)
    place = len(entry) - (8 if len(entry) > 12 else 4)
    return tag, int(struct.unpack_from(f"{order}{'H' if kind == _SHORT else 'I'}", entry, place)[0])
