"""Folders of id masks, one for each video: grey or indexed pictures whose values are class numbers. Read only.

::

    clip-1/masks/000012.png      also labels, annotations, segmentation, or any other name, or none
    clip-1/images/000012.jpg     also frames, rgb …, or beside the mask: 000012.jpg with 000012_mask.png
    masks/clip-1/000012.png      with images/clip-1/000012.jpg

A single folder of masks is `indexed_png`. The pictures have no class names: give the classes (`--classes`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame, needed_classes
from surgicalsam_napari.exchange.files import (
    files_by_stem,
    folders_in,
    image_size,
    is_color_picture,
    is_id_mask,
    read_labels,
)
from surgicalsam_napari.exchange.format import Format, ReadOptions
from surgicalsam_napari.exchange.listing import ListedPicture, find_picture, listed_dataset
from surgicalsam_napari.exchange.sidecar import SIDECAR
from surgicalsam_napari.video.image_folder import without_mask_ending

NAME = "id-masks"
MASKS = ("masks", "mask", "labels", "annotations", "segmentation", "segmentations", "gt", "ground_truth")
IMAGES = ("images", "image", "frames", "rgb", "img", "imgs", "left_frames", "raw", "pictures")
_DEPTH = 3


def recognizes(path: Path) -> bool:
    """Whether at least two folders have id masks; one alone is another format."""
    if not path.is_dir() or (path / SIDECAR).exists():
        return False
    folders = _mask_folders(path)
    return next(folders, None) is not None and next(folders, None) is not None


def read_dataset(path: Path, options: ReadOptions) -> Dataset:
    pictures = []
    for folder in _mask_folders(path):
        for file in files_by_stem(folder, is_wanted=is_id_mask).values():

            def read(frame: DatasetFrame, file: Path = file) -> np.ndarray:
                return read_labels(file, frame.name)

            parts = [part for part in folder.relative_to(path).parts if part.casefold() not in MASKS]
            picture = _picture(without_mask_ending(file.stem), folder, path)
            name = Path(*parts) / f"{without_mask_ending(file.stem)}{file.suffix}"
            pictures.append(ListedPicture(name, image_size(picture or file), read, picture))
    classes = needed_classes(options.classes, path, "values of pixels")
    return listed_dataset(path, NAME, classes, pictures, options)


def _mask_folders(path: Path, depth: int = _DEPTH) -> Iterator[Path]:
    """The folders below this one that contain an id mask."""
    for folder in folders_in(path):
        if folder.suffix == ".zarr" or folder.name.casefold() in IMAGES:
            continue
        masks = (file for file in sorted(folder.iterdir()) if file.is_file() and is_id_mask(file))
        if next(masks, None) is not None:
            yield folder
        elif depth > 1:
            yield from _mask_folders(folder, depth - 1)


def _picture(stem: str, folder: Path, root: Path) -> Path | None:
    found = (find_picture(Path(f"{stem}.jpg"), [place]) for place in _picture_folders(folder, root))
    return next((picture for picture in found if picture is not None and is_color_picture(picture)), None)


def _picture_folders(folder: Path, root: Path) -> list[Path]:
    """Where the pictures of a folder of masks may be."""
    beside = [folder, *(folder.parent / name for name in IMAGES), *(folder / name for name in IMAGES)]
    inside = folder.relative_to(root).parts
    return [*beside, *(root / name / Path(*inside[1:]) for name in IMAGES if len(inside) > 1)]


FORMAT = Format(
    name=NAME,
    title="Folders of id masks",
    looks_like="clip-1/masks/000012.png with class numbers as values, for two or more videos",
    recognizes=recognizes,
    read_dataset=read_dataset,
    precedence=9,
)
