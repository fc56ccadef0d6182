"""YouTube-VIS JSON: one annotation for each instance of a video, with a mask for each of its frames.

::

    instances.json                   videos: file_names; annotations: segmentations, one entry a frame; categories
    JPEGImages/clip/00012.png        the pictures, relative to JPEGImages in file_names

Layouts of others that are read: `train.json` with `train/JPEGImages` (YouTube-VIS 2019, Mask2Former), `train/instances.json`
(2021), `annotations_train.json` with `train/` (OVIS). Source: https://youtube-vos.org/dataset/vis/ and the reader of its
authors, https://github.com/youtubevos/cocoapi (`ytvos.py`). A frame in which an instance is not has `null`.

The id of an annotation is the track, or its `track_id`, which our exports have. Our ids count through all videos of a file,
as readers expect. The pixels of a class without a track are an annotation without `track_id`.
"""

from __future__ import annotations

import json
import mmap
import re
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from pycocotools import mask as run_lengths

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.coordinates import picture_size
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame
from surgicalsam_napari.exchange.files import picture_png, write_file
from surgicalsam_napari.exchange.format import ExportTarget, Format, FrameToWrite, FrameWriter, OwnedFiles, ReadOptions
from surgicalsam_napari.exchange.formats.coco_files import CocoFile, entry_id, read_categories
from surgicalsam_napari.exchange.formats.coco_ids import CocoIds, coco_track_id
from surgicalsam_napari.exchange.formats.coco_masks import has_outline, read_mask
from surgicalsam_napari.exchange.formats.coco_writer import coco_categories
from surgicalsam_napari.exchange.instances import numbered_tracks
from surgicalsam_napari.exchange.listing import ListedPicture, find_picture, listed_dataset, posix
from surgicalsam_napari.exchange.overlaps import ClassMask
from surgicalsam_napari.exchange.sidecar import Sidecar, read_sidecar
from surgicalsam_napari.instruments import shortened
from surgicalsam_napari.untrusted import plain_file, read_json

NAME = "youtube-vis"
ANNOTATIONS, IMAGES = "instances.json", "JPEGImages"
_LISTS = ("videos", "annotations", "categories")
_PLACES = (ANNOTATIONS, "*.json", "*/*.json")


@dataclass
class YouTubeVisWriter(FrameWriter):
    """Writes frames into a new folder; `close` writes the JSON."""

    target: ExportTarget
    videos: dict[str, list[FrameToWrite]] = field(default_factory=lambda: defaultdict(list))  # without pixels
    objects: dict[tuple, dict[int, dict]] = field(default_factory=lambda: defaultdict(dict))

    def write(self, frame: FrameToWrite) -> None:
        if frame.image is not None:
            write_file(self.target.folder / IMAGES / _file_name(frame), picture_png(frame.image))
        position = len(self.videos[frame.sequence])
        self.videos[frame.sequence].append(replace(frame, image=None, instances=None, parts=None))
        for one in frame.masks():
            in_frame = None if one.instance is None else (position, one.instance)
            encoded = run_lengths.encode(np.asfortranarray(one.mask, np.uint8))
            self.objects[frame.sequence, one.class_id, one.track_id, in_frame][position] = encoded

    def close(self) -> None:
        numbers = {sequence: number for number, sequence in enumerate(self.videos, 1)}
        order = sorted(self.objects, key=lambda key: (numbers[key[0]], key[1], key[2] or 0, key[3] or (0, 0)))
        record = {
            "info": {"description": f"instruments in {self.target.video}"},
            "licenses": [],
            "videos": [self._video(numbers[sequence], frames) for sequence, frames in self.videos.items()],
            "annotations": [self._annotation(number, numbers[key[0]], key) for number, key in enumerate(order, 1)],
            "categories": coco_categories(self.target.classes),
        }
        write_file(self.target.folder / ANNOTATIONS, json.dumps(record, ensure_ascii=False).encode())

    def _video(self, number: int, frames: list[FrameToWrite]) -> dict:
        names = [_file_name(frame) for frame in frames]
        height, width = frames[0].size
        return {"id": number, "file_names": names, "height": height, "width": width, "length": len(frames)}

    def _annotation(self, number: int, video: int, key: tuple) -> dict:
        sequence, class_id, track_id, in_frame = key
        frames, masks = self.videos[sequence], self.objects[key]
        (height, width), positions = frames[0].size, range(len(frames))
        text = {at: {"size": [height, width], "counts": mask["counts"].decode("ascii")} for at, mask in masks.items()}
        return {
            "id": number,
            "video_id": video,
            "category_id": class_id,
            **({} if track_id is None else {"track_id": track_id}),
            **({} if in_frame is None else {"instance_id": in_frame[1]}),
            "iscrowd": 0,
            "height": height,
            "width": width,
            "length": len(frames),
            "segmentations": [text.get(at) for at in positions],
            "bboxes": [run_lengths.toBbox(masks[at]).tolist() if at in masks else None for at in positions],
            "areas": [int(run_lengths.area(masks[at])) if at in masks else None for at in positions],
        }


