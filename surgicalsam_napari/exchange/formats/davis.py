"""DAVIS and YouTube-VOS: indexed pictures with the palette of Pascal VOC, one folder for each video.

::

    Annotations/Full-Resolution/clip-1/00012.png     DAVIS: values are numbers of objects; also 480p, 1080p
    JPEGImages/Full-Resolution/clip-1/00012.jpg
    ImageSets/2017/train.txt                         the names of the videos
    Annotations/clip-1/00012.png                     YouTube-VOS, without the resolution; also in train/ and valid/
    meta.json                                        YouTube-VOS: the category of each object, and its frames

Sources: https://github.com/davisvideochallenge/davis2017-evaluation and the data format of https://youtube-vos.org. We write
DAVIS's folders with YouTube-VOS's meta.json, so that the classes keep their names. In it, the number of an object is the
class id. Tools of both datasets read pictures only as JPEG: those of an export are near the frames, but not the same. The
labels are exact. Without meta.json, numbers of objects mean something else in each video: give the classes (`--classes`).
"""

from __future__ import annotations

import io
import json
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame, needed_classes
from surgicalsam_napari.exchange.files import files_by_stem, folders_in, image_size, png_bytes, read_labels, write_file
from surgicalsam_napari.exchange.format import ExportTarget, Format, FrameToWrite, FrameWriter, OwnedFiles, ReadOptions
from surgicalsam_napari.exchange.label_colors import voc_palette
from surgicalsam_napari.exchange.listing import ListedPicture, find_picture, listed_dataset, named_classes
from surgicalsam_napari.exchange.sidecar import Sidecar, read_sidecar
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.store.label_maps import present_ids
from surgicalsam_napari.untrusted import read_json

NAME = "davis"
LABELS, IMAGES, META = "Annotations", "JPEGImages", "meta.json"
RESOLUTION = "Full-Resolution"
_RESOLUTIONS = (RESOLUTION, "1080p", "480p")
_JPEG_QUALITY = 95


@dataclass
class DavisWriter(FrameWriter):
    """Writes frames into a new folder; `close` writes the lists of videos and objects."""

    target: ExportTarget
    frames: dict[str, dict[int, list[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))

    def write(self, frame: FrameToWrite) -> None:
        place, name = f"{RESOLUTION}/{frame.sequence}", f"{frame.frame_index:05d}"
        image = Image.fromarray(np.ascontiguousarray(frame.label_map)).convert("P")
        image.putpalette(voc_palette().ravel().tolist())
        write_file(self.target.folder / LABELS / place / f"{name}.png", png_bytes(image))
        if frame.image is not None:
            buffer = io.BytesIO()
            Image.fromarray(frame.image).save(buffer, "jpeg", quality=_JPEG_QUALITY, subsampling=0)
            write_file(self.target.folder / IMAGES / place / f"{name}.jpg", buffer.getvalue())
        objects = self.frames[frame.sequence]
        for class_id in present_ids(frame.label_map):
            objects[class_id].append(name)

    def close(self) -> None:
        videos = {
            sequence: {
                "objects": {
                    str(class_id): {"category": self.target.classes.by_id(class_id).name, "frames": names}
                    for class_id, names in sorted(objects.items())
                }
            }
            for sequence, objects in self.frames.items()
        }
        write_file(self.target.folder / META, json.dumps({"videos": videos}, indent=1, ensure_ascii=False).encode())
        names = "".join(f"{sequence}\n" for sequence in self.frames)
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
    return listed_dataset(path, NAME, classes, pictures, options, sidecar=sidecar)


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
    table = None if sidecar is not None or categories is None else _table(categories, classes)

    def read(frame: DatasetFrame) -> np.ndarray:
        labels = read_labels(file, frame.name)
        if table is None:
            return labels
        if unknown := set(present_ids(labels)) - (categories or {}).keys():
            raise ExchangeError(f"{frame.name} has object {min(unknown)}, which {META} does not list. Add it to the file.")
        return table[labels]

    listed = ListedPicture(Path(folder.name) / file.name, image_size(picture or file), read, picture)
    if sidecar is not None and folder.name in sidecar.frames and file.stem.isdecimal():
        return replace(listed, sequence=folder.name, frame_index=int(file.stem))
    return listed


def _table(categories: dict[int, str], classes: ClassSet) -> np.ndarray:
    table = np.zeros(256, np.uint8)
    for number, name in categories.items():
        table[number] = classes.by_name(name).id
    return table


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
)
