"""DAVIS and YouTube-VOS: indexed pictures with the palette of Pascal VOC, one folder for each video.

::

    Annotations/Full-Resolution/clip-1/00012.png     DAVIS: values are numbers of objects; also 480p, 1080p
    JPEGImages/Full-Resolution/clip-1/00012.jpg
    ImageSets/2017/train.txt                         the names of the videos
    Annotations/clip-1/00012.png                     YouTube-VOS, without the resolution; also in train/ and valid/
    meta.json                                        YouTube-VOS: the category of each object, and its frames

Sources: https://github.com/davisvideochallenge/davis2017-evaluation and the data format of https://youtube-vos.org. We write
DAVIS's folders with YouTube-VOS's meta.json, so that the classes keep their names. In it, the number of an object is the
track, or the class id in an export without tracks. An object in a meta.json of others is a track. Tools of both datasets
read pictures only as JPEG: those of an export are near the frames, but not the same. The labels are exact. Without
meta.json, numbers of objects mean something else in each video: give the classes (`--classes`).
"""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame, needed_classes
from surgicalsam_napari.exchange.files import files_by_stem, folders_in, image_size, png_bytes, read_labels, write_file
from surgicalsam_napari.exchange.format import ExportTarget, Format, FrameToWrite, FrameWriter, OwnedFiles, ReadOptions
from surgicalsam_napari.exchange.instances import ObjectNumbers, read_object
from surgicalsam_napari.exchange.label_colors import voc_palette
from surgicalsam_napari.exchange.listing import ListedPicture, find_picture, listed_dataset, named_classes
from surgicalsam_napari.exchange.overlaps import ClassMask
from surgicalsam_napari.exchange.sidecar import Sidecar, read_sidecar
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.store.label_maps import present_ids
from surgicalsam_napari.untrusted import read_json

NAME = "davis"
LABELS, IMAGES, META = "Annotations", "JPEGImages", "meta.json"
RESOLUTION = "Full-Resolution"
_RESOLUTIONS = (RESOLUTION, "1080p", "480p")
_JPEG_QUALITY = 95
LARGEST_OBJECT = 255


