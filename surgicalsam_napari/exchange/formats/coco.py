"""COCO JSON: one file for all frames, with run-length encoded masks and named categories.

`coco_writer` says what an export writes. Files from other tools can be read, too: compressed and plain run lengths,
polygons, and several instances of a class. A track is an annotation's `track_id` (also in its `attributes`), or its
`instance_id` in a file with videos (CocoVID). Without tracks, the annotations of a class are instances of their frame, but
not crowds (`iscrowd`), unless all are crowds, as CVAT writes masks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.coordinates import picture_size
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame, Skipped
from surgicalsam_napari.exchange.format import FRAME_NAME, MASKS, POLYGONS, Format, OwnedFiles, ReadOptions
from surgicalsam_napari.exchange.formats.coco_files import CocoFile, coco_paths, entry_id, read_categories, read_coco_file
from surgicalsam_napari.exchange.formats.coco_ids import CocoIds, coco_track_id
from surgicalsam_napari.exchange.formats.coco_masks import has_outline, read_mask
from surgicalsam_napari.exchange.formats.coco_writer import ANNOTATIONS, IMAGES, CocoWriter
from surgicalsam_napari.exchange.frame_names import read_picture_names, stem
from surgicalsam_napari.exchange.instances import numbered_tracks
from surgicalsam_napari.exchange.overlaps import ClassMask
from surgicalsam_napari.exchange.sidecar import Sidecar, check_complete, read_sidecar
from surgicalsam_napari.instruments import ClassSet

NAME = "coco"


@dataclass
class _Image:
    """One entry of "images", with its annotations and their places in the file."""

    entry_id: int | str
    name: PurePosixPath
    size: tuple[int, int]
    file: CocoFile
    class_ids: dict[Any, int]
    has_video: bool = False
    annotations: list[tuple[str, dict]] = field(default_factory=list)
    without_outline: list[tuple[str, dict]] = field(default_factory=list)


def recognizes(path: Path) -> bool:
    return bool(coco_paths(path))


def read_dataset(path: Path, options: ReadOptions) -> Dataset:
    files = [read_coco_file(file) for file in coco_paths(path)]
    sidecar = read_sidecar(files[0].root)
    classes, class_ids = read_categories(files, files[0].path.stem if sidecar is None else sidecar.classes.name)
    images = [image for file, ids in zip(files, class_ids, strict=True) for image in _images(file, ids)]
    frames = dict(zip(_frames(files[0].root.name, images, sidecar, options.frame_pattern), images, strict=True))
    only_boxes = {frame for frame, image in frames.items() if image.without_outline and not image.annotations}
    ordered = tuple(sorted(frames.keys() - only_boxes, key=lambda frame: (frame.sequence, frame.frame_index, frame.name)))
    check_complete(path, sidecar, ordered)

    ids = _exported_ids(sidecar) if sidecar is not None else _read_ids(frames)

    def read(frame: DatasetFrame) -> list[ClassMask]:
        masks = [_class_mask(frame, frames[frame], *annotation) for annotation in frames[frame].annotations]
        return [
            ids.identified(one, frame.sequence, annotation, position)
            for position, (one, (_, annotation)) in enumerate(zip(masks, frames[frame].annotations, strict=True), 1)
        ]

    if sidecar is not None:
        return Dataset(
            path,
            NAME,
            classes,
            ordered,
            read,
            sidecar.annotated_frames(ordered),
            is_export=True,
            has_instances=ids.has_instances,
            has_tracks=ids.has_tracks,
        )
    return Dataset(
        path,
        NAME,
        classes,
        ordered,
        read,
        {frame: known for frame in ordered if (known := _known(frames[frame], classes)) != classes.ids},
        unannotated=frozenset(frame for frame in ordered if not frames[frame].annotations),
        skipped=tuple(_skipped(images, frames, only_boxes)),
        has_instances=ids.has_instances,
        has_tracks=ids.has_tracks,
        notes=ids.notes,
    )


def _exported_ids(sidecar: Sidecar) -> CocoIds:
    tracks: dict[str, Mapping[Hashable, int]] = {
        name: {number: numbers[number] for number in numbers} for name, numbers in (sidecar.tracks or {}).items()
    }
    return CocoIds(tracks, is_export=True, has_instances=sidecar.has_instances, has_tracks=sidecar.has_tracks)


def _read_ids(frames: Mapping[DatasetFrame, _Image]) -> CocoIds:
    """What a file of another tool says about instances."""
    annotations = [(frame, image, one) for frame, image in frames.items() for _, one in image.annotations]
    raw: dict[str, list[Hashable]] = {}
    for frame, image, one in annotations:
        if (track := coco_track_id(one, has_videos=image.has_video)) is not None:
            raw.setdefault(frame.sequence, []).append(track)
    numbered = {sequence: numbered_tracks(ids) for sequence, ids in raw.items()}
    per_frame = Counter((frame, _category(one)) for frame, _, one in annotations)
    return CocoIds(
        {sequence: numbers for sequence, (numbers, _) in numbered.items()},
        crowds_are_instances=all(one.get("iscrowd") for *_, one in annotations),
        has_instances=bool(raw) or any(count > 1 for count in per_frame.values()),
        has_tracks=bool(raw),
        notes=tuple(text for _, text in numbered.values() if text),
    )


def _images(file: CocoFile, class_ids: dict[Any, int]) -> list[_Image]:
    """The images of a file with their annotations."""
    images: dict[int | str, _Image] = {}
    for position, entry in enumerate(file.images):
        place = f"images[{position}]"
        number, name = entry_id(file.path, entry, "id", place), entry.get("file_name")
        if not isinstance(name, str) or not name.strip():
            raise ExchangeError(f"{place} of {file.path.name} (id {number}) has no file_name. Add the name of its picture.")
        if number in images:
            raise ExchangeError(
                f"{place} of {file.path.name} has the id {number}, as another image has. Give it its own id."
            )
        size = picture_size(entry.get("height"), entry.get("width"), f"{place} of {file.path.name} ({name})")
        path, has_video = PurePosixPath(name.replace("\\", "/")), "video_id" in entry
        images[number] = _Image(number, path, size, file, class_ids, has_video)
    for position, annotation in enumerate(file.annotations):
        place = f"annotations[{position}] of {file.path.name}"
        number = entry_id(file.path, annotation, "image_id", f"annotations[{position}]")
        if number not in images:
            raise ExchangeError(
                f'{place} is of image {number}, which is not in its list "images". Add the image, or remove the annotation.'
            )
        is_mask = has_outline(annotation.get("segmentation"))
        (images[number].annotations if is_mask else images[number].without_outline).append((place, annotation))
    return list(images.values())


def _frames(root: str, images: list[_Image], sidecar: Sidecar | None, pattern: str | None) -> list[DatasetFrame]:
    """One frame per image; an ExchangeError if a picture is listed twice, also in two files."""
    first: dict[PurePosixPath, _Image] = {}
    for image in images:
        if image.name in first:
            others = {image.file.path.name, first[image.name].file.path.name}
            where = (
                f"{min(others)} lists {image.name} twice"
                if len(others) == 1
                else f"{' and '.join(sorted(others))} both list {image.name}"
            )
            raise ExchangeError(f"{where}. Remove one of the two entries, or choose one file.")
        first[image.name] = image
    names = read_picture_names([image.name for image in images], root, pattern)
    frames = []
    for image in images:
        sequence, frame_name = names[image.name].sequence, names[image.name].frame
        if sidecar is not None and (exported := sidecar.frame_of(stem(image.name))) is not None:
            sequence = exported[0]
        name = f"{sequence}/{stem(image.name)}"
        frames.append(
            DatasetFrame(sequence, frame_name.number, name, image.size, image.file.picture(image.name), frame_name)
        )
    return frames


def _known(image: _Image, classes: ClassSet) -> tuple[int, ...]:
    """The annotated classes: all but those of which the image has only a box."""
    boxes = {image.class_ids.get(_category(annotation)) for _, annotation in image.without_outline}
    return tuple(class_id for class_id in classes.ids if class_id not in boxes)


def _skipped(
    images: list[_Image], frames: Mapping[DatasetFrame, _Image], only_boxes: set[DatasetFrame]
) -> Iterator[Skipped]:
    if places := [place for image in images for place, _ in image.without_outline]:
        yield Skipped("annotations without a mask (only a box)", len(places), places[0])
    if only_boxes:
        names = [frame.name for frame in frames if frame in only_boxes]
        yield Skipped("frames in which no annotation has a mask", len(names), names[0])


def _class_mask(frame: DatasetFrame, image: _Image, place: str, annotation: dict) -> ClassMask:
    place = f"{frame.name} ({place})"
    category = _category(annotation)
    if category not in image.class_ids:
        known = ", ".join(str(number) for number in image.class_ids)
        raise ExchangeError(f'{place} has the category {category}, but "categories" has only {known}. Add the category.')
    return ClassMask(image.class_ids[category], read_mask(annotation["segmentation"], image.size, place))


def _category(annotation: dict) -> int | str | None:
    category = annotation.get("category_id")
    return category if isinstance(category, int | str) else None


FORMAT = Format(
    name=NAME,
    title="COCO JSON",
    looks_like="JSON with images, annotations and categories, such as annotations.json or annotations/instances_*.json",
    recognizes=recognizes,
    read_dataset=read_dataset,
    precedence=0,
    writer=CocoWriter,
    instances=True,
    shapes=(MASKS, POLYGONS),
    owned_files=(
        OwnedFiles(ANNOTATIONS, "instances_default"),
        OwnedFiles(f"{IMAGES}/*.png", FRAME_NAME),
        OwnedFiles("annotations.json", "annotations"),  # of earlier versions
        OwnedFiles("images/*.png", FRAME_NAME),
    ),
    napari_name="COCO folder",
)