def _file_name(frame: FrameToWrite) -> str:
    return f"{frame.sequence}/{frame.frame_index:05d}.png"


def recognizes(path: Path) -> bool:
    return bool(_files(path))


def read_dataset(path: Path, options: ReadOptions) -> Dataset:
    files = [(file, _record(file)) for file in _files(path)]
    sidecar = read_sidecar(files[0][0].parent)
    coco_files = [
        CocoFile(file, file.parent, [], record["annotations"], record["categories"]) for file, record in files
    ]  # fmt: skip
    classes, class_ids = read_categories(coco_files, path.stem if sidecar is None else sidecar.classes.name)
    videos = [
        video for (file, record), ids in zip(files, class_ids, strict=True) for video in _videos(file, record, ids, sidecar)
    ]
    pictures = [picture for video in videos for picture in video.pictures(sidecar)]
    dataset = listed_dataset(path, NAME, classes, pictures, options, sidecar=sidecar)
    if sidecar is not None:
        return replace(dataset, has_instances=sidecar.has_instances, has_tracks=sidecar.has_tracks)
    return replace(dataset, has_instances=True, has_tracks=True, notes=tuple(video.note for video in videos if video.note))


@dataclass(frozen=True)
class _Video:
    """One entry of "videos".

    Attributes
    ----------
    annotations : with their places in the file
    ids : the tracks of this video, whose sequence is ""
    """

    file: Path
    names: list[str]
    size: tuple[int, int]
    class_ids: Mapping[Any, int]
    annotations: list[tuple[str, dict]]
    ids: CocoIds
    note: str = ""

    def pictures(self, sidecar: Sidecar | None) -> list[ListedPicture]:
        return [self._picture(position, posix(name), sidecar) for position, name in enumerate(self.names)]

    def _picture(self, position: int, name: PurePosixPath, sidecar: Sidecar | None) -> ListedPicture:
        here = [(place, one) for place, one in self.annotations if has_outline(one["segmentations"][position])]

        def read(frame: DatasetFrame) -> Sequence[ClassMask]:
            return [self._mask(frame, number, *annotation, position) for number, annotation in enumerate(here, 1)]

        picture = find_picture(name, _picture_folders(self.file))
        listed = ListedPicture(Path(name), self.size, read, picture, is_annotated=bool(here))
        if sidecar is not None and name.parent.name in sidecar.frames and name.stem.isdecimal():
            return replace(listed, sequence=name.parent.name, frame_index=int(name.stem))
        return listed

    def _mask(self, frame: DatasetFrame, number: int, place: str, annotation: dict, position: int) -> ClassMask:
        place = f"{frame.name} ({place}, segmentations[{position}])"
        category = annotation.get("category_id")
        if not isinstance(category, Hashable) or category not in self.class_ids:
            known = ", ".join(map(str, self.class_ids))
            raise ExchangeError(
                f'{place} has the category {shortened(category)}, but "categories" has only {known}. Add the category.'
            )
        mask = read_mask(annotation["segmentations"][position], self.size, place)
        return self.ids.identified(ClassMask(self.class_ids[category], mask), "", annotation, number)


