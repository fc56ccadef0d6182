"""MOTS: 16-bit pictures whose values are 1000 times the class, plus the object; and the same as text with run lengths.

::

    instances/clip/000012.png        16-bit grey: 0, or 1000 * class + object; the same object in all frames of a video
    instances/labels.txt             the names of the classes 1, 2, … (CVAT and datumaro)
    instances_txt/clip.txt           an object a line: frame, id (the same value), class, height, width, COCO run lengths
    images/clip/000012.png

Layouts of others that are read: KITTI MOTS (pictures in `training/image_02/0000`), MOTSChallenge (`MOTS20-02/gt/gt.txt`
with `img1`, which counts from 1), CVAT and datumaro (`default/instances`, `default/images`), and text files alone. Pictures
are preferred to text. Source: https://www.vision.rwth-aachen.de/page/mots and
https://github.com/VisualComputingInstitute/mots_tools. The value 10000 is a region that MOTS ignores, unless there are ten
classes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image
from pycocotools import mask as run_lengths

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.coordinates import MOST_FRAMES, picture_size
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame, needed_classes
from surgicalsam_napari.exchange.files import DAMAGED, image_size, picture_png, png_bytes, write_file
from surgicalsam_napari.exchange.format import ExportTarget, Format, FrameToWrite, FrameWriter, OwnedFiles, ReadOptions
from surgicalsam_napari.exchange.formats.coco_masks import read_mask
from surgicalsam_napari.exchange.instances import ObjectNumbers, numbered_tracks, read_object
from surgicalsam_napari.exchange.listing import (
    FILES_SCANNED,
    ListedPicture,
    Skips,
    find_picture,
    listed_dataset,
    named_classes,
    text_lines,
)
from surgicalsam_napari.exchange.overlaps import ClassMask
from surgicalsam_napari.exchange.sidecar import Sidecar, read_sidecar
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.untrusted import plain_file
from surgicalsam_napari.video.image_folder import natural_key

NAME = "mots"
LABELS, TEXT, IMAGES, NAMES = "instances", "instances_txt", "images", "labels.txt"
OBJECTS = 1000  # values of a class
IGNORED = 10 * OBJECTS
LONGEST_LINE = 2**24  # characters
LARGEST_CLASS = 64  # 65 * 1000 + 999 has more than 16 bits


@dataclass
class MotsWriter(FrameWriter):
    """Writes frames into a new folder; `close` writes the text files and the names of the classes."""

    target: ExportTarget
    objects: ObjectNumbers = field(default_factory=ObjectNumbers)
    lines: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def write(self, frame: FrameToWrite) -> None:
        if len(self.target.classes) > LARGEST_CLASS:
            raise ExchangeError(
                f"MOTS holds {LARGEST_CLASS} classes, but there are {len(self.target.classes)}. Export some of them, or "
                "choose another format."
            )
        values = np.zeros(frame.size, np.uint16)
        lines = self.lines[frame.sequence]
        for one in frame.masks():
            value = self._value(frame, one)
            values[one.mask] = value
            counts = run_lengths.encode(np.asfortranarray(one.mask, np.uint8))["counts"].decode("ascii")
            lines.append(f"{frame.frame_index} {value} {value // OBJECTS} {frame.size[0]} {frame.size[1]} {counts}\n")
        place = PurePosixPath(frame.sequence, f"{frame.frame_index:06d}.png")
        write_file(self.target.folder / LABELS / place, png_bytes(Image.fromarray(values)))
        if frame.image is not None:
            write_file(self.target.folder / IMAGES / place, picture_png(frame.image))

    def _value(self, frame: FrameToWrite, one: ClassMask) -> int:
        first = (1 + self.target.classes.ids.index(one.class_id)) * OBJECTS
        try:
            return self.objects.number(frame.sequence, frame.frame_index, one, range(first + 1, first + OBJECTS))
        except StopIteration:
            name = self.target.classes.by_id(one.class_id).name
            raise ExchangeError(
                f"MOTS holds {OBJECTS - 1} objects of a class in a video, but {frame.sequence} has more of {name}. Make "
                "tracks first (surgicalsam track), or choose another format, such as COCO."
            ) from None

    def close(self) -> None:
        for sequence, lines in self.lines.items():
            write_file(self.target.folder / TEXT / f"{sequence}.txt", "".join(lines).encode())
        write_file(self.target.folder / LABELS / NAMES, "".join(f"{name}\n" for name in self.target.classes.names).encode())

    def track_numbers(self) -> Mapping[str, Mapping[int, int]]:
        return self.objects.tracks


def recognizes(path: Path) -> bool:
    return bool(_label_folders(path)) or any(_is_text(file) for file in _text_files(path))


def read_dataset(path: Path, options: ReadOptions) -> Dataset:
    sidecar = read_sidecar(path if path.is_dir() else path.parent)
    skips, notes = Skips(), list[str]()
    folders = _label_folders(path)
    classes, class_ids = _classes(path, folders, sidecar, options.classes)
    if folders:
        pictures = [picture for folder in folders for picture in _of_pictures(folder, path, class_ids, sidecar, skips)]
    else:
        files = [file for file in _text_files(path) if _is_text(file)]
        pictures = [picture for file in files for picture in _of_text(file, path, class_ids, skips, notes)]
    dataset = listed_dataset(path, NAME, classes, pictures, options, sidecar=sidecar, skips=skips)
    if sidecar is not None:
        return replace(dataset, has_instances=sidecar.has_instances, has_tracks=sidecar.has_tracks)
    return replace(dataset, has_instances=True, has_tracks=True, notes=tuple(notes))


def _label_folders(path: Path) -> list[Path]:
    """The folders `instances` with 16-bit pictures."""
    if not path.is_dir():
        return []
    for pattern in (LABELS, f"*/{LABELS}"):
        if found := [folder for folder in sorted(path.glob(pattern)) if _has_objects(folder)]:
            return found
    return []


def _has_objects(folder: Path) -> bool:
    first = next(folder.rglob("*.png"), None)
    try:
        if first is None:
            return False
        with Image.open(plain_file(first)) as image:
            return image.mode.startswith("I")
    except DAMAGED:
        return (folder / NAMES).is_file()


def _text_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() == ".txt" else []
    patterns = ("gt/gt.txt", "*/gt/gt.txt", f"{TEXT}/*.txt", f"*/{TEXT}/*.txt", "*.txt")
    return next((found for pattern in patterns if (found := sorted(path.glob(pattern), key=natural_key))), [])


def _is_text(file: Path) -> bool:
    """Whether the first line has five whole numbers and run lengths."""
    try:
        with plain_file(file).open(encoding="ascii") as lines:
            fields = lines.readline(LONGEST_LINE).split()
    except (OSError, UnicodeDecodeError):
        return False
    return len(fields) == 6 and all(text.isdecimal() for text in fields[:5]) and not fields[5].isdecimal()


def _classes(
    path: Path, folders: list[Path], sidecar: Sidecar | None, given: ClassSet | None
) -> tuple[ClassSet, dict[int, int]]:
    """The classes, and the class id for each class number in the files."""
    if sidecar is not None:
        return sidecar.classes, dict(enumerate(sidecar.classes.ids, 1))
    places = [folder / NAMES for folder in (*folders, path, path / LABELS)]
    file = next((file for file in places if file.is_file()), None)
    if file is not None and (names := [name for line in text_lines(file) if (name := line.strip())]):
        classes = named_classes(names, file)
        return classes, {number: classes.by_name(name).id for number, name in enumerate(names, 1)}
    classes = needed_classes(given, path, "values such as 2001")
    return classes, {class_id: class_id for class_id in classes.ids}


def _of_pictures(
    folder: Path, path: Path, class_ids: Mapping[int, int], sidecar: Sidecar | None, skips: Skips
) -> Iterator[ListedPicture]:
    base = folder.parent
    places = [base / IMAGES, base / "training/image_02", base / "image_02", base.parent / "training/image_02"]
    files = sorted(folder.rglob("*.png"), key=natural_key)
    for position, file in enumerate(files):
        name = file.relative_to(folder)
        picture = find_picture(name, places)

        def read(frame: DatasetFrame, file: Path = file) -> Sequence[ClassMask]:
            return _masks(_values(file, frame.name), frame, class_ids, sidecar)

        if position < FILES_SCANNED and not _knows_ignored(class_ids):
            _count_ignored(file, path, skips)
        listed = ListedPicture(name, image_size(picture or file), read, picture)
        if sidecar is not None and name.parent.name in sidecar.frames and name.stem.isdecimal():
            listed = replace(listed, sequence=name.parent.name, frame_index=int(name.stem))
        yield listed


def _knows_ignored(class_ids: Mapping[int, int]) -> bool:
    return IGNORED // OBJECTS in class_ids


def _count_ignored(file: Path, path: Path, skips: Skips) -> None:
    try:
        count = int(np.count_nonzero(_values(file, file.name) == IGNORED))
    except ExchangeError:
        return  # its own error comes when the frame is read
    if count:
        skips.add(f"pixels of ignored regions in the first {FILES_SCANNED} files", file.relative_to(path).as_posix(), count)


def _values(file: Path, name: str) -> np.ndarray:
    """(H, W) int32."""
    try:
        with Image.open(plain_file(file)) as image:
            values = np.asarray(image).astype(np.int32)
    except DAMAGED as error:
        raise ExchangeError(
            f"{name} is damaged and cannot be read as a picture. Restore the file from its source."
        ) from error
    if values.ndim != 2:
        raise ExchangeError(f"{name} is a colour picture, but MOTS needs 16-bit grey pictures. Restore the file.")
    if not 0 <= int(values.min(initial=0)) <= int(values.max(initial=0)) < 2**16:
        raise ExchangeError(f"{name} has the value {values.max()}, but MOTS needs 16-bit pictures. Restore the file.")
    return values


def _masks(
    values: np.ndarray, frame: DatasetFrame, class_ids: Mapping[int, int], sidecar: Sidecar | None
) -> list[ClassMask]:
    masks = []
    for value in np.flatnonzero(np.bincount(values.ravel())).tolist():
        if value == 0 or (value == IGNORED and not _knows_ignored(class_ids)):
            continue
        one = ClassMask(
            _class_id(value // OBJECTS, class_ids, f"{frame.name} has the value {value}, whose"), values == value
        )
        if sidecar is not None:
            masks.append(read_object(one, value, sidecar.object_tracks(frame.sequence)))
        else:
            masks.append(replace(one, track_id=value))
    return masks


def _class_id(number: int, class_ids: Mapping[int, int], place: str) -> int:
    if number not in class_ids:
        listed = ", ".join(map(str, class_ids))
        raise ExchangeError(
            f"{place} class is {number}, but the classes are {listed}. Choose the class set that was used for labelling "
            f"(--classes on the command line), or correct {NAMES}."
        )
    return class_ids[number]


def _of_text(
    file: Path, path: Path, class_ids: Mapping[int, int], skips: Skips, notes: list[str]
) -> Iterator[ListedPicture]:
    sequence = file.parent.parent.name if file.parent.name == "gt" else file.stem
    objects: dict[int, list[tuple[str, str, int, dict]]] = defaultdict(list)
    for number, line in enumerate(text_lines(file), 1):
        place = f"line {number} of {file.name}"
        if not line.strip():
            continue
        index, track, class_number, mask = _fields(line, place)
        if class_number == IGNORED // OBJECTS and not _knows_ignored(class_ids):
            skips.add("ignored regions", place)
        else:
            objects[index].append((place, track, class_number, mask))
    numbers, note = numbered_tracks(track for found in objects.values() for _, track, *_ in found)
    if note:
        notes.append(f"{sequence}: {note}")
    base = path if path.is_dir() else path.parent
    image_folders = (base / IMAGES, base / "training/image_02", base.parent / "training/image_02")
    inside = [folder / sequence for folder in image_folders]
    for index, found in sorted(objects.items()):

        def read(frame: DatasetFrame, found: list = found) -> Sequence[ClassMask]:
            return [
                ClassMask(
                    _class_id(class_number, class_ids, f"{frame.name} ({place}): the"),
                    read_mask(mask, frame.size, f"{frame.name} ({place})"),
                    numbers[track],
                )
                for place, track, class_number, mask in found
            ]

        height, width = found[0][3]["size"]
        picture = find_picture(Path(f"{index:06d}.png"), [file.parent.parent / "img1", *inside])
        name = PurePosixPath(sequence, f"{index:06d}.png")
        yield ListedPicture(name, (height, width), read, picture, sequence=sequence, frame_index=index)


def _fields(line: str, place: str) -> tuple[int, str, int, dict]:
    """Frame, id, class number, and the mask as COCO has it."""
    fields = line.split()
    try:
        index, track, class_number, height, width, counts = fields
        size, frame_index = picture_size(int(height), int(width), place), int(index)
        if not 0 <= frame_index < MOST_FRAMES:
            raise ExchangeError(f"{place} is of frame {frame_index}; a video has 0 to {MOST_FRAMES:,}. Correct it.")
        return frame_index, track, int(class_number), {"size": list(size), "counts": counts}
    except ValueError as error:
        raise ExchangeError(
            f"{place} should have frame, id, class, height, width and run lengths; got {line[:60]!r}. Restore the file."
        ) from error


FORMAT = Format(
    name=NAME,
    title="MOTS PNG",
    looks_like="instances/clip/000012.png, 16-bit, beside images/clip; or instances_txt/clip.txt",
    recognizes=recognizes,
    read_dataset=read_dataset,
    precedence=0,
    writer=MotsWriter,
    owned_files=(
        OwnedFiles(f"{LABELS}/*/*.png", r"\d{5,}"),
        OwnedFiles(f"{LABELS}/{NAMES}", "labels"),
        OwnedFiles(f"{TEXT}/*.txt", r".+"),
        OwnedFiles(f"{IMAGES}/*/*.png", r"\d{5,}"),
    ),
    napari_name="MOTS folder",
    instances=True,
)
