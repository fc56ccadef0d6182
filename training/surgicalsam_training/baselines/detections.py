"""Read and write detections (boxes with scores) in COCO's format, and match them with the frames of the data.

There are two input formats: a list of results (`[{"image_id", "category_id", "bbox": [x, y, width, height], "score"}]`) with
a separate COCO file that lists images and categories; or one file with `images`, `categories` and scored `annotations`. A
result may also name its picture (in `file_name` or `image_id`). Without categories, `category_id` is a class id of the data.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from surgicalsam_napari.errors import ClassSetError, ExchangeError
from surgicalsam_napari.exchange.files import write_file
from surgicalsam_napari.exchange.frame_names import is_generic_folder, read_frame_name
from surgicalsam_napari.untrusted import read_json
from surgicalsam_training.data.training_data import TrainingData


@dataclass(frozen=True)
class Detection:
    """One box of a detector.

    Attributes
    ----------
    box : left, top, right, bottom in pixels of the frame
    score : 0 to 1
    """

    class_id: int
    box: tuple[float, float, float, float]
    score: float


Detections = Mapping[int, Sequence[Detection]]  # by example index


# Reading -------------------------------------------------------------------------------------------------------------


def read_detections(path: Path, data: TrainingData, images: Path | None = None) -> dict[int, list[Detection]]:
    """The detections by frame of the data; those of other pictures are ignored.

    Parameters
    ----------
    images : the COCO file that lists the numbered pictures and categories of `path`; None if `path` lists them itself, or
        names its pictures

    Raises
    ------
    ExchangeError
        the file has another format, an entry is incomplete, a picture fits several frames, a category is no class of the
        data, or no picture is a frame of the data
    """
    record = _json(path)
    listing = record if images is None else _json(images)
    entries = record.get("annotations") if isinstance(record, dict) else record
    if not isinstance(entries, list):
        raise ExchangeError(
            f"{path.name} should be a list of COCO results, or a COCO file with annotations; it is neither. Choose another "
            "file."
        )
    tables = listing if isinstance(listing, dict) else {}
    name_of = _picture_names(path, tables.get("images"))
    class_of = _class_ids(path, tables.get("categories"), data)
    names = FrameNames(data)
    detections: dict[int, list[Detection]] = defaultdict(list)
    for number, entry in enumerate(entries):
        where = f"entry {number + 1} of {path.name}"
        if not isinstance(entry, dict):
            raise ExchangeError(
                f"{where} should be an object with image_id, category_id, bbox and score. Correct this entry."
            )
        example_index = names.find(name_of(entry, where), where)
        if example_index is not None:
            detections[example_index].append(_detection(entry, class_of(entry, where), where))
    if entries and not detections:
        first, name = data.frames[0].name, name_of(entries[0], f"entry 1 of {path.name}")
        raise ExchangeError(
            f"{path.name} names no picture of the data: its first is {name}, the data's is {first}. Pictures are matched by "
            "sequence and frame number. Choose the detections of these data."
        )
    return dict(detections)


class FrameNames:
    """Example indices by the names of their pictures, with or without the sequence's folder."""

    def __init__(self, data: TrainingData) -> None:
        self._by_frame_index: dict[int, list[int]] = defaultdict(list)
        self._names = [_plain(frame.name) for frame in data.frames]
        self._sequences = [_plain(frame.sequence) for frame in data.frames]
        self._data = data
        for example_index, frame in enumerate(data.frames):
            self._by_frame_index[frame.frame_index].append(example_index)

    def find(self, name: str, where: str) -> int | None:
        """The example index of a picture; None if it is not in the data; an ExchangeError if it fits several."""
        path = PurePosixPath(name.replace("\\", "/"))
        frame = read_frame_name(path.stem)
        candidates = list(range(len(self._names))) if frame is None else self._by_frame_index.get(frame.number, [])
        plain = _plain(str(path.with_suffix("")))
        exact = [i for i in candidates if f"/{plain}".endswith(f"/{self._names[i]}")]
        parts = {*plain.split("/")[:-1], _plain(frame.video if frame else "")}
        fitting = exact
        if not exact and frame is not None:
            fitting = [i for i in candidates if self._sequences[i] in parts] or self._only_sequence(candidates, path)
        if len(fitting) > 1:
            listed = ", ".join(self._data.frames[i].name for i in fitting[:3])
            raise ExchangeError(
                f"{where} is of the picture {name}, which may be {listed}. Name pictures with their sequence, as in "
                f"{self._data.frames[fitting[0]].name}."
            )
        return fitting[0] if fitting else None

    def _only_sequence(self, candidates: list[int], path: PurePosixPath) -> list[int]:
        """A file name without folder fits any sequence; a file in an unknown folder belongs to other data."""
        return candidates if is_generic_folder(path.parent.name) else []


