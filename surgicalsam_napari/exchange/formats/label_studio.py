"""Label Studio JSON: a list of tasks, one for each picture, with brush masks or polygons.

::

    tasks.json                         data: the picture; annotations: result, a list of regions
    label_config.xml                   the labelling interface of the project, with its classes
    images/frame_00012.png

To use an export: start Label Studio with LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT set to the folder, create a project with
`label_config.xml`, add `images` as local storage, and import `tasks.json`.

Facts from the documentation (https://labelstud.io/guide/export and https://labelstud.io/tags) and from label-studio-sdk:

- A brush region has run lengths of the whole picture (`brush_rle`). Where its alpha is not 0, it is in the mask.
- The points of a polygon are percentages of width and height, on corners of pixels (`outlines`, with holes cut in).
- An uploaded picture gets eight random characters before its name (`frame_names` ignores them).
- A task may have annotations of several people. The latest that is not cancelled is read; the others are counted.
- A submitted annotation without a region says nothing about whether the picture is empty.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

import numpy as np

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.coordinates import picture_size
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame
from surgicalsam_napari.exchange.files import image_size, picture_png, write_file
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
from surgicalsam_napari.exchange.formats import brush_rle
from surgicalsam_napari.exchange.listing import (
    ListedPicture,
    Skips,
    class_ids_by_name,
    find_picture,
    listed_dataset,
    named_classes,
    posix,
)
from surgicalsam_napari.exchange.outlines import edge_polygons
from surgicalsam_napari.exchange.overlaps import ClassMask
from surgicalsam_napari.exchange.polygons import polygon_mask
from surgicalsam_napari.exchange.sidecar import SIDECAR, Sidecar, read_sidecar
from surgicalsam_napari.instruments import ClassSet, plain
from surgicalsam_napari.store.label_maps import present_ids
from surgicalsam_napari.untrusted import plain_file, read_json

NAME = "label-studio"
TASKS, CONFIG = "tasks.json", "label_config.xml"
OUTLINES = ("brushlabels", "polygonlabels", "labels", "brush", "polygon")


@dataclass
class LabelStudioWriter(FrameWriter):
    """Writes frames into a new folder; `close` writes the tasks and the labelling interface."""

    target: ExportTarget
    tasks: list[dict] = field(default_factory=list)

    def write(self, frame: FrameToWrite) -> None:
        if frame.image is not None:
            write_file(self.target.folder / "images" / f"{frame.name}.png", picture_png(frame.image))
        number = len(self.tasks) + 1
        regions = [
            region
            for class_id in present_ids(frame.label_map)
            for region in _regions(frame, class_id, self.target.classes.by_id(class_id).name, self.target.polygons)
        ]
        result = [{"id": f"{number}-{position}", **region} for position, region in enumerate(regions)]
        annotation = {"id": number, "was_cancelled": False, "ground_truth": False, "result": result}
        image = f"/data/local-files/?d=images/{frame.name}.png"
        self.tasks.append({"id": number, "data": {"image": image}, "annotations": [annotation]})

    def close(self) -> None:
        write_file(self.target.folder / TASKS, json.dumps(self.tasks, ensure_ascii=False).encode())
        write_file(self.target.folder / CONFIG, _config(self.target.classes, self.target.polygons))


def _regions(frame: FrameToWrite, class_id: int, name: str, polygons: bool) -> Iterator[dict[str, Any]]:
    height, width = frame.size
    common = {"from_name": "label", "to_name": "image", "image_rotation": 0}
    common |= {"original_width": width, "original_height": height}
    mask = frame.label_map == class_id
    if not polygons:
        value: dict[str, Any] = {"format": "rle", "rle": brush_rle.encode(mask), "brushlabels": [name]}
        yield {"type": "brushlabels", **common, "value": value}
        return
    for polygon in edge_polygons(mask):
        points = [[100 * x / width, 100 * y / height] for x, y in polygon]
        value = {"points": points, "closed": True, "polygonlabels": [name]}
        yield {"type": "polygonlabels", **common, "value": value}


def _config(classes: ClassSet, polygons: bool) -> bytes:
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", {"name": "image", "value": "$image", "zoom": "true"})
    tag = "PolygonLabels" if polygons else "BrushLabels"
    labels = ElementTree.SubElement(view, tag, {"name": "label", "toName": "image"})
    for instrument in classes:
        ElementTree.SubElement(labels, "Label", {"value": instrument.name, "background": instrument.color})
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="utf-8")


def recognizes(path: Path) -> bool:
    return _file(path) is not None


def read_dataset(path: Path, options: ReadOptions) -> Dataset:
    file = _file(path)
    assert file is not None
    tasks = _tasks(file)
    sidecar = read_sidecar(file.parent)
    skips = Skips()
    results = [_result(task, f"task {task.get('id', number)}", skips) for number, task in enumerate(tasks)]
    used = [name for result in results for region in result or () for name in _labels(region)]
    classes = named_classes([*_config_names(file.parent), *used], file, sidecar)
    pictures = [
        _listed(task, result, file, classes, sidecar, skips) for task, result in zip(tasks, results, strict=True)
    ]  # fmt: skip
    known = [picture for picture in pictures if picture is not None]
    return listed_dataset(path, NAME, classes, known, options, sidecar=sidecar, skips=skips)


def _file(path: Path) -> Path | None:
    candidates = [path] if path.is_file() else [path / TASKS, *sorted(path.glob("*.json"))]
    return next((file for file in candidates if file.is_file() and file.name != SIDECAR and _has_tasks(file)), None)


def _has_tasks(file: Path) -> bool:
    content = file.read_bytes() if file.suffix.lower() == ".json" else b""
    return content.lstrip()[:1] == b"[" and b'"data"' in content and b'"annotations"' in content


def _tasks(file: Path) -> list[dict]:
    try:
        tasks = read_json(file)
    except ValueError as error:
        raise ExchangeError(f"{file} is damaged: it is not valid JSON. Restore it, or export again.") from error
    if not isinstance(tasks, list) or not all(
        isinstance(task, dict) and isinstance(task.get("data"), dict) for task in tasks
    ):
        raise ExchangeError(
            f'{file} is not a list of Label Studio tasks with "data" and "annotations". In Label Studio, export as JSON, '
            "not as JSON-MIN."
        )
    return tasks


def _result(task: dict, place: str, skips: Skips) -> list[dict] | None:
    """The regions of the latest annotation that is not cancelled; None if there is none."""
    annotations = [entry for entry in task.get("annotations") or () if isinstance(entry, dict)]
    valid = [entry for entry in annotations if not entry.get("was_cancelled")]
    if len(valid) < len(annotations):
        skips.add("cancelled annotations", place, len(annotations) - len(valid))
    if len(valid) > 1:
        skips.add("earlier annotations of the same picture", place, len(valid) - 1)
    if not valid:
        return None
    latest = max(enumerate(valid), key=lambda item: (str(item[1].get("updated_at") or ""), item[0]))[1]
    return [region for region in latest.get("result") or () if isinstance(region, dict)]


def _labels(region: dict) -> list[str]:
    """The names of a region's classes; empty if it is no mask or polygon."""
    value, kind = region.get("value"), region.get("type")
    if kind not in OUTLINES or not isinstance(value, dict) or not ("rle" in value or "points" in value):
        return []
    names = value.get(kind) or value.get("brushlabels") or value.get("polygonlabels") or value.get("labels")
    return names if isinstance(names, list) else []


