"""Broken and hostile videos and pictures; for `bad_inputs.py`."""

from __future__ import annotations

import random
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from bad_files import WAYS, copied, png_bomb, png_of, png_with_huge_header
from bad_runs import OUT, Case, Prepare, Scene
from PIL import Image

Make = Callable[[Scene, Path], Path]
KIND = "video"


def cases(seed: int) -> Iterator[Case]:
    """Each video is segmented; a folder of pictures is a video, too."""
    for fault, damage in WAYS.items():
        if fault in ("one wrong bit", "removed"):
            continue  # a wrong pixel that nobody can notice; a missing video is a case below
        yield Case(KIND, fault, _segmented(_damaged_clip(damage, seed)))
    for fault, share in (("cut after 1 %", 0.01), ("cut after 90 %", 0.9), ("cut after 99 %", 0.99)):
        yield Case(KIND, fault, _segmented(_cut_clip(share), "all"), right=_RIGHT.get(fault, ""))
    yield from (Case(KIND, fault, _segmented(make), right=_RIGHT.get(fault, "")) for fault, make in FILES.items())
    for fault, make in FOLDERS.items():
        yield Case("folder of pictures", fault, _segmented(make), right=_RIGHT.get(fault, ""))
    yield Case(
        KIND,
        "one wrong bit in the middle",
        _segmented(_damaged_clip(WAYS["one wrong bit"], seed)),
        right="a decoder shows what it can; a video has no checksum, and nothing of a person is in it",
    )


_RIGHT = {
    "cut after 99 %": "all frames are there; only the end of a table that is not needed is missing",
    "65,535 x 65,535 pixels in the header": "the size comes from the pictures themselves, which are intact",
    "a box of 4 GiB in a small file": "every frame is there and is read; FFmpeg stops at the end of the file",
    "a PNG with one line of pixels": "a picture of a video, not labels; the missing lines are black, as in other viewers",
    "a folder in place of a picture": "the pictures are the frames, and the folder is none",
    "a named pipe in place of a picture": "the pictures are the frames, and the pipe is none",
}


def _segmented(make: Make, frames: str = "0") -> Prepare:
    def prepare(scene: Scene, folder: Path) -> list[str]:
        video = make(scene, folder)
        return ["segment", str(video), "--all", "--frames", frames, "--project-folder", str(folder / OUT)]

    return prepare


def _damaged_clip(damage: Callable[[Path, random.Random], object], seed: int) -> Make:
    def make(scene: Scene, folder: Path) -> Path:
        video = copied(scene.video, folder / "clip.mp4")
        damage(video, random.Random(seed))
        return video

    return make


def _cut_clip(share: float) -> Make:
    def make(scene: Scene, folder: Path) -> Path:
        content = scene.video.read_bytes()
        (folder / "clip.mp4").write_bytes(content[: int(len(content) * share)])
        return folder / "clip.mp4"

    return make


# Files ----------------------------------------------------------------------------------------------------------------


