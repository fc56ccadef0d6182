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

We write a track for each track of the project. Without tracks, one for each class; with polygons, one for each region of
each frame, because a track has one shape a frame. With polygons, the second region of a track is a track of its own, and so
on; classes.json says that they belong together, as it does for a track that changes its class. Each `<track>` of another
tool is a track. Not taken from datumaro: it cannot read masks in tracks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path, PurePosixPath
from typing import NamedTuple
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
from surgicalsam_napari.exchange.instances import numbered_tracks, read_object
from surgicalsam_napari.exchange.listing import ListedPicture, Skips, find_picture, listed_dataset
from surgicalsam_napari.exchange.overlaps import ClassMask
from surgicalsam_napari.exchange.sidecar import read_sidecar

NAME = "cvat-video"


@dataclass
class CvatVideoWriter(FrameWriter):
    """Writes frames into a new folder; `close` writes the XML file."""

    target: ExportTarget
    shapes: dict[_Object, dict[int, list[ElementTree.Element]]] = field(default_factory=lambda: defaultdict(dict))
    numbers: dict[int, int] = field(default_factory=dict)
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
        for one in frame.masks():
            elements = list(shape_elements(one.mask, polygons=self.target.polygons))
            in_frame = None if one.instance is None else (frame.frame_index, one.instance)
            self.shapes[_Object(one.class_id, one.track_id, in_frame)][frame.frame_index] = elements

    def close(self) -> None:
        last = max(self.frames)
        fields = {"name": self.target.video, "size": str(last + 1), "mode": "interpolation"}
        fields |= {"start_frame": "0", "stop_frame": str(last), "frame_filter": ""}
        tracks: list[ElementTree.Element] = []
        free = self._free_numbers()
        for one in sorted(self.shapes, key=_Object.order):
            divided = _regions(self.shapes[one]) if one.track_id is not None else _tracks(self.shapes[one])
            for shapes in divided:
                number = next(free)
                if one.track_id is not None and one.track_id not in self.numbers:
                    number = one.track_id
                if self.target.has_instances and one.in_frame is None:
                    self.numbers[number] = one.track_id or 0
                label = self.target.classes.by_id(one.class_id).name
                tracks.append(ElementTree.Element("track", {"id": str(number), "label": label, "source": "manual"}))
                tracks[-1].extend(_timed(shapes, last))
        meta = meta_element(fields, self.target.classes, self.size)
        write_file(self.target.folder / ANNOTATIONS, xml_bytes([meta, *tracks]))

    def _free_numbers(self) -> Iterator[int]:
        """Numbers of tracks of the file that are no track ids; from 0 on if there are none."""
        return count(max((one.track_id or 0 for one in self.shapes), default=0) + 1 if self.target.has_tracks else 0)

    def track_numbers(self) -> Mapping[str, Mapping[int, int]]:
        return {} if self.sequence is None else {self.sequence: self.numbers}


class _Object(NamedTuple):
    """What becomes a track of the file: a track, an instance of a frame (frame, number), or the rest of a class."""

    class_id: int
    track_id: int | None
    in_frame: tuple[int, int] | None

    def order(self) -> tuple[int, int, tuple[int, int]]:
        return self.class_id, self.track_id or 0, self.in_frame or (0, 0)


def _regions(by_frame: dict[int, list[ElementTree.Element]]) -> Iterator[dict[int, ElementTree.Element]]:
    """The shapes of a track: its first regions, then its second regions, and so on."""
    for position in range(max(map(len, by_frame.values()), default=0)):
        yield {index: elements[position] for index, elements in by_frame.items() if position < len(elements)}


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
    first, step, length = _frame_numbers(root, file)
    sequence = (sidecar.sequence if sidecar is not None else None) or _video_name(root) or file.parent.name
    track_ids, note = _track_ids(root)
    shapes, unknown, gaps = _shapes_by_frame(root, file, skips)
    exported = () if sidecar is None else sidecar.frames.get(sequence, {})
    object_tracks = None if sidecar is None else sidecar.object_tracks(sequence)

    def identify(shape: CvatShape, one: ClassMask) -> ClassMask:
        if sidecar is None:
            return replace(one, track_id=track_ids[shape.track])
        return read_object(one, shape.number, object_tracks)

    listed = set(exported) or {first + step * number for number in range(length)}
    listed |= {first + step * number for number in shapes}
    pictures = []
    for index in sorted(listed):
        number = (index - first) // step
        if number in gaps:
            continue
        picture = find_picture(PurePosixPath(f"frame_{number:06d}.png"), [file.parent / "images", file.parent])
        here = shapes.get(number, [])

        def read(frame: DatasetFrame, here: list[CvatShape] = here) -> Sequence[ClassMask]:
            return masks_of(here, frame.size, classes, identify)

        name = PurePosixPath(f"frame_{index:06d}")
        labels = frozenset(unknown.get(number, ()))
        pictures.append(ListedPicture(name, size, read, picture, bool(here), labels, sequence, index))
    dataset = listed_dataset(path, NAME, classes, pictures, options, sidecar=sidecar, skips=skips)
    if sidecar is not None:
        return replace(dataset, has_instances=sidecar.has_instances, has_tracks=sidecar.has_tracks)
    return replace(dataset, has_instances=True, has_tracks=True, notes=(note,) if note else ())


def _track_ids(root: ElementTree.Element) -> tuple[list[int], str]:
    """The track id of each `<track>`, and what to say about those that change. CVAT counts from 0."""
    ids = [track.get("id") or "" for track in root.iterfind("track")]
    start = 1 if "0" in ids else 0
    raw = [int(text) + start if text.isdecimal() else text for text in ids]
    unique = [text if raw.index(text) == position else (text, position) for position, text in enumerate(raw)]
    numbers, note = numbered_tracks(unique)
    return [numbers[one] for one in unique], note


def _shapes_by_frame(
    root: ElementTree.Element, file: Path, skips: Skips
) -> tuple[dict[int, list[CvatShape]], dict[int, set[str]], set[int]]:
    """By frame of the task: the shapes, and the labels of boxes and the like; and the frames that a track leaves open."""
    shapes: dict[int, list[CvatShape]] = defaultdict(list)
    unknown: dict[int, set[str]] = defaultdict(set)
    gaps: set[int] = set()
    for position, track in enumerate(root.iterfind("track")):
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
                shapes[number].append(CvatShape(label, element, f"{place}, frame {number}", position, track.get("id") or ""))
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
    instances=True,
    shapes=(MASKS, POLYGONS),
    owned_files=(OwnedFiles(ANNOTATIONS, "annotations"), OwnedFiles("images/*.png", r"frame_\d{5,}")),
    napari_name="CVAT for video",
)
