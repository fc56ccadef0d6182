"""CVAT for images 1.1: one XML file with the polygons and masks of each picture.

::

    annotations.xml                    <image id="0" name="frame_00012.png" width="1280" height="1024">
                                           <mask label="Needle Driver" rle="3, 5, …" left="10" top="4" width="8" height="1"/>
    images/frame_00012.png             names in the file are relative to this folder

To upload labels in CVAT, choose "CVAT 1.1" in a task whose pictures have these names. CVAT lists all pictures of a task;
those without a shape or tag are listed without labels. Source: `cvat_xml`.

Not taken from datumaro: it refuses a file whose pictures are not all there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.coordinates import picture_size
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame
from surgicalsam_napari.exchange.files import picture_png, write_file
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
from surgicalsam_napari.exchange.formats.cvat_xml import (
    ANNOTATIONS,
    OUTLINES,
    CvatShape,
    count_others,
    cvat_file,
    has_element,
    masks_of,
    meta_element,
    read_classes,
    read_xml,
    shape_elements,
    whole,
    xml_bytes,
)
from surgicalsam_napari.exchange.listing import ListedPicture, Skips, find_picture, listed_dataset, posix
from surgicalsam_napari.exchange.overlaps import ClassMask
from surgicalsam_napari.exchange.sidecar import read_sidecar
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.store.label_maps import present_ids

NAME = "cvat-images"


@dataclass
class CvatImagesWriter(FrameWriter):
    """Writes frames into a new folder; `close` writes the XML file."""

    target: ExportTarget
    images: list[ElementTree.Element] = field(default_factory=list)

    def write(self, frame: FrameToWrite) -> None:
        if frame.image is not None:
            write_file(self.target.folder / "images" / f"{frame.name}.png", picture_png(frame.image))
        height, width = frame.size
        attributes = {"id": str(len(self.images)), "name": f"{frame.name}.png", "width": str(width), "height": str(height)}
        image = ElementTree.Element("image", attributes)
        for class_id in present_ids(frame.label_map):
            for element in shape_elements(frame.label_map == class_id, polygons=self.target.polygons):
                element.set("label", self.target.classes.by_id(class_id).name)
                image.append(element)
        self.images.append(image)

    def close(self) -> None:
        fields = {"name": self.target.video, "size": str(len(self.images)), "mode": "annotation"}
        meta = meta_element(fields, self.target.classes, None)
        write_file(self.target.folder / ANNOTATIONS, xml_bytes([meta, *self.images]))


def recognizes(path: Path) -> bool:
    file = cvat_file(path)
    return file is not None and has_element(file, "image")


def read_dataset(path: Path, options: ReadOptions) -> Dataset:
    file = cvat_file(path)
    assert file is not None
    root = read_xml(file)
    sidecar = read_sidecar(file.parent)
    classes = read_classes(root, file, sidecar)
    skips = Skips()
    pictures = [_listed(image, file, classes, skips) for image in root.iterfind("image")]
    for track in root.iterfind("track"):
        skips.add("tracks (choose CVAT for video for them)", f"track {track.get('id')}")
    return listed_dataset(path, NAME, classes, pictures, options, sidecar=sidecar, skips=skips)


def _listed(image: ElementTree.Element, file: Path, classes: ClassSet, skips: Skips) -> ListedPicture:
    listed = image.get("name")
    if not listed:
        raise ExchangeError(f"{file.name} has an <image> without a name (id {image.get('id')}). Add the name.")
    place, name = f"{file.name}, image {listed}", posix(listed)
    shapes = [
        CvatShape(element.get("label") or "", element, place) for element in image if element.tag in OUTLINES
    ]  # fmt: skip
    others = count_others(iter(image), place, None, skips)

    def read(frame: DatasetFrame) -> Sequence[ClassMask]:
        return masks_of(shapes, frame.size, classes)

    size = picture_size(whole(image, "height", place), whole(image, "width", place), place)
    subset = image.get("subset") or "default"
    picture = find_picture(name, [file.parent / "images", file.parent / "images" / subset, file.parent])
    return ListedPicture(name, size, read, picture, bool(shapes), frozenset(others))


FORMAT = Format(
    name=NAME,
    title="CVAT for images 1.1",
    looks_like="annotations.xml with <image> and <polygon> or <mask>, images/frame_00012.png",
    recognizes=recognizes,
    read_dataset=read_dataset,
    writer=CvatImagesWriter,
    shapes=(MASKS, POLYGONS),
    owned_files=(OwnedFiles(ANNOTATIONS, "annotations"), OwnedFiles("images/*.png", FRAME_NAME)),
    napari_name="CVAT for images",
)
