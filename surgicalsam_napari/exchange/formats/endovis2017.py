"""EndoVis 2017 (Robotic Instrument Segmentation) as the challenge distributes it: a folder of masks per instrument.

::

    instrument_dataset_1/left_frames/frame000.png
    instrument_dataset_1/ground_truth/Left_Prograsp_Forceps_labels/frame000.png      parts: 0, 10, 20, 30, 40

A folder's name may contain a side, a manufacturer and `_labels`. A folder is one instrument: a track. Frames are 1920 x 1080
with black borders, or cropped to the inner 1280 x 1024.

An export has `Prograsp_Forceps_labels`, or `Prograsp_Forceps_instance2_labels` if there are tracks. Pixels of an instrument
whose part is not known are 1, which readers take as the instrument.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple

import numpy as np

from surgicalsam_napari.errors import ClassSetError, ExchangeError
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame
from surgicalsam_napari.exchange.files import (
    files_by_stem,
    folders_in,
    grey_png,
    image_size,
    picture_png,
    pictures_by_stem,
    read_labels,
    write_file,
)
from surgicalsam_napari.exchange.format import ExportTarget, Format, FrameToWrite, FrameWriter, OwnedFiles, ReadOptions
from surgicalsam_napari.exchange.frame_names import read_frame_names
from surgicalsam_napari.exchange.instances import ObjectNumbers, read_object
from surgicalsam_napari.exchange.overlaps import ClassMask
from surgicalsam_napari.exchange.parts import ENDOVIS_PARTS, marks_of_parts, table_of_parts
from surgicalsam_napari.exchange.sidecar import Sidecar, check_complete, read_sidecar
from surgicalsam_napari.instruments import ENDOVIS2017, ClassSet
from surgicalsam_napari.store.label_maps import present_ids

NAME = "endovis2017"
PARTS = {"Shaft": 10, "Wrist": 20, "Clasper": 30, "Probe": 40}  # the challenge's mappings.json
NO_PART = 1  # in our exports: the instrument, but no known part
FULL_SIZE, CROPPED_SIZE = (1080, 1920), (1024, 1280)
CROP = (slice(28, 28 + 1024), slice(320, 320 + 1280))  # the picture inside the black borders
_IGNORED_WORDS = {"left", "right", "maryland", "labels"}
_INSTANCE = re.compile(r"(.+)_instance(\d+)")


@dataclass
class Endovis2017Writer(FrameWriter):
    """Writes frames into a new folder; `close` writes the black masks of absent instruments."""

    target: ExportTarget
    objects: ObjectNumbers = field(default_factory=ObjectNumbers)
    frames: dict[str, dict[str, tuple[int, int]]] = field(default_factory=lambda: defaultdict(dict))  # sizes
    folders: dict[str, dict[str, set[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(set)))

    def __post_init__(self) -> None:
        marks = {} if self.target.parts is None else marks_of_parts(self.target.parts, PARTS, "EndoVis 2017")
        self.values = table_of_parts(marks)
        self.names = _folder_names(self.target.classes)

    def write(self, frame: FrameToWrite) -> None:
        name, place = f"frame{frame.frame_index:03d}.png", self.target.folder / frame.sequence
        self.frames[frame.sequence][name] = frame.size
        if frame.image is not None:
            write_file(place / "left_frames" / name, picture_png(frame.image))
        for one in frame.masks():
            values = np.zeros(frame.size, np.uint8) if frame.parts is None else self.values[frame.parts]
            folder = self._folder(frame, one)
            mask = np.where(one.mask, np.maximum(values, NO_PART), np.uint8(0))
            write_file(place / "ground_truth" / folder / name, grey_png(mask))
            self.folders[frame.sequence][folder].add(name)

    def _folder(self, frame: FrameToWrite, one: ClassMask) -> str:
        if not self.target.has_instances:
            return f"{self.names[one.class_id]}_labels"
        free = count(1) if one.track_id is None else chain([one.track_id], count(1))
        number = self.objects.number(frame.sequence, frame.frame_index, one, free)
        return f"{self.names[one.class_id]}_instance{number}_labels"

    def close(self) -> None:
        for sequence, sizes in self.frames.items():
            folders = self.folders[sequence] or {f"{self.names[self.target.classes.ids[0]]}_labels": set[str]()}
            for folder, written in folders.items():
                for name in sizes.keys() - written:
                    place = self.target.folder / sequence / "ground_truth" / folder
                    write_file(place / name, grey_png(np.zeros(sizes[name], np.uint8)))

    def track_numbers(self) -> Mapping[str, Mapping[int, int]]:
        return self.objects.tracks


def _folder_names(classes: ClassSet) -> dict[int, str]:
    """A name for the folders of each class, such as Prograsp_Forceps; none twice."""
    names: dict[int, str] = {}
    for instrument in classes:
        name = "_".join(re.findall(r"[^\W_]+", instrument.name)) or "class"
        names[instrument.id] = f"{name}_class{instrument.id}" if name in names.values() else name
    return names


def recognizes(path: Path) -> bool:
    return path.is_dir() and bool(_sequence_folders(path))


def read_dataset(path: Path, options: ReadOptions) -> Dataset:
    folders, sidecar = {folder.name: folder for folder in _sequence_folders(path)}, read_sidecar(path)
    masks = {sequence: _mask_folders(folder, sidecar) for sequence, folder in folders.items()}
    frames = tuple(
        frame for sequence, folder in folders.items() for frame in _frames(folder, masks[sequence], options.frame_pattern)
    )
    check_complete(path, sidecar, frames)
    parts = ENDOVIS_PARTS if sidecar is None else sidecar.parts
    values = {} if parts is None else marks_of_parts(parts, PARTS, "EndoVis 2017")
    table = table_of_parts({value: part_id for part_id, value in values.items()})

    def read(frame: DatasetFrame) -> list[ClassMask]:
        tracks = None if sidecar is None else sidecar.object_tracks(frame.sequence)
        found = []
        for number, one in _read(frame, masks[frame.sequence], table, is_export=sidecar is not None):
            found.append(replace(one, track_id=number) if sidecar is None else read_object(one, number, tracks))
        return found

    if sidecar is None:
        return Dataset(path, NAME, ENDOVIS2017, frames, read, has_instances=True, has_tracks=True, parts=ENDOVIS_PARTS)
    return Dataset(
        path,
        NAME,
        sidecar.classes,
        frames,
        read,
        sidecar.annotated_frames(frames),
        is_export=True,
        has_instances=sidecar.has_instances,
        has_tracks=sidecar.has_tracks,
        parts=sidecar.parts,
    )


def _sequence_folders(path: Path) -> list[Path]:
    """The folders with a ground_truth folder: this one, its folders, or those in its archives (instrument_1_4_training)."""
    for candidates in ([path], folders_in(path), [f for archive in folders_in(path) for f in folders_in(archive)]):
        if sequences := [folder for folder in candidates if folders_in(folder / "ground_truth")]:
            return sequences
    return []


class _MaskFolder(NamedTuple):
    """A folder of masks: one instrument.

    Attributes
    ----------
    number : of the instrument in its sequence
    files : by frame name
    """

    class_id: int
    number: int
    files: dict[str, Path]


def _mask_folders(folder: Path, sidecar: Sidecar | None) -> list[_MaskFolder]:
    found = []
    for number, masks in enumerate(folders_in(folder / "ground_truth"), 1):
        if sidecar is None:
            found.append(_MaskFolder(_class_id(masks), number, files_by_stem(masks)))
            continue
        name = masks.name.removesuffix("_labels")
        names = {text: class_id for class_id, text in _folder_names(sidecar.classes).items()}
        instance = _INSTANCE.fullmatch(name)
        if name in names:
            found.append(_MaskFolder(names[name], 0, files_by_stem(masks)))
        elif instance is not None and instance[1] in names:
            found.append(_MaskFolder(names[instance[1]], int(instance[2]), files_by_stem(masks)))
        else:
            raise ExchangeError(
                f"{folder.name}/ground_truth/{masks.name} should be named after a class of this export "
                f"({', '.join(names)}). Rename it, or move it elsewhere."
            )
    return found


def _class_id(folder: Path) -> int:
    words = [word for word in re.split(r"[_\s]+", folder.name) if word and word.lower() not in _IGNORED_WORDS]
    try:
        return ENDOVIS2017.by_name(" ".join(words)).id
    except ClassSetError as error:
        known = ", ".join(ENDOVIS2017.names)
        raise ExchangeError(
            f"{folder.parents[1].name}/ground_truth/{folder.name} should be named after an instrument of EndoVis 2017 "
            f"({known}). Rename it, or move it elsewhere."
        ) from error


def _frames(folder: Path, masks: list[_MaskFolder], pattern: str | None) -> Iterator[DatasetFrame]:
    pictures = pictures_by_stem(folder / "left_frames") or pictures_by_stem(folder / "left_frame")
    stems = {stem for one in masks for stem in one.files}
    for stem, name in sorted(read_frame_names(stems, pattern).items(), key=lambda item: (item[1].number, item[0])):
        picture = pictures.get(stem)
        size = image_size(picture or next(one.files[stem] for one in masks if stem in one.files))
        yield DatasetFrame(folder.name, name.number, f"{folder.name}/{stem}", size, picture, name)


def _read(
    frame: DatasetFrame, mask_folders: list[_MaskFolder], part_ids: np.ndarray, *, is_export: bool
) -> Iterator[tuple[int, ClassMask]]:
    """Number and mask of each instrument in a frame."""
    stem = frame.name.rpartition("/")[2]
    for class_id, number, files in mask_folders:
        if stem not in files:
            folder = next(iter(files.values())).parent.name if files else "an empty folder"
            raise ExchangeError(
                f"{frame.name} is missing in ground_truth/{folder}. Restore it: an absent instrument needs a black mask."
            )
        name = f"{frame.sequence}/{files[stem].parent.name}/{stem}"
        parts = read_labels(files[stem], name)
        other = set(present_ids(parts)) - {*PARTS.values(), *((NO_PART,) if is_export else ())}
        if other and (is_export or class_id != ENDOVIS2017.by_name("Other").id):  # its parts have other numbers
            raise ExchangeError(
                f"{name} has the value {min(other)}, but the parts of an instrument are 10, 20, 30 and 40. "
                "Restore the file from the dataset."
            )
        if frame.size == CROPPED_SIZE and parts.shape == FULL_SIZE:
            parts = parts[CROP]
        yield number, ClassMask(class_id, parts > 0, parts=part_ids[parts])


FORMAT = Format(
    name=NAME,
    title="EndoVis 2017 as distributed",
    looks_like="instrument_dataset_1/ground_truth/Left_Prograsp_Forceps_labels/frame000.png",
    recognizes=recognizes,
    read_dataset=read_dataset,
    writer=Endovis2017Writer,
    note="Classes become folders of masks, with the parts shaft, wrist, clasper and probe.",
    owned_files=(OwnedFiles("*/ground_truth/*/*.png", r"frame\d{3,}"), OwnedFiles("*/left_frames/*.png", r"frame\d{3,}")),
    napari_name="EndoVis 2017 folders",
    instances=True,
    parts=True,
)