def _videos(file: Path, record: dict, class_ids: Mapping[Any, int], sidecar: Sidecar | None) -> list[_Video]:
    by_video: dict[int | str, list[tuple[str, dict]]] = {}
    names: dict[int | str, tuple[list[str], tuple[int, int]]] = {}
    for position, entry in enumerate(record["videos"]):
        place = f"videos[{position}]"
        number, listed = entry_id(file, entry, "id", place), entry.get("file_names")
        if not isinstance(listed, list) or not all(isinstance(name, str) and name.strip() for name in listed):
            raise ExchangeError(f"{place} of {file.name} has no list of file_names. Add the names of its pictures.")
        names[number] = listed, picture_size(entry.get("height"), entry.get("width"), f"{place} of {file.name}")
        by_video[number] = []
    for position, annotation in enumerate(record["annotations"]):
        place = f"annotations[{position}]"
        number = entry_id(file, annotation, "video_id", place)
        if number not in by_video:
            raise ExchangeError(
                f'{place} of {file.name} is of video {number}, which is not in its list "videos". Add the video, or remove '
                "the annotation."
            )
        masks, length = annotation.get("segmentations"), len(names[number][0])
        if not isinstance(masks, list) or len(masks) != length:
            found = len(masks) if isinstance(masks, list) else "none"
            raise ExchangeError(
                f"{place} of {file.name} needs {length} segmentations, one for each frame of its video; got {found}. Use "
                "null for frames in which it is not."
            )
        by_video[number].append((f"{place} of {file.name}", annotation))
    return [_video(file, *names[number], class_ids, found, sidecar) for number, found in by_video.items()]


def _video(
    file: Path,
    names: list[str],
    size: tuple[int, int],
    class_ids: Mapping[Any, int],
    annotations: list[tuple[str, dict]],
    sidecar: Sidecar | None,
) -> _Video:
    if sidecar is not None:
        sequence = posix(names[0]).parent.name if names else ""
        exported = (sidecar.tracks or {}).get(sequence, {})
        tracks: Mapping[Hashable, int] = {number: exported[number] for number in exported}
        ids = CocoIds({"": tracks}, is_export=True, has_instances=sidecar.has_instances, has_tracks=sidecar.has_tracks)
        return _Video(file, names, size, class_ids, annotations, ids)
    with_ids = [(place, {**one, "track_id": _track(one, place)}) for place, one in annotations]
    numbers, note = numbered_tracks(one["track_id"] for _, one in with_ids)
    return _Video(file, names, size, class_ids, with_ids, CocoIds({"": numbers}, has_instances=True, has_tracks=True), note)


def _track(annotation: dict, place: str) -> Hashable:
    """The `track_id`, or the id of the annotation; the place in the file if it has neither."""
    track = coco_track_id(annotation, has_videos=False)
    identity = annotation.get("id") if track is None else track
    return identity if isinstance(identity, int | float | str) else place


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() == ".json" and _has_videos(path) else []
    for pattern in _PLACES:
        if found := [file for file in sorted(path.glob(pattern))[:40] if _has_videos(file)]:
            return found
    return []


def _has_videos(file: Path) -> bool:
    """Whether the text has lists of videos and annotations, but not of images; without parsing it, as it may be large."""
    try:
        with plain_file(file).open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as text:
            found = {name: re.search(rb'"%s"\s*:\s*\[' % name.encode(), text) for name in (*_LISTS, "images")}
    except (OSError, ValueError):  # an empty file cannot be mapped
        return False
    return found["images"] is None and found["videos"] is not None and found["annotations"] is not None


def _record(file: Path) -> dict:
    try:
        record = read_json(file)
    except ValueError as error:
        raise ExchangeError(f"{file} is damaged: it is not valid JSON. Restore it, or export again.") from error
    if not isinstance(record, dict) or not all(
        isinstance(record.get(name), list) and all(isinstance(entry, dict) for entry in record[name]) for name in _LISTS
    ):
        raise ExchangeError(
            f"{file} is not a YouTube-VIS file, which has the lists {', '.join(_LISTS)}. Choose another file."
        )
    return record


def _picture_folders(file: Path) -> list[Path]:
    subset = re.sub(r"^(annotations|instances)_", "", file.stem)
    places = [place for base in (file.parent, file.parent.parent) for place in (base, base / subset, base / "train")]
    return [folder for place in places for folder in (place / IMAGES, place)]


FORMAT = Format(
    name=NAME,
    title="YouTube-VIS",
    looks_like="JSON with videos, annotations and categories, such as instances.json, beside JPEGImages/clip/00012.png",
    recognizes=recognizes,
    read_dataset=read_dataset,
    precedence=-1,  # a COCO file has two of the three lists
    writer=YouTubeVisWriter,
    owned_files=(OwnedFiles(ANNOTATIONS, "instances"), OwnedFiles(f"{IMAGES}/*/*.png", r"\d{5,}")),
    napari_name="YouTube-VIS folder",
    instances=True,
)