def _listed(
    task: dict, result: list[dict] | None, file: Path, classes: ClassSet, sidecar: Sidecar | None, skips: Skips
) -> ListedPicture | None:
    place = f"task {task.get('id')} of {file.name}"
    name = posix(_picture_name(task["data"], place))
    regions, others, size = [], set(), None
    for region in result or ():
        labels = _labels(region)
        if len(labels) > 1:
            raise ExchangeError(
                f"{place} has a region with the labels {', '.join(labels)}, but a pixel has one class. Choose."
            )
        if labels:
            regions.append((labels[0], region))
        elif str(region.get("type", "")).endswith("labels"):
            skips.add(f"regions of type {region['type']}", place)
            others |= {str(label) for label in (region.get("value") or {}).get(region["type"]) or ()}
        size = size or _size(region, place)
    picture = find_picture(name, [file.parent, file.parent / "images"]) or find_picture(
        Path(name.name), [file.parent, file.parent / "images"]
    )
    if size is None and picture is not None:
        size = image_size(picture)
    if size is None and sidecar is not None and (exported := sidecar.frame_of(name.stem)):
        size = sidecar.sizes.get(exported[0])
    if size is None:
        skips.add("pictures without a region, whose size is not known", place)
        return None

    def read(frame: DatasetFrame) -> Sequence[ClassMask]:
        ids = class_ids_by_name(classes)
        return [ClassMask(ids[plain(label)], _mask(region, frame.size, place)) for label, region in regions]

    return ListedPicture(name, size, read, picture, bool(regions), frozenset(others))


def _picture_name(data: dict, place: str) -> str:
    """The path of the picture: of a local file, an upload, or an address."""
    values = [value for value in (data.get("image"), *data.values()) if isinstance(value, str) and value.strip()]
    if not values:
        raise ExchangeError(f'{place} has no picture in its "data". Add its path.')
    parts = urlsplit(values[0])
    listed = parse_qs(parts.query).get("d", [unquote(parts.path)])[0]
    return listed.lstrip("/")


def _size(region: dict, place: str) -> tuple[int, int] | None:
    height, width = region.get("original_height"), region.get("original_width")
    if not isinstance(height, int) or not isinstance(width, int):
        return None
    if region.get("image_rotation"):
        raise ExchangeError(f"{place} was rotated by {region['image_rotation']} degrees. Rotate it back in Label Studio.")
    return picture_size(height, width, place)


def _mask(region: dict, size: tuple[int, int], place: str) -> np.ndarray:
    value = region["value"]
    try:
        if "rle" in value:
            return brush_rle.decode(value["rle"], size)
        points = [(x * size[1] / 100, y * size[0] / 100) for x, y in value["points"]]
    except (TypeError, ValueError) as error:
        raise ExchangeError(f"{place} has a damaged region ({error}). Restore the file, or export again.") from error
    return polygon_mask([[coordinate for point in points for coordinate in point]], size, place)


def _config_names(folder: Path) -> list[str]:
    """The classes of the labelling interface, if it is there."""
    try:
        labels = ElementTree.parse(plain_file(folder / CONFIG)).getroot().iter("Label")
    except (OSError, LookupError, ValueError, ElementTree.ParseError):
        return []
    return [label.get("value") or label.get("alias") or "" for label in labels]


FORMAT = Format(
    name=NAME,
    title="Label Studio JSON",
    looks_like="tasks.json, a list with data and annotations (Label Studio's export as JSON)",
    recognizes=recognizes,
    read_dataset=read_dataset,
    writer=LabelStudioWriter,
    shapes=(MASKS, POLYGONS),
    owned_files=(OwnedFiles(TASKS, "tasks"), OwnedFiles(CONFIG, "label_config"), OwnedFiles("images/*.png", FRAME_NAME)),
    napari_name="Label Studio folder",
)
