"""CVAT for video 1.1: one XML file with a track for each object, for a task whose data are the video itself.

::

    annotations.xml     <track id="0" label="Needle Driver">
                            <mask frame="12" keyframe="1" outside="0" rle="3, 5, …" left="10" top="4" width="8" height="1"/>
                            <mask frame="13" keyframe="1" outside="1" …/>      the object is gone from here on
    images/frame_000012.png

A frame of the task is a frame of the video: `start_frame`, and the step in `frame_filter`, say which one. CVAT writes a
shape for every frame of a track, also those between keyframes. If shapes are missing between two keyframes (another tool
wrote the file), these frames are left out and counted, because only CVAT knows how to fill them. Frames without a shape in
any track are listed without labels. Source: `cvat_xml`.

We write a track for each class; with polygons, a track for each region of each frame, because a track has one shape a frame.
Not taken from datumaro: it cannot read masks in tracks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.coordinates import MOST_FRAMES, picture_size
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame
from surgicalsam_napari.exchange.files import picture_png, write_file
from surgicalsam_napari.exchange.format import (
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
from surgicalsam_napari.exchange.listing import ListedPicture, Skips, find_picture, listed_dataset
from surgicalsam_napari.exchange.overlaps import ClassMask
from surgicalsam_napari.exchange.sidecar import read_sidecar
from surgicalsam_napari.store.label_maps import present_ids

NAME = "cvat-video"


@dataclass
class CvatVideoWriter(FrameWriter):
    """Writes frames into a new folder; `close` writes the XML file."""

    target: ExportTarget
    shapes: dict[int, dict[int, list[ElementTree.Element]]] = field(default_factory=lambda: defaultdict(dict))
    frames: list[int] = field(default_factory=list)
    sequence: str | None = None
    size: tuple[int, int] | None = None

    def write(self, frame: FrameToWrite) -> None:
        if self.sequence not in (None, frame.sequence):
            raise ExchangeError(
                f"CVAT for video holds one video, but these are frames of {self.sequence} and {frame.sequence}. "
                "Choose one of them, or another format."
            )
        self.sequence, self.size = frame.sequence, frame.size
        if frame.image is not None:
            path = self.target.folder / "images" / f"frame_{frame.frame_index:06d}.png"
            write_file(path, picture_png(frame.image))
        self.frames.append(frame.frame_index)
        for class_id in present_ids(frame.label_map):
            elements = list(shape_elements(frame.label_map == class_id, polygons=self.target.polygons))
            self.shapes[class_id][frame.frame_index] = elements

    def close(self) -> None:
        last = max(self.frames)
        fields = {"name": self.target.video, "size": str(last + 1), "mode": "interpolation"}
        fields |= {"start_frame": "0", "stop_frame": str(last), "frame_filter": ""}
        tracks: list[ElementTree.Element] = []
        for instrument in self.target.classes:
            by_frame = self.shapes.get(instrument.id, {})
            for shapes in _tracks(by_frame):
                tracks.append(ElementTree.Element("track", {"id": str(len(tracks)), "label": instrument.name}))
                tracks[-1].set("source", "manual")
                tracks[-1].extend(_timed(shapes, last))
        meta = meta_element(fields, self.target.classes, self.size)
        write_file(self.target.folder / ANNOTATIONS, xml_bytes([meta, *tracks]))


def _tracks(by_frame: dict[int, list[ElementTree.Element]]) -> Iterator[dict[int, ElementTree.Element]]:
    """The shapes of a class as tracks of one shape a frame."""
    if all(len(elements) == 1 for elements in by_frame.values()):
        if by_frame:
            yield {index: elements[0] for index, elements in by_frame.items()}
        return
    for index, elements in by_frame.items():
        yield from ({index: element} for element in elements)


def _timed(shapes: dict[int, ElementTree.Element], last: int) -> Iterator[ElementTree.Element]:
    """The shapes with their frames, and the frame after each run of frames, where the object is gone."""
    for index, element in sorted(shapes.items()):
        for frame, outside in ((index, "0"), (index + 1, "1")):
            if outside == "1" and (frame in shapes or frame > last):
                continue
            yield ElementTree.Element(
                element.tag, {**element.attrib, "frame": str(frame), "keyframe": "1", "outside": outside}
            )


def recognizes(path: Path) -> bool:
    file = cvat_file(path)
    return file is not None and not has_element(file, "image") and has_element(file, "task")


def read_dataset(path: Path, options: ReadOptions) -> Dataset:
    file = cvat_file(path)
    assert file is not None
    root, skips = read_xml(file), Skips()
    sidecar = read_sidecar(file.parent)
    classes = read_classes(root, file, sidecar)
    size = _size(root, file)
    first, step, count = _frame_numbers(root, file)
    sequence = (sidecar.sequence if sidecar is not None else None) or _video_name(root) or file.parent.name
    shapes, unknown, gaps = _shapes_by_frame(root, file, skips)
    exported = () if sidecar is None else sidecar.frames.get(sequence, {})
    listed = set(exported) or {first + step * number for number in range(count)}
    listed |= {first + step * number for number in shapes}
    pictures = []
    for index in sorted(listed):
        number = (index - first) // step
        if number in gaps:
            continue
        picture = find_picture(PurePosixPath(f"frame_{number:06d}.png"), [file.parent / "images", file.parent])
        here = shapes.get(number, [])

        def read(frame: DatasetFrame, here: list[CvatShape] = here) -> Sequence[ClassMask]:
            return masks_of(here, frame.size, classes)

        name = PurePosixPath(f"frame_{index:06d}")
        labels = frozenset(unknown.get(number, ()))
        pictures.append(ListedPicture(name, size, read, picture, bool(here), labels, sequence, index))
    return listed_dataset(path, NAME, classes, pictures, options, sidecar=sidecar, skips=skips)


def _shapes_by_frame(
    root: ElementTree.Element, file: Path, skips: Skips
) -> tuple[dict[int, list[CvatShape]], dict[int, set[str]], set[int]]:
    """By frame of the task: the shapes, and the labels of boxes and the like; and the frames that a track leaves open."""
    shapes: dict[int, list[CvatShape]] = defaultdict(list)
    unknown: dict[int, set[str]] = defaultdict(set)
    gaps: set[int] = set()
    for track in root.iterfind("track"):
        label, place = track.get("label") or "", f"{file.name}, track {track.get('id')}"
        before: int | None = None  # the last frame in which the object is there
        for element in sorted(track, key=lambda element: whole(element, "frame", place)):
            number = whole(element, "frame", place)
            if before is not None and number > before + 1:
                skips.add("frames between two keyframes", f"{place}, frame {before + 1}", number - before - 1)
                gaps |= set(range(before + 1, number))
            is_there = element.get("outside") != "1"
            before = number if is_there else None
            if not is_there:
                continue
            if element.tag in OUTLINES:
                shapes[number].append(CvatShape(label, element, f"{place}, frame {number}"))
            else:
                unknown[number] |= count_others(iter([element]), place, label, skips)
    return shapes, unknown, gaps


def _frame_numbers(root: ElementTree.Element, file: Path) -> tuple[int, int, int]:
    """The frame of the video that is frame 0 of the task, the step, and the number of frames."""
    task = next((element for element in root.iterfind("meta/*") if element.find("size") is not None), None)
    texts = {key: "" if task is None else task.findtext(key) or "" for key in ("start_frame", "size", "frame_filter")}
    step = texts["frame_filter"].partition("step=")[2] or "1"
    try:
        numbers = int(texts["start_frame"] or 0), max(int(step), 1), int(texts["size"] or 0)
        if max(map(abs, numbers)) > MOST_FRAMES:
            raise ValueError
        return numbers
    except ValueError as error:
        raise ExchangeError(
            f"{file.name} has no whole numbers for start_frame, size or step ({texts}). Correct it."
        ) from error


def _size(root: ElementTree.Element, file: Path) -> tuple[int, int]:
    original = root.find("meta//original_size")
    if original is None:
        raise ExchangeError(f"{file.name} has no <original_size>, the size of the video. Export it again from CVAT.")
    height, width = (original.findtext(key) for key in ("height", "width"))
    return picture_size(height, width, f"<original_size> of {file.name}")


def _video_name(root: ElementTree.Element) -> str:
    """The name of the video: that of the task's data, or of the task."""
    return PurePosixPath(root.findtext("meta//source") or root.findtext("meta//name") or "").stem


FORMAT = Format(
    name=NAME,
    title="CVAT for video 1.1",
    looks_like="annotations.xml with <track>, images/frame_000012.png",
    recognizes=recognizes,
    read_dataset=read_dataset,
    writer=CvatVideoWriter,
    shapes=(MASKS, POLYGONS),
    owned_files=(OwnedFiles(ANNOTATIONS, "annotations"), OwnedFiles("images/*.png", r"frame_\d{5,}")),
    napari_name="CVAT for video",
)
