"""Ways to break a file, and files that attack their reader; for `bad_inputs.py`. All of it is the same in every run."""

from __future__ import annotations

import os
import random
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

Damage = Callable[[Path, random.Random], object]

DEEP = b"[" * 100_000
HUGE = b"9" * 5000
LONG_TEXT = b'"' + b"a" * 30_000_000 + b'"'


def cut(path: Path, _random: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(0.47 * len(content))])  # not at the end of a line: many lines have the same length


def empty(path: Path, _random: random.Random) -> None:
    path.write_bytes(b"")


def random_bytes(path: Path, random: random.Random) -> None:
    path.write_bytes(random.randbytes(max(path.stat().st_size, 100)))


def flip(path: Path, random: random.Random) -> None:
    """One wrong bit in the middle third."""
    content = bytearray(path.read_bytes())
    content[random.randrange(len(content) // 3, max(2 * len(content) // 3, len(content) // 3 + 1))] ^= 1 << random.randrange(
        8
    )
    path.write_bytes(content)


def zeros(path: Path, _random: random.Random) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def remove(path: Path, _random: random.Random) -> None:
    path.unlink()


def folder_instead(path: Path, _random: random.Random) -> None:
    path.unlink()
    path.mkdir()


def link_to_itself(path: Path, _random: random.Random) -> None:
    path.unlink()
    path.symlink_to(path.name)


def pipe(path: Path, _random: random.Random) -> None:
    """A named pipe, which nobody writes to: a reader waits forever."""
    path.unlink()
    os.mkfifo(path)


def nested(path: Path, _random: random.Random) -> None:
    path.write_bytes(DEEP)


def huge_number(path: Path, _random: random.Random) -> None:
    path.write_bytes(b'{"schema_version": ' + HUGE + b', "frames": ' + HUGE + b', "notes": [{"frame": ' + HUGE + b"}]}")


def wrong_type(path: Path, _random: random.Random) -> None:
    path.write_bytes(b'["a list", {"in": "place of an object"}, null, 1e999, true]')


WAYS: dict[str, Damage] = {  # of any file
    "cut in half": cut,
    "empty": empty,
    "random bytes": random_bytes,
    "one wrong bit": flip,
    "zeros": zeros,
    "removed": remove,
    "a folder in its place": folder_instead,
    "a link to itself": link_to_itself,
    "a named pipe": pipe,
}
WAYS_OF_TEXT: dict[str, Damage] = {  # of JSON, also
    "deeply nested": nested,
    "numbers of 5000 digits": huge_number,
    "a list in place of an object": wrong_type,
}


def copied(source: Path, target: Path) -> Path:
    """A copy of a file or folder, links included."""
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy(source, target)
    return target


# Files that attack their reader ------------------------------------------------------------------------------------------


def png_of(path: Path, width: int, height: int, rows: int = 1) -> None:
    """A grey PNG whose header names this size, with the first rows of it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((1 + width) * rows) if width < 2**24 else bytes(100))
    parts = [(b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def png_bomb(path: Path, _random: random.Random) -> None:
    """A PNG of a few hundred kilobytes that unpacks to some gigabytes."""
    side, packer = 60_000, zlib.compressobj(9)
    row = bytes(1 + side)
    pixels = b"".join([packer.compress(row) for _ in range(3000)]) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def png_with_huge_header(path: Path, _random: random.Random) -> None:
    png_of(path, 2**31 - 1, 2**31 - 1)


def pickle_that_writes(target: Path) -> bytes:
    """A pickle that writes a file when it is read."""
    import pickle

    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch '{target}'",)

    return pickle.dumps(Attack())


def torch_file_that_writes(path: Path, target: Path) -> None:
    """A `.pth` as torch writes it, whose pickle writes a file when it is read."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle_that_writes(target))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")


def zip_bomb(path: Path, names: dict[str, bytes] | None = None) -> None:
    """A zip of a few megabytes that unpacks to two gigabytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in (names or {}).items():
            archive.writestr(name, content)
        with archive.open("labels/bomb", "w", force_zip64=True) as stream:
            block = bytes(2**24)
            for _ in range(128):
                stream.write(block)


YAML_BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
XML_BOMB = (
    '<?xml version="1.0"?><!DOCTYPE annotations [<!ENTITY a "' + "x" * 100 + '">'
    + "".join(
        f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + "]>"
)  # fmt: skip
