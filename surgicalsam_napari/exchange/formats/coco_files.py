"""The JSON files of a COCO dataset: found by their content in any usual layout, and read into plain lists.

::

    annotations.json                                  our exports
    annotations/instances_default.json                datumaro, CVAT and FiftyOne; pictures in images/ or images/default/
    _annotations.coco.json                            Roboflow, beside the pictures; also in train/, valid/ and test/
    *.json                                            any file with the lists images, annotations and categories
"""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from surgicalsam_napari.errors import ClassSetError, ExchangeError
from surgicalsam_napari.exchange.coordinates import is_number
from surgicalsam_napari.instruments import LARGEST_CLASS_ID, PALETTE, ClassSet, InstrumentClass, plain
from surgicalsam_napari.untrusted import plain_file, read_json

_LISTS = ("images", "annotations", "categories")
_PLACES = ("annotations.json", "annotations/instances_*.json", "*_annotations.coco.json", "*/*_annotations.coco.json")
_OTHER_PLACES = ("*.json", "annotations/*.json")
_MOST_FILES = 40  # a folder with more JSON files has one file per picture, which is another format


@dataclass(frozen=True)
class CocoFile:
    """One JSON file with its lists.

    Attributes
    ----------
    root : the folder of the dataset, to which pictures are relative
    """

    path: Path
    root: Path
    images: list[dict]
    annotations: list[dict]
    categories: list[dict]

    def picture(self, name: PurePosixPath) -> Path | None:
        """The file of a picture, in any of the usual places."""
        subset = self.path.stem.removeprefix("instances_")
        folders = (self.path.parent, self.root, self.root / "images", self.root / "images" / subset, self.root / subset)
        relative = name if not name.is_absolute() else PurePosixPath(name.name)
        return next((picture for folder in folders if (picture := folder / relative).is_file()), None)


def coco_paths(path: Path) -> list[Path]:
    """The COCO files of a folder, or the file itself; empty if there is none."""
    if path.is_file():
        return [path] if path.suffix.lower() == ".json" and _has_lists(path) else []
    for pattern in _PLACES:
        if found := [file for file in sorted(path.glob(pattern)) if _has_lists(file)]:
            return found
    for pattern in _OTHER_PLACES:
        files = sorted(path.glob(pattern))[: _MOST_FILES + 1]
        if len(files) <= _MOST_FILES and (found := [file for file in files if _has_lists(file)]):
            return found
    return []


def read_coco_file(path: Path) -> CocoFile:
    """Read a file; an ExchangeError if it is damaged or lacks a list."""
    try:
        record = read_json(path)
    except ValueError as error:
        raise ExchangeError(f"{path} is damaged: it is not valid JSON. Restore it, or export again.") from error
    if not isinstance(record, dict) or not all(
        isinstance(record.get(name), list) and all(isinstance(entry, dict) for entry in record[name]) for name in _LISTS
    ):
        raise ExchangeError(f"{path} is not a COCO file, which has the lists {', '.join(_LISTS)}. Choose another file.")
    root = path.parent.parent if path.parent.name == "annotations" else path.parent
    return CocoFile(path, root, *(record[name] for name in _LISTS))


def _has_lists(path: Path) -> bool:
    """Whether the text has at least two of COCO's lists; without parsing it, because such a file can have gigabytes."""
    try:
        with plain_file(path).open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as text:
            found = [re.search(rb'"%s"\s*:\s*\[' % name.encode(), text) for name in _LISTS]
    except (OSError, ValueError):  # an empty file cannot be mapped
        return False
    return sum(match is not None for match in found) >= 2


def entry_id(file: Path, entry: Mapping[str, Any], key: str, place: str) -> int | str:
    """The id under this key; some tools write ids as text."""
    value: Any = entry.get(key)
    if not isinstance(value, str) and not (is_number(value) and value == int(value)):
        raise ExchangeError(
            f"{place} of {file.name} has the {key} {value}, but it must be a number. Correct it in the file."
        )
    return value if isinstance(value, str) else int(value)  # 3.0 is 3


def read_categories(files: Sequence[CocoFile], name: str) -> tuple[ClassSet, list[dict[Any, int]]]:
    """The categories of all files as one class set, and for each file the class ids by category id.

    Ids are kept if all are label values (1 to 255) and mean the same in all files.
    """
    by_file = [_named_categories(file) for file in files]
    entries = [(number, category) for categories in by_file for number, category in categories.items()]
    first: dict[str, Mapping[str, Any]] = {}  # category by comparable name
    for _, category in entries:
        first.setdefault(plain(category["name"]), category)
    number_of = {key: category["id"] for key, category in first.items()}
    fits = all(isinstance(number, int) and 1 <= number <= LARGEST_CLASS_ID for number in number_of.values())
    fits &= all(number == number_of[plain(category["name"])] for number, category in entries)
    fits &= len(set(number_of.values())) == len(number_of)
    ids = number_of if fits else {key: position for position, key in enumerate(first, 1)}
    try:
        classes = [
            InstrumentClass(
                ids[key], " ".join(category["name"].split()), _color(category, position), _former_names(category)
            )
            for position, (key, category) in enumerate(first.items())
        ]
        class_set = ClassSet(name, tuple(classes))
    except ClassSetError as error:
        raise ExchangeError(f'"categories" of {files[0].path.name} are no classes. {error}') from error
    return class_set, [
        {number: ids[plain(category["name"])] for number, category in categories.items()} for categories in by_file
    ]


def _named_categories(file: CocoFile) -> dict[int | str, Mapping[str, Any]]:
    """The categories of a file by id, checked: each has its own id and name."""
    categories: dict[int | str, Mapping[str, Any]] = {}
    names: set[str] = set()
    for position, category in enumerate(file.categories):
        place = f"categories[{position}]"
        number, name = entry_id(file.path, category, "id", place), category.get("name")
        if not isinstance(name, str) or not name.strip():
            text = json.dumps(name)
            raise ExchangeError(
                f"{place} of {file.path.name} (id {number}) has the name {text}. Every category needs a name: add it."
            )
        if number in categories or plain(name) in names:
            raise ExchangeError(
                f'{place} of {file.path.name} ("{name}", id {number}) has the id or the name of an earlier category. Every '
                "category needs its own id and name: change them."
            )
        categories[number] = {**category, "id": number}
        names.add(plain(name))
    return categories


def _color(category: Mapping[str, Any], position: int) -> str:
    color = category.get("color")
    if isinstance(color, list) and len(color) == 3 and all(is_number(value) and 0 <= value <= 255 for value in color):
        return "#" + "".join(f"{int(value):02x}" for value in color)
    return PALETTE[position % len(PALETTE)]


def _former_names(category: Mapping[str, Any]) -> tuple[str, ...]:
    """What an export of this program says about earlier names; other values under this key mean something else."""
    names = category.get("former_names")
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()