@dataclass
class DavisWriter(FrameWriter):
    """Writes frames into a new folder; `close` writes the lists of videos and objects."""

    target: ExportTarget
    sequences: dict[str, None] = field(default_factory=dict)  # in their order
    frames: dict[str, dict[int, list[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    categories: dict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))  # class id by object
    objects: ObjectNumbers = field(default_factory=ObjectNumbers)

    def write(self, frame: FrameToWrite) -> None:
        place, name = f"{RESOLUTION}/{frame.sequence}", f"{frame.frame_index:05d}"
        self.sequences[frame.sequence] = None
        values = np.zeros(frame.size, np.uint8)
        for one in frame.masks():
            number = self._number(frame, one)
            values[one.mask] = number
            self.frames[frame.sequence][number].append(name)
            self.categories[frame.sequence][number] = one.class_id
        image = Image.fromarray(values).convert("P")
        image.putpalette(voc_palette().ravel().tolist())
        write_file(self.target.folder / LABELS / place / f"{name}.png", png_bytes(image))
        if frame.image is not None:
            buffer = io.BytesIO()
            Image.fromarray(frame.image).save(buffer, "jpeg", quality=_JPEG_QUALITY, subsampling=0)
            write_file(self.target.folder / IMAGES / place / f"{name}.jpg", buffer.getvalue())

    def _number(self, frame: FrameToWrite, one: ClassMask) -> int:
        if not self.target.has_instances:
            return one.class_id
        wanted = [one.track_id] if one.track_id is not None and one.track_id <= LARGEST_OBJECT else []
        try:
            return self.objects.number(frame.sequence, frame.frame_index, one, chain(wanted, range(1, LARGEST_OBJECT + 1)))
        except StopIteration:
            raise ExchangeError(
                f"DAVIS holds {LARGEST_OBJECT} objects in a video, but {frame.sequence} has more. Make tracks first "
                "(surgicalsam track), or choose another format, such as COCO."
            ) from None

    def track_numbers(self) -> Mapping[str, Mapping[int, int]]:
        return self.objects.tracks

    def close(self) -> None:
        videos = {
            sequence: {
                "objects": {
                    str(number): {
                        "category": self.target.classes.by_id(self.categories[sequence][number]).name,
                        "frames": names,
                    }
                    for number, names in sorted(self.frames[sequence].items())
                }
            }
            for sequence in self.sequences
        }
        write_file(self.target.folder / META, json.dumps({"videos": videos}, indent=1, ensure_ascii=False).encode())
        names = "".join(f"{sequence}\n" for sequence in self.sequences)
        write_file(self.target.folder / "ImageSets/2017/train.txt", names.encode())


def recognizes(path: Path) -> bool:
    return path.is_dir() and any(
        files_by_stem(folder, (".png",)) for part in _parts(path) for folder in folders_in(_labels(part))
    )


def read_dataset(path: Path, options: ReadOptions) -> Dataset:
    sidecar = read_sidecar(path)
    parts = _parts(path)
    categories = {name: objects for part in parts for name, objects in _categories(part / META).items()}
    names = dict.fromkeys(name for objects in categories.values() for name in objects.values())
    if sidecar is not None or categories:
        classes = named_classes(names, path, sidecar)
    else:
        classes = needed_classes(options.classes, path, "numbers of objects")
    pictures = [
        _listed(file, part, folder, classes, categories.get(folder.name), sidecar)
        for part in parts
        for folder in folders_in(_labels(part))
        for file in files_by_stem(folder, (".png",)).values()
    ]
    dataset = listed_dataset(path, NAME, classes, pictures, options, sidecar=sidecar)
    if sidecar is not None:
        return replace(dataset, has_instances=sidecar.has_instances, has_tracks=sidecar.has_tracks)
    return replace(dataset, has_instances=bool(categories), has_tracks=bool(categories))


def _parts(path: Path) -> list[Path]:
    """The folders with labels and pictures: this one, or train and valid in it."""
    candidates = [path, *(path / name for name in ("train", "valid", "val", "test", "DAVIS"))]
    return [part for part in candidates if ((part / LABELS).is_dir() and (part / IMAGES).is_dir()) or _is_export(part)]


def _is_export(part: Path) -> bool:
    return (part / LABELS / RESOLUTION).is_dir()


def _labels(part: Path) -> Path:
    return next((folder for name in _RESOLUTIONS if (folder := part / LABELS / name).is_dir()), part / LABELS)


def _categories(file: Path) -> dict[str, dict[int, str]]:
    """By video, the category of each object; empty if there is no meta.json."""
    try:
        videos = read_json(file)["videos"]
        return {
            str(video): {int(number): str(one["category"]) for number, one in entry["objects"].items()}
            for video, entry in videos.items()
        }
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExchangeError(
            f"{file} should have the objects of each video with their category ({error}). Restore the file."
        ) from error


def _listed(
    file: Path, part: Path, folder: Path, classes: ClassSet, categories: dict[int, str] | None, sidecar: Sidecar | None
) -> ListedPicture:
    inside = folder.relative_to(part / LABELS)
    picture = find_picture(Path(file.name), [part / IMAGES / inside])
    is_by_class = categories is None or (sidecar is not None and not sidecar.has_instances)

    def read(frame: DatasetFrame) -> np.ndarray | Sequence[ClassMask]:
        labels = read_labels(file, frame.name)
        if is_by_class or categories is None or not labels.any():
            return labels
        if unknown := set(present_ids(labels)) - categories.keys():
            raise ExchangeError(f"{frame.name} has object {min(unknown)}, which {META} does not list. Add it to the file.")
        tracks = {number: number for number in categories} if sidecar is None else sidecar.object_tracks(frame.sequence)
        return [
            read_object(ClassMask(classes.by_name(categories[number]).id, labels == number), number, tracks)
            for number in present_ids(labels)
        ]

    listed = ListedPicture(Path(folder.name) / file.name, image_size(picture or file), read, picture)
    if sidecar is not None and folder.name in sidecar.frames and file.stem.isdecimal():
        return replace(listed, sequence=folder.name, frame_index=int(file.stem))
    return listed


FORMAT = Format(
    name=NAME,
    title="DAVIS / YouTube-VOS",
    looks_like="Annotations/480p/clip/00012.png or Annotations/clip/00012.png, JPEGImages beside",
    recognizes=recognizes,
    read_dataset=read_dataset,
    writer=DavisWriter,
    note="The pictures become JPEG, as tools for DAVIS expect.",
    owned_files=(
        OwnedFiles(META, "meta"),
        OwnedFiles("ImageSets/2017/train.txt", "train"),
        OwnedFiles(f"{LABELS}/{RESOLUTION}/*/*.png", r"\d{5,}"),
        OwnedFiles(f"{IMAGES}/{RESOLUTION}/*/*.jpg", r"\d{5,}"),
    ),
    napari_name="DAVIS folder",
    instances=True,
)