def _file(name: str, content: bytes) -> Make:
    def make(_scene: Scene, folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def _missing(_scene: Scene, folder: Path) -> Path:
    return folder / "not_there.mp4"


def _renamed_project(scene: Scene, folder: Path) -> Path:
    return copied(scene.project / "project.json", folder / "clip.mp4")


def _zip(scene: Scene, folder: Path) -> Path:
    with zipfile.ZipFile(folder / "clip.mp4", "w") as archive:
        archive.write(scene.video, "clip.mp4")
    return folder / "clip.mp4"


def _huge_header(scene: Scene, folder: Path) -> Path:
    """The width and height of the picture in every table of the file are 65,535."""
    content = bytearray(scene.video.read_bytes())
    size = struct.pack(">HH", 128, 96)
    position = content.find(size)
    while position >= 0:
        content[position : position + 4] = b"\xff" * 4
        position = content.find(size, position + 4)
    (folder / "clip.mp4").write_bytes(content)
    return folder / "clip.mp4"


def _sizes_of_boxes(scene: Scene, folder: Path) -> Path:
    """The box of the tables says that it is 4 GiB long."""
    content = bytearray(scene.video.read_bytes())
    content[content.find(b"moov") - 4 : content.find(b"moov")] = b"\xff" * 4
    (folder / "clip.mp4").write_bytes(content)
    return folder / "clip.mp4"


def _count_of_frames(scene: Scene, folder: Path) -> Path:
    """The table of sizes says that there are 2**31 frames."""
    content = bytearray(scene.video.read_bytes())
    place = content.find(b"stsz") + 12
    content[place : place + 4] = b"\x7f\xff\xff\xff"
    (folder / "clip.mp4").write_bytes(content)
    return folder / "clip.mp4"


def _avi_without_frames(_scene: Scene, folder: Path) -> Path:
    header = b"RIFF" + struct.pack("<I", 4) + b"AVI "
    (folder / "clip.avi").write_bytes(header)
    return folder / "clip.avi"


def _playlist(scene: Scene, folder: Path) -> Path:
    """A playlist that names another file of the person."""
    (folder / "clip.mp4").write_text(f"#EXTM3U\n#EXTINF:1,\nfile://{scene.canary / 'notes.txt'}\n#EXT-X-ENDLIST\n")
    return folder / "clip.mp4"


def _concatenation(scene: Scene, folder: Path) -> Path:
    """A script of ffmpeg that names another file of the person."""
    (folder / "clip.mp4").write_text(f"ffconcat version 1.0\nfile {scene.video}\n")
    return folder / "clip.mp4"


def _sound(_scene: Scene, folder: Path) -> Path:
    samples = bytes(8000)
    header = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8) + b"data" + struct.pack("<I", len(samples))
    (folder / "clip.wav").write_bytes(b"RIFF" + struct.pack("<I", len(header) + len(samples)) + header + samples)
    return folder / "clip.wav"


