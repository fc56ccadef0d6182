"""LabelMe JSON: a file beside each picture, with polygons or masks.

::

    frame_00012.png
    frame_00012.json     shapes: label, shape_type, points, mask; imagePath, imageHeight, imageWidth
    labels.txt           __ignore__, _background_, then one class a line (for `labelme --labels labels.txt`)

Facts from LabelMe's source (https://github.com/wkentaro/labelme, `_label_file.py` and `_utils/shape.py`):

- LabelMe draws a polygon with Pillow, outline included, so its points are centres of pixels (`outlines`, with holes cut in).
- A mask (since 5.3) is a PNG as text, in the box from the first to the second point, both included.
- A later shape covers an earlier one. `__ignore__` and `_background_` are no classes.
- Rectangles, circles, lines and points are counted and left out: most are only rough marks.

LabelMe is under the GPL, so nothing of it is used here.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.coordinates import picture_size
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame
from surgicalsam_napari.exchange.files import DAMAGED, grey_png, image_size, picture_png, write_file
from surgicalsam_napari.exchange.format import (
    FRAME_NAME,
    MASKS,
    POLYGONS,
    ExportTarget,
    Format,
    FrameToWrite,
    FrameWriter,
    OwnedFiles,
    ReadOptions,
)
from surgicalsam_napari.exchange.listing import (
    ListedPicture,
    Skips,
    class_ids_by_name,
    find_picture,
    listed_dataset,
    named_classes,
    posix,
    text_lines,
)
from surgicalsam_napari.exchange.outlines import center_polygons
from surgicalsam_napari.exchange.overlaps import ClassMask
from surgicalsam_napari.exchange.polygons import outlined_polygon_mask
from surgicalsam_napari.exchange.sidecar import SIDECAR, read_sidecar
from surgicalsam_napari.instruments import ClassSet, plain
from surgicalsam_napari.store.label_maps import present_ids
from surgicalsam_napari.untrusted import read_json, read_plain
from surgicalsam_napari.video.image_folder import natural_key

NAME = "labelme"
VERSION = "5.5.0"  # of the files that we write
LABELS = "labels.txt"
NO_CLASSES = {"__ignore__", "_background_", "__background__"}
_DEPTHS = ("*", "*/*", "*/*/*")


@dataclass
class LabelMeWriter(FrameWriter):
    """Writes frames into a new folder; `close` writes the list of classes."""

    target: ExportTarget

    def write(self, frame: FrameToWrite) -> None:
        if frame.image is not None:
            write_file(self.target.folder / f"{frame.name}.png", picture_png(frame.image))
        height, width = frame.size
        shapes = [
            {"label": self.target.classes.by_id(class_id).name, "group_id": None, "description": "", "flags": {}, **shape}
            for class_id in present_ids(frame.label_map)
            for shape in _shapes(frame.label_map == class_id, self.target.polygons)
        ]
        record: dict[str, Any] = {
            "version": VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": f"{frame.name}.png",
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        text = json.dumps(record, ensure_ascii=False)
        write_file(self.target.folder / f"{frame.name}.json", text.encode())

    def close(self) -> None:
        lines = ["__ignore__", "_background_", *self.target.classes.names]
        write_file(self.target.folder / LABELS, "".join(f"{line}\n" for line in lines).encode())


def _shapes(mask: np.ndarray, polygons: bool) -> Iterator[dict[str, Any]]:
    if polygons:
        yield from ({"shape_type": "polygon", "points": points, "mask": None} for points in center_polygons(mask))
        return
    rows, columns = np.flatnonzero(mask.any(axis=1)).tolist(), np.flatnonzero(mask.any(axis=0)).tolist()
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    text = base64.b64encode(grey_png(box.astype(np.uint8))).decode("ascii")
    yield {"shape_type": "mask", "points": [[columns[0], rows[0]], [columns[-1], rows[-1]]], "mask": text}


def recognizes(path: Path) -> bool:
    files = [path] if path.is_file() else _json_files(path)
    return next((True for file in files[:20] if _has_shapes(file)), False)


def read_dataset(path: Path, options: ReadOptions) -> Dataset:
    root = path if path.is_dir() else path.parent
    sidecar = read_sidecar(root)
    skips = Skips()
    files = [path] if path.is_file() else [file for file in _json_files(path) if _has_shapes(file)]
    records = {file: read_record(file) for file in files}
    names = [name for name in _listed_names(root) if name not in NO_CLASSES]
    names += [shape["label"] for record in records.values() for shape in record["shapes"] if _is_outline(shape)]
    classes = named_classes(names, root, sidecar)
    pictures = [listed_picture(file, root, record, classes, skips) for file, record in records.items()]
    return listed_dataset(path, NAME, classes, pictures, options, sidecar=sidecar, skips=skips)


def listed_picture(file: Path, root: Path, record: dict, classes: ClassSet, skips: Skips) -> ListedPicture:
    """One file, with its masks."""
    name = file.relative_to(root)
    shapes = [(f"shapes[{i}] of {name}", shape) for i, shape in enumerate(record["shapes"]) if _is_outline(shape)]
    others = set()
    for position, shape in enumerate(record["shapes"]):
        if not _is_outline(shape):
            kind = shape["label"] if shape["label"] in NO_CLASSES else shape.get("shape_type") or "shape"
            skips.add(f"shapes of type {kind}", f"shapes[{position}] of {name}")
            others |= {shape["label"]} - NO_CLASSES

    def read(frame: DatasetFrame) -> Sequence[ClassMask]:
        ids = class_ids_by_name(classes)
        return [ClassMask(ids[plain(shape["label"])], shape_mask(shape, frame.size, place)) for place, shape in shapes]

    listed = posix(str(record.get("imagePath") or file.stem))
    picture = find_picture(listed, [file.parent]) or find_picture(Path(file.stem), [file.parent, file.parent / "images"])
    return ListedPicture(name, _size(file, record, picture), read, picture, bool(shapes), frozenset(others))


def shape_mask(shape: dict, size: tuple[int, int], place: str) -> np.ndarray:
    """The mask (H, W) bool of a polygon or a mask."""
    points = shape.get("points")
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise ExchangeError(f"{place} needs points, each with x and y. Correct or remove the shape.")
    if shape.get("shape_type") != "mask":
        return outlined_polygon_mask([value for point in points for value in point], size, place)
    try:
        with Image.open(io.BytesIO(base64.b64decode(shape["mask"], validate=True))) as image:
            box = np.asarray(image.convert("L")) > 0
        left, top = (round(float(value)) for value in points[0])
    except (*DAMAGED, binascii.Error, KeyError, TypeError, IndexError) as error:
        raise ExchangeError(f"{place} has a damaged mask. Restore the file, or draw the shape again.") from error
    mask = np.zeros(size, bool)
    rows, columns = slice(max(top, 0), top + box.shape[0]), slice(max(left, 0), left + box.shape[1])
    visible = mask[rows, columns].shape
    mask[rows, columns] = box[max(-top, 0) :, max(-left, 0) :][: visible[0], : visible[1]]
    return mask


def read_record(file: Path) -> dict:
    """The content of a file, with a list of shapes that have labels."""
    try:
        record = read_json(file)
    except ValueError as error:
        raise ExchangeError(f"{file} is damaged: it is not valid JSON. Restore it.") from error
    shapes = record.get("shapes") if isinstance(record, dict) else None
    if not isinstance(shapes, list):
        raise ExchangeError(f"{file} is not a LabelMe file, which has a list of shapes. Move it elsewhere.")
    for position, shape in enumerate(shapes):
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str) or not shape["label"].strip():
            raise ExchangeError(
                f"shapes[{position}] of {file.name} has no label. Give it the name of a class, or remove it."
            )
    return record


def _is_outline(shape: dict) -> bool:
    return shape.get("shape_type", "polygon") in ("polygon", "mask", None) and shape["label"] not in NO_CLASSES


def _size(file: Path, record: dict, picture: Path | None) -> tuple[int, int]:
    height, width = record.get("imageHeight"), record.get("imageWidth")
    if isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0:
        return picture_size(height, width, file.name)
    if picture is None:
        raise ExchangeError(f"{file.name} has no imageHeight and imageWidth, and its picture is missing. Add the picture.")
    return image_size(picture)


def _json_files(path: Path) -> list[Path]:
    found = [file for depth in _DEPTHS for file in path.glob(f"{depth}.json")] if path.is_dir() else []
    return sorted((file for file in found if file.name != SIDECAR), key=natural_key)


def _has_shapes(file: Path) -> bool:
    text = read_plain(file) if file.suffix.lower() == ".json" and file.is_file() else b""
    return b'"shapes"' in text and b'"imagePath"' in text


def _listed_names(root: Path) -> list[str]:
    file = root / LABELS
    return [line.strip() for line in text_lines(file) if line.strip()] if file.is_file() else []


FORMAT = Format(
    name=NAME,
    title="LabelMe",
    looks_like="frame_00012.json with shapes beside frame_00012.png",
    recognizes=recognizes,
    read_dataset=read_dataset,
    precedence=2,
    writer=LabelMeWriter,
    shapes=(MASKS, POLYGONS),
    note="LabelMe before version 5.3 shows only polygons.",
    owned_files=(OwnedFiles("*.json", FRAME_NAME), OwnedFiles("*.png", FRAME_NAME), OwnedFiles(LABELS, "labels")),
    napari_name="LabelMe folder",
)
