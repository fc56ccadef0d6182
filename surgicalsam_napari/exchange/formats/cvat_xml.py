"""What CVAT's two XML formats have in common: labels, polygons, and run lengths.

Facts from CVAT's documentation (https://docs.cvat.ai/docs/manual/advanced/formats/format-cvat/ and .../xml_format/):

- `<labels>` in `<meta>` has each label's name and colour.
- A polygon is `points="x,y;x,y;…"`, on corners of pixels, with two decimals. It has no holes; we cut them in (`outlines`).
- A mask is `rle="n, n, …"` in the box `left`, `top`, `width`, `height`: run lengths row by row, first background.
- `z_order` says which shape is on top.
- Boxes, polylines, points, ellipses, cuboids, skeletons and tags have no pixels; they are counted and left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.coordinates import MOST_FRAMES
from surgicalsam_napari.exchange.listing import Skips, class_ids_by_name, layered, named_classes
from surgicalsam_napari.exchange.outlines import edge_polygons
from surgicalsam_napari.exchange.overlaps import ClassMask
from surgicalsam_napari.exchange.polygons import polygon_mask
from surgicalsam_napari.exchange.sidecar import Sidecar
from surgicalsam_napari.instruments import ClassSet, plain
from surgicalsam_napari.untrusted import plain_file

ANNOTATIONS = "annotations.xml"
XML_ERRORS = (ElementTree.ParseError, LookupError, ValueError)  # also for an unknown encoding
OUTLINES = ("polygon", "mask")
OTHERS = {
    "box": "boxes",
    "polyline": "polylines",
    "points": "points",
    "ellipse": "ellipses",
    "cuboid": "cuboids",
    "skeleton": "skeletons",
    "tag": "tags",
}


@dataclass(frozen=True)
class CvatShape:
    """A polygon or a mask.

    Attributes
    ----------
    place : for messages
    track : the position of its `<track>` in the file
    number : the id of its `<track>`, as it is written
    """

    label: str
    element: ElementTree.Element
    place: str
    track: int = 0
    number: str = ""

    @property
    def layer(self) -> int:
        return whole(self.element, "z_order", self.place, default=0)


def cvat_file(path: Path) -> Path | None:
    """The XML file of a folder, or the file itself."""
    candidates = [path / ANNOTATIONS, *sorted(path.glob("*.xml"))] if path.is_dir() else [path]
    return next((file for file in candidates if file.suffix.lower() == ".xml" and file.is_file() and _is_cvat(file)), None)


def has_element(file: Path, tag: str) -> bool:
    """Whether the file has an element of this name below its root: `image` or `track`."""
    try:
        for _, element in ElementTree.iterparse(plain_file(file), events=("start",)):
            if element.tag == tag:
                return True
    except XML_ERRORS:
        pass
    return False


def read_xml(file: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(plain_file(file)).getroot()
    except XML_ERRORS as error:
        raise ExchangeError(f"{file} is damaged: it is not valid XML ({error}). Restore it, or export again.") from error


def read_classes(root: ElementTree.Element, file: Path, sidecar: Sidecar | None) -> ClassSet:
    """The labels of `<meta>`; if there are none, those of the shapes."""
    colors: dict[str, tuple[int, int, int]] = {}
    names = []
    for label in root.iterfind("meta//labels/label"):
        name, color = label.findtext("name") or "", label.findtext("color") or ""
        if label.findtext("parent"):
            continue  # a point of a skeleton
        names.append(name)
        if re.fullmatch(r"#[0-9a-fA-F]{6}", color):
            red, green, blue = bytes.fromhex(color[1:])
            colors[name] = red, green, blue
    used = [element.get("label") for element in root.iter() if element.tag in (*OUTLINES, "track")]
    return named_classes(names or dict.fromkeys(name for name in used if name), file, sidecar, colors)


def masks_of(
    shapes: list[CvatShape],
    size: tuple[int, int],
    classes: ClassSet,
    identify: Callable[[CvatShape, ClassMask], ClassMask] = lambda _, one: one,
) -> list[ClassMask]:
    """The masks (H, W) of a frame, without what shapes of a higher z_order cover.

    Parameters
    ----------
    identify : gives the mask of a shape its track
    """
    ids = class_ids_by_name(classes)
    found = []
    for shape in shapes:
        if plain(shape.label) not in ids:
            raise ExchangeError(
                f"{shape.place} has the label {shape.label}, but the file has only {', '.join(classes.names)}. "
                "Add the label to its <labels>."
            )
        found.append((shape.layer, identify(shape, ClassMask(ids[plain(shape.label)], _mask(shape, size)))))
    return layered(found)


def _mask(shape: CvatShape, size: tuple[int, int]) -> np.ndarray:
    element, place = shape.element, shape.place
    if element.tag == "polygon":
        try:
            points = [float(value) for pair in element.get("points", "").split(";") for value in pair.split(",")]
        except ValueError as error:
            raise ExchangeError(f'{place} has points that are no numbers. Correct its "points".') from error
        return polygon_mask([points], size, place)
    left, top, width, height = (whole(element, key, place) for key in ("left", "top", "width", "height"))
    try:
        runs = [int(run) for run in element.get("rle", "").split(",")]
    except ValueError as error:
        raise ExchangeError(f'{place} has run lengths that are no whole numbers. Correct its "rle".') from error
    if min(left, top, width, height) < 0 or left + width > size[1] or top + height > size[0]:
        raise ExchangeError(f"{place} has a mask outside its picture of {size[1]} x {size[0]} pixels. Correct the mask.")
    if min(runs) < 0 or sum(runs) != width * height:
        raise ExchangeError(
            f"{place} has run lengths of {sum(runs)} pixels for a box of {width} x {height} pixels. Restore the file."
        )
    mask = np.zeros(size, bool)
    mask[top : top + height, left : left + width] = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    return mask


def whole(element: ElementTree.Element, key: str, place: str, default: int | None = None) -> int:
    """A whole number of an element; an ExchangeError if it is missing or something else."""
    text = element.get(key)
    if text is None and default is not None:
        return default
    try:
        number = int(float(text or ""))
    except (ValueError, OverflowError) as error:
        raise ExchangeError(
            f'{place} needs a whole number for "{key}"; got "{(text or "")[:40]}". Correct the file.'
        ) from error
    if abs(number) > MOST_FRAMES:
        raise ExchangeError(f'{place} has {number} for "{key}", which no frame or picture has. Correct the file.')
    return number


def count_others(elements: Iterator[ElementTree.Element], place: str, label: str | None, skips: Skips) -> set[str]:
    """Count the shapes without pixels; returns their labels."""
    labels = set()
    for element in elements:
        if element.tag in OTHERS:
            skips.add(f"{OTHERS[element.tag]} without an outline", place)
            if element.tag != "tag":  # a tag is of the whole picture
                labels.add(element.get("label") or label or "")
    return labels


# ---- writing


def meta_element(task_fields: dict[str, str], classes: ClassSet, size: tuple[int, int] | None) -> ElementTree.Element:
    """`<meta>` with the fields of a task, and its labels."""
    meta = ElementTree.Element("meta")
    task = ElementTree.SubElement(meta, "task")
    for key, text in task_fields.items():
        ElementTree.SubElement(task, key).text = text
    labels = ElementTree.SubElement(task, "labels")
    for instrument in classes:
        label = ElementTree.SubElement(labels, "label")
        ElementTree.SubElement(label, "name").text = instrument.name
        ElementTree.SubElement(label, "color").text = instrument.color
        ElementTree.SubElement(label, "attributes")
    if size is not None:
        original = ElementTree.SubElement(task, "original_size")
        ElementTree.SubElement(original, "width").text = str(size[1])
        ElementTree.SubElement(original, "height").text = str(size[0])
    return meta


def shape_elements(mask: np.ndarray, *, polygons: bool) -> Iterator[ElementTree.Element]:
    """A `<mask>`, or a `<polygon>` for each region.

    Parameters
    ----------
    mask : (H, W) bool, with at least one pixel
    """
    common = {"source": "manual", "occluded": "0", "z_order": "0"}
    if polygons:
        for polygon in edge_polygons(mask):
            points = ";".join(f"{x:.2f},{y:.2f}" for x, y in polygon)
            yield ElementTree.Element("polygon", {**common, "points": points})
        return
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    pixels = np.concatenate(([False], box.ravel(), [not box.ravel()[-1]]))
    runs = np.diff(np.flatnonzero(np.diff(pixels)), prepend=0)
    attributes = {
        "rle": ", ".join(map(str, runs.tolist())),
        "left": str(columns[0]),
        "top": str(rows[0]),
        "width": str(box.shape[1]),
        "height": str(box.shape[0]),
    }
    yield ElementTree.Element("mask", {**common, **attributes})


def xml_bytes(parts: list[ElementTree.Element]) -> bytes:
    """The file, with its version first."""
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    root.extend(parts)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _is_cvat(file: Path) -> bool:
    """Whether the root is `<annotations>`, as in both formats."""
    try:
        return next(ElementTree.iterparse(plain_file(file), events=("start",)))[1].tag == "annotations"
    except (*XML_ERRORS, OSError, StopIteration):
        return False
