"""COCO JSON: one file for all frames, with run-length encoded masks and named categories.

An export writes `annotations.json` with one annotation per class and frame, `images/frame_00012.png` and classes.json.
Files from other tools can be read, too: compressed and plain run lengths, polygons, and several instances of a class.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from pycocotools import mask as run_lengths

from surgicalsam_napari.errors import ClassSetError, ExchangeError
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame, merged_masks
from surgicalsam_napari.exchange.files import frame_number
from surgicalsam_napari.exchange.format import FRAME_NAME, MASKS, POLYGONS, Format, OwnedFiles, ReadOptions
from surgicalsam_napari.exchange.formats.coco_writer import ANNOTATIONS, IMAGES, CocoWriter
from surgicalsam_napari.exchange.sidecar import check_complete, read_sidecar
from surgicalsam_napari.instruments import LARGEST_CLASS_ID, PALETTE, ClassSet, InstrumentClass

NAME = "coco"
_GENERIC_FOLDERS = {"", "images", "image", "frames", "left_frames"}  # they do not name a sequence


def recognizes(path: Path) -> bool:
    return _file(path) is not None


def read_dataset(path: Path, options: ReadOptions) -> Dataset:
    file = _file(path)
    assert file is not None
    record = _record(file)
    root = path if path.is_dir() else file.parent
    sidecar = read_sidecar(root)
    class_set, class_ids = _classes(file, record["categories"], file.stem if sidecar is None else sidecar.classes.name)
    annotations: dict[Any, list[dict]] = {}
    for annotation in record["annotations"]:
        annotations.setdefault(_number(file, annotation, "image_id"), []).append(annotation)
    frames: dict[DatasetFrame, Any] = {}
    for image_id, frame in _frames(file, record["images"], None if sidecar is None else sidecar.sequence):
        if frame in frames:
            raise ExchangeError(f"{file.name} lists {frame.name} twice. Remove one of the two entries.")
        frames[frame] = image_id
    if unknown := annotations.keys() - set(frames.values()):
        first = min(map(str, unknown))
        raise ExchangeError(
            f'{file.name} has annotations of image {first}, which is not in its list "images". '
            "Add the image, or remove these annotations."
        )
    check_complete(path, sidecar, list(frames))

    def read(frame: DatasetFrame) -> np.ndarray:
        return _label_map(frame, annotations.get(frames[frame], []), class_ids, class_set)

    ordered = tuple(sorted(frames, key=lambda frame: (frame.sequence, frame.frame_index)))
    annotated = {} if sidecar is None else sidecar.annotated_frames(ordered)
    return Dataset(path, NAME, class_set, ordered, read, annotated, is_export=sidecar is not None)


def _file(path: Path) -> Path | None:
    candidates = [path / name for name in (ANNOTATIONS, "annotations.json")] if path.is_dir() else [path]
    return next((file for file in candidates if file.suffix == ".json" and file.is_file()), None)


def _number(file: Path, entry: Mapping[str, Any], key: str) -> int | str:
    """The id under this key; some tools write ids as text."""
    if not isinstance(entry.get(key), int | str):
        raise ExchangeError(
            f"{file.name} has an entry whose {key} is {entry.get(key)}, but it must be a number. Correct it in the file."
        )
    return entry[key]


def _record(file: Path) -> dict[str, list[dict]]:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ExchangeError(f"{file} is damaged: it is not valid JSON. Restore it, or export again.") from error
    needed = ("images", "annotations", "categories")
    if not isinstance(record, dict) or not all(
        isinstance(record.get(name), list) and all(isinstance(entry, dict) for entry in record[name]) for name in needed
    ):
        raise ExchangeError(f"{file} is not a COCO file, which has the lists {', '.join(needed)}. Choose another file.")
    return record


def _classes(file: Path, categories: list[dict], name: str) -> tuple[ClassSet, dict[Any, int]]:
    """The categories as classes, and class ids by category id. Ids are kept if all are label values (1 to 255)."""
    try:
        numbers = [category["id"] for category in categories]
        fit = all(isinstance(number, int) and 1 <= number <= LARGEST_CLASS_ID for number in numbers)
        class_ids = {number: number if fit else position + 1 for position, number in enumerate(numbers)}
        classes = [
            InstrumentClass(class_ids[category["id"]], str(category["name"]), _color(category, position))
            for position, category in enumerate(categories)
        ]
        return ClassSet(name, tuple(classes)), class_ids
    except (KeyError, TypeError, ValueError, ClassSetError) as error:
        raise ExchangeError(
            f'{file.name} must give every category its own id and name ({error}). Correct its "categories".'
        ) from error


def _color(category: Mapping[str, Any], position: int) -> str:
    color = category.get("color")
    if isinstance(color, list) and len(color) == 3:
        return "#" + "".join(f"{int(value):02x}" for value in color)
    return PALETTE[position % len(PALETTE)]


def _frames(file: Path, images: list[dict], sequence: str | None) -> Iterator[tuple[Any, DatasetFrame]]:
    for entry in images:
        try:
            name = PurePosixPath(str(entry["file_name"]).replace("\\", "/"))
            image_id, size = _number(file, entry, "id"), (int(entry["height"]), int(entry["width"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ExchangeError(
                f'{file.name} has an image without id, file_name, height or width: {entry}. Add the value in "images".'
            ) from error
        number = frame_number(name.stem)
        if number is None:
            raise ExchangeError(
                f"{file.name} lists the image {name}, which has no frame number in its name. "
                "Rename the image, also in the JSON file."
            )
        folder = file.parent.name if name.parent.name in _GENERIC_FOLDERS else name.parent.name
        video = sequence or folder
        picture = next(
            (p for folder in ("", "images", IMAGES, "../images/default") if (p := file.parent / folder / name).is_file()),
            Path(),
        )
        yield image_id, DatasetFrame(video, number, f"{video}/{name.stem}", size, picture if picture.is_file() else None)


def _label_map(frame: DatasetFrame, annotations: list[dict], class_ids: Mapping[Any, int], classes: ClassSet) -> np.ndarray:
    masks: dict[int, np.ndarray] = {}
    for annotation in annotations:
        category = annotation.get("category_id")
        if not isinstance(category, int | str) or category not in class_ids:
            raise ExchangeError(
                f"{frame.name} has the category {category}, but the file has only {', '.join(classes.names)}. "
                'Add the category to "categories".'
            )
        class_id = class_ids[category]
        mask = _mask(frame, annotation.get("segmentation"))
        masks[class_id] = mask | masks[class_id] if class_id in masks else mask
    return merged_masks(masks, frame.name, classes) if masks else np.zeros(frame.size, np.uint8)


def _mask(frame: DatasetFrame, segmentation: Any) -> np.ndarray:
    """The mask of an annotation, (H, W) bool, from polygons or from plain or compressed run lengths."""
    height, width = frame.size
    try:
        if isinstance(segmentation, list):
            merged = run_lengths.merge(_polygons(segmentation, height, width))
            segmentation = {**merged, "counts": merged["counts"].decode("ascii")}
        rows, columns = segmentation["size"]
        if (rows, columns) != (height, width):
            raise ExchangeError(
                f"{frame.name} has a mask of {columns} x {rows} pixels in a picture of {width} x {height} pixels. "
                "Correct the size of the image or of the mask in the file."
            )
        counts = segmentation["counts"]
        runs = counts if isinstance(counts, list) else _runs(counts)
        # decoded here: pycocotools accepts runs that are too short, and leaves the other pixels uninitialized
        if not all(isinstance(run, int) and run >= 0 for run in runs) or sum(runs) != height * width:
            raise ValueError(f"its runs do not cover its {height * width} pixels")
        return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T
    except (TypeError, KeyError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise ExchangeError(f"{frame.name} has a damaged mask ({error}). Restore the file, or export again.") from error


def _polygons(segmentation: list, height: int, width: int) -> list[dict]:
    for polygon in segmentation:
        if len(polygon) < 6 or len(polygon) % 2 or not all(isinstance(value, int | float) for value in polygon):
            raise ValueError("a polygon needs x and y of at least three points")
    if not segmentation:
        raise ValueError("it has no polygon")
    return run_lengths.frPyObjects(segmentation, height, width)


def _runs(counts: str) -> list[int]:
    """The run lengths in COCO's compressed text: groups of five bits; from the fourth run on, minus the run two before."""
    runs: list[int] = []
    value = shift = 0
    for byte in counts.encode("ascii"):
        group = byte - 48
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:  # the last group of this number, whose highest bit is the sign
            value -= (group & 16) << (shift - 4)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("its text ends within a number")
    return runs


FORMAT = Format(
    name=NAME,
    title="COCO JSON",
    looks_like="annotations.json with images, annotations and categories (or the path of such a file)",
    recognizes=recognizes,
    read_dataset=read_dataset,
    precedence=0,
    writer=CocoWriter,
    shapes=(MASKS, POLYGONS),
    owned_files=(
        OwnedFiles(ANNOTATIONS, "instances_default"),
        OwnedFiles(f"{IMAGES}/*.png", FRAME_NAME),
        OwnedFiles("annotations.json", "annotations"),  # of earlier versions
        OwnedFiles("images/*.png", FRAME_NAME),
    ),
    napari_name="COCO folder",
)
