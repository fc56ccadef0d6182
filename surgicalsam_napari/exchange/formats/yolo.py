"""YOLO segmentation: a text file for each picture, one polygon a line, and data.yaml with the class names.

::

    data.yaml                              path, train, val, and names: numbers from 0
    images/train/frame_00012.png           the picture of labels/train/frame_00012.txt
    labels/train/frame_00012.txt           0 0.681 0.485 0.670 0.487 0.676 0.487

A line has a class number and x y of each point, divided by width and height. Ultralytics finds the labels of a picture by
putting `labels` for the last `images` in its path (https://docs.ultralytics.com/datasets/segment/). Roboflow writes
`train/images` and `train/labels`; CVAT's "Ultralytics YOLO Segmentation 1.0" writes the layout above; darknet's tools write
pictures and text files into one folder, with `classes.txt` or `obj.names`. All can be read.

Ultralytics rounds the points down to pixels and fills with OpenCV, outline included; so do we. supervision rounds to the
nearest pixel. We write points a quarter of a pixel right of and below the pixel's corner, which is the same pixel for both.
One line is one region; holes are cut in (`outlines`). A picture without lines is listed without labels.

Not taken from supervision: its polygons leave out holes and small regions (`mask_to_polygons`, `min_image_area_percentage`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame, needed_classes
from surgicalsam_napari.exchange.files import image_size, picture_png, write_file
from surgicalsam_napari.exchange.format import (
    FRAME_NAME,
    POLYGONS,
    ExportTarget,
    Format,
    FrameToWrite,
    FrameWriter,
    OwnedFiles,
    ReadOptions,
)
from surgicalsam_napari.exchange.listing import ListedPicture, Skips, find_picture, listed_dataset, named_classes
from surgicalsam_napari.exchange.outlines import center_polygons
from surgicalsam_napari.exchange.overlaps import ClassMask
from surgicalsam_napari.exchange.polygons import filled_polygon_mask
from surgicalsam_napari.exchange.sidecar import Sidecar, read_sidecar
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.store.label_maps import present_ids
from surgicalsam_napari.untrusted import read_plain, yaml_from
from surgicalsam_napari.video.image_folder import IMAGE_SUFFIXES, natural_key

NAME = "yolo"
DATA, IMAGES, LABELS = "data.yaml", "images/train", "labels/train"
LONGEST_BEGINNING, LONGEST_LINE = 2_000, 1_000_000  # characters of a line, to recognize it and to read it
_LINE = re.compile(r"\s*\d+(\s+[-+.\deE]+){4,}\s*")
_LISTS = {"classes", "train", "val", "valid", "test", "labelmap", "default", "trainval"}  # text files that are no labels
_DEPTHS = ("*", "*/*", "*/*/*", "*/*/*/*")


@dataclass
class YoloWriter(FrameWriter):
    """Writes frames into a new folder; `close` writes data.yaml."""

    target: ExportTarget

    def write(self, frame: FrameToWrite) -> None:
        if frame.image is not None:
            write_file(self.target.folder / IMAGES / f"{frame.name}.png", picture_png(frame.image))
        numbers = {class_id: number for number, class_id in enumerate(self.target.classes.ids)}
        lines = [
            " ".join([str(numbers[class_id]), *_normalized(polygon, frame.size)])
            for class_id in present_ids(frame.label_map)
            for polygon in center_polygons(frame.label_map == class_id)
        ]
        write_file(self.target.folder / LABELS / f"{frame.name}.txt", "".join(f"{line}\n" for line in lines).encode())

    def close(self) -> None:
        names = dict(enumerate(self.target.classes.names))
        # both keys are required; move pictures and labels into images/val and labels/val for a split
        record = {"path": ".", "train": IMAGES, "val": IMAGES, "names": names}
        text = yaml.safe_dump(record, sort_keys=False, allow_unicode=True)
        write_file(self.target.folder / DATA, text.encode())


def _normalized(polygon: list[tuple[int, int]], size: tuple[int, int]) -> Iterator[str]:
    height, width = size
    for x, y in polygon:
        yield f"{(x + 0.25) / width:.8f}"
        yield f"{(y + 0.25) / height:.8f}"


def recognizes(path: Path) -> bool:
    """Whether there are text files with numbers, and class names or a folder `labels`."""
    if not path.is_dir():
        return path.suffix.lower() in (".yaml", ".yml") and _names(path) is not None
    files = _label_files(path)
    has_names = _class_file(path) is not None or any("labels" in file.relative_to(path).parts for file in files)
    return has_names and any(_is_label_file(file) for file in files)


def read_dataset(path: Path, options: ReadOptions) -> Dataset:
    root = path if path.is_dir() else path.parent
    sidecar = read_sidecar(root)
    class_file = path if path.is_file() else _class_file(root)
    names = None if class_file is None else _names(class_file)
    if class_file is None or names is None:
        classes = needed_classes(options.classes, path, "the first number of a line")
        numbers = dict(enumerate(classes.ids))
    else:
        classes = named_classes(names, class_file, sidecar)
        numbers = {number: classes.by_name(name).id for number, name in enumerate(names)}
    skips = Skips()
    files = [file for file in _label_files(root) if _is_label_file(file) or _is_empty(file) or _has_picture(file)]
    pictures = [_listed(file, root, classes, numbers, sidecar, skips) for file in files]
    unlabelled = _unlabelled(root, {picture.image_path for picture in pictures})
    pictures += [one for one in unlabelled if sidecar is None or sidecar.frame_of(one.name.stem) is None]  # has a file
    return listed_dataset(path, NAME, classes, pictures, options, sidecar=sidecar, skips=skips)


def _class_file(root: Path) -> Path | None:
    candidates = [*sorted(root.glob("*.y*ml")), root / "classes.txt", root / "obj.names", root / "labels" / "classes.txt"]
    return next((file for file in candidates if file.is_file() and _names(file) is not None), None)


def _names(file: Path) -> list[str] | None:
    """Class names in the order of their numbers; None if the file has none."""
    try:
        text = read_plain(file).decode("utf-8-sig")
        if file.suffix.lower() not in (".yaml", ".yml"):
            return [line.strip() for line in text.splitlines() if line.strip()] or None
        record = yaml_from(text)
    except ValueError:
        return None
    names: Any = record.get("names") if isinstance(record, dict) else None
    if isinstance(names, dict):
        if sorted(map(str, names)) != sorted(map(str, range(len(names)))):
            raise ExchangeError(
                f"{file.name} must number its names 0, 1, 2, …; got {', '.join(map(str, names))}. Correct it."
            )
        names = [names[key] for key in sorted(names, key=int)]
    return [str(name) for name in names] if isinstance(names, list) and names else None


def _label_files(root: Path) -> list[Path]:
    files = [file for depth in _DEPTHS for file in root.glob(f"{depth}.txt")]
    return sorted((file for file in files if file.stem.lower() not in _LISTS and file.is_file()), key=natural_key)


def _is_label_file(file: Path) -> bool:
    lines = _text(file).split("\n", 1)
    return _LINE.fullmatch(lines[0][:LONGEST_BEGINNING]) is not None


def _has_picture(file: Path) -> bool:
    """Whether a picture has the name of the file: then it holds labels, also if they are damaged."""
    return find_picture(Path(f"{file.stem}.png"), [_images_of(file.parent), file.parent]) is not None


def _is_empty(file: Path) -> bool:
    return not _text(file).strip()


def _text(file: Path) -> str:
    return file.read_bytes().decode("utf-8-sig", errors="replace")


def _listed(
    file: Path, root: Path, classes: ClassSet, numbers: dict[int, int], sidecar: Sidecar | None, skips: Skips
) -> ListedPicture:
    name = file.relative_to(root)
    picture = find_picture(Path(f"{file.stem}.png"), [_images_of(file.parent), file.parent])
    exported = None if sidecar is None else sidecar.frame_of(file.stem)
    size = sidecar.sizes.get(exported[0]) if sidecar is not None and exported is not None else None
    if picture is None and size is None:
        raise ExchangeError(
            f"{name} has no picture in {_images_of(name.parent)}, but the size of the picture is needed, because YOLO's "
            "points are fractions of it. Add the picture."
        )
    text = _text(file)
    if exported is not None and text and not text.endswith("\n"):
        raise ExchangeError(f"{name} ends within a line, so its end is missing. Restore the file, or export again.")
    polygons, boxes = [], set()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        place = f"{name}, line {number}"
        class_id, values = _parsed(line, place, numbers)
        if len(values) < 6:
            boxes.add(classes.by_id(class_id).name)
            skips.add("boxes without an outline", place)
        else:
            polygons.append((class_id, values, place))

    def read(frame: DatasetFrame) -> Sequence[ClassMask]:
        scale = frame.size[::-1]
        return [
            ClassMask(class_id, filled_polygon_mask((np.reshape(values, (-1, 2)) * scale).ravel().tolist(), frame.size, at))
            for class_id, values, at in polygons
        ]

    size = image_size(picture) if picture is not None else size
    assert size is not None
    return ListedPicture(name, size, read, picture, bool(polygons), frozenset(boxes))


def _images_of(folder: Path) -> Path:
    """The folder of pictures: `images` for the last `labels`."""
    parts = list(folder.parts)
    for position in reversed(range(len(parts))):
        if parts[position] == "labels":
            return Path(*parts[:position], "images", *parts[position + 1 :])
    return folder


def _parsed(line: str, place: str, numbers: dict[int, int]) -> tuple[int, list[float]]:
    """The class id and the coordinates of a line; fewer than six for a box, also with a confidence."""
    if len(line) > LONGEST_LINE:
        raise ExchangeError(f"{place} has {len(line):,} characters, more than any outline needs. Correct it.")
    try:
        first, *rest = line.split()
        number, values = int(first), [float(value) for value in rest]
    except ValueError as error:
        raise ExchangeError(
            f"{place} is no line of YOLO labels, which has only numbers: {line[:60]!r}. Correct it."
        ) from error
    if number not in numbers:
        raise ExchangeError(
            f"{place} has the class number {str(number)[:40]}, but there are names only for 0 to {len(numbers) - 1}. "
            "Add the name, or correct the number."
        )
    if len(values) >= 6 and len(values) % 2:
        raise ExchangeError(
            f"{place} has {len(values)} numbers after the class, but a polygon has x and y of each point. Correct the line: "
            "predictions with a confidence have one number too many."
        )
    return numbers[number], values


def _unlabelled(root: Path, labelled: set[Path | None]) -> list[ListedPicture]:
    """Pictures without a text file, in folders `images`."""
    folders = [folder for depth in _DEPTHS[:3] for folder in (root, *root.glob(depth)) if folder.name == "images"]
    files = {file for folder in folders for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES}

    def read(frame: DatasetFrame) -> Sequence[ClassMask]:
        return []

    return [
        ListedPicture(file.relative_to(root), image_size(file), read, file, is_annotated=False)
        for file in sorted(files - labelled, key=natural_key)
    ]


FORMAT = Format(
    name=NAME,
    title="YOLO segmentation",
    looks_like="data.yaml with names, images/train/frame_00012.png, labels/train/frame_00012.txt",
    recognizes=recognizes,
    read_dataset=read_dataset,
    precedence=1,
    writer=YoloWriter,
    shapes=(POLYGONS,),
    owned_files=(
        OwnedFiles(DATA, "data"),
        OwnedFiles(f"{IMAGES}/*.png", FRAME_NAME),
        OwnedFiles(f"{LABELS}/*.txt", FRAME_NAME),
    ),
    napari_name="YOLO folder",
)
