"""EndoVis 2017 (Robotic Instrument Segmentation) as the challenge distributes it: a folder of masks per instrument.

::

    instrument_dataset_1/left_frames/frame000.png
    instrument_dataset_1/ground_truth/Left_Prograsp_Forceps_labels/frame000.png      parts: 0, 10, 20, 30, 40

A folder's name may contain a side, a manufacturer and `_labels`. Frames are 1920 x 1080 with black borders, or cropped to
the inner 1280 x 1024.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from surgicalsam_napari.errors import ClassSetError, ExchangeError
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame
from surgicalsam_napari.exchange.files import (
    files_by_stem,
    folders_in,
    image_size,
    pictures_by_stem,
    read_labels,
)
from surgicalsam_napari.exchange.format import Format, ReadOptions
from surgicalsam_napari.exchange.frame_names import read_frame_names
from surgicalsam_napari.exchange.overlaps import ClassMask, class_masks
from surgicalsam_napari.instruments import ENDOVIS2017
from surgicalsam_napari.store.label_maps import present_ids

NAME = "endovis2017"
PARTS = {0, 10, 20, 30, 40}  # background, shaft, wrist, claspers, other
FULL_SIZE, CROPPED_SIZE = (1080, 1920), (1024, 1280)
CROP = (slice(28, 28 + 1024), slice(320, 320 + 1280))  # the picture inside the black borders
_IGNORED_WORDS = {"left", "right", "maryland", "labels"}


def recognizes(path: Path) -> bool:
    return path.is_dir() and bool(_sequence_folders(path))


def read_dataset(path: Path, options: ReadOptions) -> Dataset:
    folders = {folder.name: folder for folder in _sequence_folders(path)}
    masks = {sequence: _mask_folders(folder) for sequence, folder in folders.items()}
    frames = tuple(
        frame for sequence, folder in folders.items() for frame in _frames(folder, masks[sequence], options.frame_pattern)
    )

    def read(frame: DatasetFrame) -> tuple[ClassMask, ...]:
        return _read(frame, masks[frame.sequence])

    return Dataset(path, NAME, ENDOVIS2017, frames, read)


def _sequence_folders(path: Path) -> list[Path]:
    """The folders with a ground_truth folder: this one, its folders, or those in its archives (instrument_1_4_training)."""
    for candidates in ([path], folders_in(path), [f for archive in folders_in(path) for f in folders_in(archive)]):
        if sequences := [folder for folder in candidates if folders_in(folder / "ground_truth")]:
            return sequences
    return []


def _mask_folders(folder: Path) -> list[tuple[int, dict[str, Path]]]:
    """For every folder of masks, its class id and its files by frame name."""
    return [(_class_id(masks), files_by_stem(masks)) for masks in folders_in(folder / "ground_truth")]


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


def _frames(folder: Path, masks: list[tuple[int, dict[str, Path]]], pattern: str | None) -> Iterator[DatasetFrame]:
    pictures = pictures_by_stem(folder / "left_frames") or pictures_by_stem(folder / "left_frame")
    stems = {stem for _, files in masks for stem in files}
    for stem, name in sorted(read_frame_names(stems, pattern).items(), key=lambda item: (item[1].number, item[0])):
        picture = pictures.get(stem)
        size = image_size(picture or next(files[stem] for _, files in masks if stem in files))
        yield DatasetFrame(folder.name, name.number, f"{folder.name}/{stem}", size, picture, name)


def _read(frame: DatasetFrame, mask_folders: list[tuple[int, dict[str, Path]]]) -> tuple[ClassMask, ...]:
    masks: dict[int, np.ndarray] = {}
    stem = frame.name.rpartition("/")[2]
    for class_id, files in mask_folders:
        if stem not in files:
            folder = next(iter(files.values())).parent.name if files else "an empty folder"
            raise ExchangeError(
                f"{frame.name} is missing in ground_truth/{folder}. Restore it: an absent instrument needs a black mask."
            )
        name = f"{frame.sequence}/{files[stem].parent.name}/{stem}"
        parts = read_labels(files[stem], name)
        other = set(present_ids(parts)) - PARTS
        if other and class_id != ENDOVIS2017.by_name("Other").id:  # its parts have other numbers
            raise ExchangeError(
                f"{name} has the value {min(other)}, but the parts of an instrument are 10, 20, 30 and 40. "
                "Restore the file from the dataset."
            )
        if frame.size == CROPPED_SIZE and parts.shape == FULL_SIZE:
            parts = parts[CROP]
        mask = parts > 0
        masks[class_id] = mask | masks[class_id] if class_id in masks else mask  # left and right together
    return class_masks(masks)


FORMAT = Format(
    name=NAME,
    title="EndoVis 2017 as distributed",
    looks_like="instrument_dataset_1/ground_truth/Left_Prograsp_Forceps_labels/frame000.png",
    recognizes=recognizes,
    read_dataset=read_dataset,
)