def _plain(name: str) -> str:
    return name.replace("\\", "/").strip("/").casefold()


def _json(path: Path) -> Any:
    try:
        return read_json(path)
    except OSError as error:
        raise ExchangeError(f"The detections {path} cannot be read ({error.strerror}). Choose a COCO JSON file.") from error
    except ValueError as error:
        raise ExchangeError(f"{path} is damaged, it is not JSON. Write it again with the detector.") from error


def _picture_names(path: Path, images: object) -> Callable[[dict, str], str]:
    names: dict[Any, str] = {}
    for image in images if isinstance(images, list) else ():
        if isinstance(image, dict) and isinstance(image.get("id"), int | str) and "file_name" in image:
            names[image["id"]] = str(image["file_name"])

    def name_of(entry: dict, where: str) -> str:
        image_id = entry.get("image_id")
        listed = names.get(image_id) if isinstance(image_id, int | str) else None
        name = entry.get("file_name", listed or (image_id if isinstance(image_id, str) else None))
        if name is None:
            raise ExchangeError(
                f"{where} is of the image {image_id}, and no list of images names its picture. Give the COCO file that the "
                "detector was run on (--images), or use file names."
            )
        return str(name)

    return name_of


def _class_ids(path: Path, categories: object, data: TrainingData) -> Callable[[dict, str], int]:
    """Class ids by the names of categories; without a list of categories their ids are the data's class ids."""
    listed = [c for c in categories if isinstance(c, dict)] if isinstance(categories, list) else []
    names = {c["id"]: str(c.get("name")) for c in listed if isinstance(c.get("id"), int | str)}

    def class_of(entry: dict, where: str) -> int:
        number = entry.get("category_id")
        try:
            return data.classes.by_name(names[number]).id if names else data.classes.by_id(number).id  # type: ignore[arg-type]
        except (KeyError, TypeError, ClassSetError) as error:
            name = names.get(number) if isinstance(number, int | str) else None
            what = str(number) if name is None else f"{number} ({name})"
            classes = ", ".join(f"{c.id} {c.name}" for c in data.classes)
            raise ExchangeError(
                f"{where} has the category {what}, and the data have {classes}. Rename the category, or list the categories."
            ) from error

    return class_of


def _detection(entry: dict, class_id: int, where: str) -> Detection:
    try:
        left, top, width, height = (float(value) for value in entry["bbox"])
        score = float(entry["score"])
        if not (np.isfinite([left, top, width, height, score]).all() and width > 0 and height > 0 and 0 <= score <= 1):
            raise ValueError("width and height should be above 0, and the score from 0 to 1")
    except (KeyError, TypeError, ValueError) as error:
        raise ExchangeError(
            f"{where} should have a bbox of x, y, width, height and a score; it has {entry.get('bbox')} and "
            f"{entry.get('score')}. Correct this entry, or run the detector again."
        ) from error
    return Detection(class_id, (left, top, left + width, top + height), score)


# Writing -------------------------------------------------------------------------------------------------------------


def write_detections(path: Path, data: TrainingData, detections: Iterable[tuple[int, Sequence[Detection]]]) -> Path:
    """One COCO file with images, categories and annotations that have a score; `read_detections` reads it.

    Parameters
    ----------
    detections : example index, and the detections in its frame
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for example_index, in_frame in detections:
        frame = data.frames[example_index]
        height, width = frame.size
        images.append({"id": example_index, "file_name": f"{frame.name}.png", "height": height, "width": width})
        for detection in in_frame:
            left, top, right, bottom = detection.box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": example_index,
                    "category_id": detection.class_id,
                    "bbox": [round(value, 3) for value in (left, top, right - left, bottom - top)],
                    "area": round((right - left) * (bottom - top), 3),
                    "iscrowd": 0,
                    "score": round(detection.score, 6),
                }
            )
    categories = [{"id": instrument.id, "name": instrument.name} for instrument in data.classes]
    record = {"images": images, "categories": categories, "annotations": annotations}
    return write_file(path, json.dumps(record, ensure_ascii=False).encode())