def _dicom(pixel_bytes: int, rows: int, columns: int, frames: str) -> Make:
    def element(group: int, number: int, kind: bytes, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        size = struct.pack("<I", len(value))
        is_long = kind in (b"OB", b"OW")
        return (
            struct.pack("<HH", group, number) + kind + (b"\0\0" + size if is_long else struct.pack("<H", len(value))) + value
        )

    def make(_scene: Scene, folder: Path) -> Path:
        short = struct.Struct("<H").pack
        meta = element(2, 0x10, b"UI", b"1.2.840.10008.1.2.1\0")
        meta = element(2, 0, b"UL", struct.pack("<I", len(meta))) + meta
        numbers = {0x10: rows, 0x11: columns, 0x100: 8, 0x101: 8, 0x102: 7, 0x103: 0}
        body = b"".join(
            (
                element(8, 0x16, b"UI", b"1.2.840.10008.5.1.4.1.1.77.1.1.1"),
                element(0x28, 2, b"US", short(1)),
                element(0x28, 4, b"CS", b"MONOCHROME2 "),
                element(0x28, 8, b"IS", frames.encode()),
                *(element(0x28, tag, b"US", short(value)) for tag, value in numbers.items()),
                element(0x7FE0, 0x10, b"OB", bytes(pixel_bytes)),
            )
        )
        (folder / "clip.dcm").write_bytes(bytes(128) + b"DICM" + meta + body)
        return folder / "clip.dcm"

    return make


def _tiff(width: int, height: int, offset: int) -> Make:
    def make(_scene: Scene, folder: Path) -> Path:
        tags = ((256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, offset), (277, 1), (278, height), (279, 4))
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        next_page = 8 if offset == 8 else 0  # a page that follows itself
        content = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", next_page) + bytes(64)
        (folder / "clip.tif").write_bytes(content)
        return folder / "clip.tif"

    return make


FILES: dict[str, Make] = {
    "not there": _missing,
    "text named .mp4": _file("clip.mp4", b"This is a text, and not a video.\n" * 20),
    "a page of HTML named .mp4": _file("clip.mp4", b"<html><body>404 Not Found</body></html>"),
    "JSON named .mp4": _renamed_project,
    "a zip named .mp4": _zip,
    "a zip named .zip": lambda scene, folder: _zip(scene, folder).rename(folder / "clip.zip"),
    "a program named .mp4": _file("clip.mp4", b"\x7fELF" + bytes(500)),
    "a sound file": _sound,
    "an AVI without frames": _avi_without_frames,
    "65,535 x 65,535 pixels in the header": _huge_header,
    "a box of 4 GiB in a small file": _sizes_of_boxes,
    "2,147,483,647 frames in the table": _count_of_frames,
    "a playlist that names a file of the person": _playlist,
    "a script that names other files": _concatenation,
    "Matroska with random content": _file("clip.mkv", b"\x1aE\xdf\xa3" + random.Random(1).randbytes(2000)),
    "MPEG with random content": _file("clip.mpg", b"\0\0\1\xba" + random.Random(2).randbytes(5000)),
    "Ogg with random content": _file("clip.ogv", b"OggS" + random.Random(3).randbytes(2000)),
    "a GIF of 65,535 x 65,535 pixels": _file("clip.gif", b"GIF89a\xff\xff\xff\xff\xf0\0\0" + bytes(60)),
    "DICOM with fewer pixels than it says": _dicom(100, 96, 128, "4"),
    "DICOM of 65,535 x 65,535 x 999,999,999": _dicom(100, 65535, 65535, "999999999"),
    "DICOM with a negative number of frames": _dicom(96 * 128, 96, 128, "-4"),
    "DICOM without pixels": _dicom(0, 0, 0, "0"),
    "DICOM with random content": _file("clip.dcm", bytes(128) + b"DICM" + random.Random(4).randbytes(3000)),
    "TIFF of 4,294,967,295 pixels in a line": _tiff(2**32 - 1, 2**31 - 1, 200),
    "TIFF whose pages follow each other in a circle": _tiff(8, 8, 8),
    "TIFF with pixels after its end": _tiff(64, 64, 2**31),
    "TIFF with random content": _file("clip.tif", b"II*\0\x08\0\0\0" + random.Random(5).randbytes(3000)),
}


# Folders of pictures --------------------------------------------------------------------------------------------------


def _pictures(change: Callable[[Path], object]) -> Make:
    def make(_scene: Scene, folder: Path) -> Path:
        pictures = folder / "frames"
        pictures.mkdir()
        for index in range(3):
            pixels = np.full((96, 128, 3), 40 * index, np.uint8)
            Image.fromarray(pixels).save(pictures / f"frame_{index:04}.png")
        change(pictures)
        return pictures

    return make


def _first(pictures: Path) -> Path:
    return pictures / "frame_0000.png"


def _other_size(pictures: Path) -> None:
    Image.fromarray(np.zeros((50, 60, 3), np.uint8)).save(_first(pictures))


def _no_pictures(pictures: Path) -> None:
    shutil.rmtree(pictures)
    pictures.mkdir()


def _text(pictures: Path) -> None:
    _first(pictures).write_text("no picture")


def _link_out(pictures: Path) -> None:
    _first(pictures).unlink()
    _first(pictures).symlink_to("/etc/passwd")


FOLDERS: dict[str, Make] = {
    "empty": _pictures(_no_pictures),
    "a text in place of a picture": _pictures(_text),
    "a cut picture": _pictures(lambda pictures: WAYS["cut in half"](_first(pictures), random.Random(0))),
    "a picture of another size": _pictures(_other_size),
    "a PNG of gigabytes": _pictures(lambda pictures: png_bomb(_first(pictures), random.Random(0))),
    "a PNG of 2,147,483,647 pixels in a line": _pictures(
        lambda pictures: png_with_huge_header(_first(pictures), random.Random(0))
    ),
    "a PNG with one line of pixels": _pictures(lambda pictures: png_of(_first(pictures), 128, 96)),
    "a link to a file that is no picture": _pictures(_link_out),
    "a folder in place of a picture": _pictures(
        lambda pictures: WAYS["a folder in its place"](_first(pictures), random.Random(0))
    ),
    "a named pipe in place of a picture": _pictures(
        lambda pictures: WAYS["a named pipe"](_first(pictures), random.Random(0))
    ),
}
