"""m2caiSeg (Maqbool et al., 2020): 307 frames of cholecystectomies with instruments and anatomy. Read only.

::

    train/images/NAME.jpg              also trainval and test
    train/groundtruth/NAME_gt.png      the colour of each pixel's class

Colours from https://github.com/salmanmaq/segmentationNetworks and torch-em's reader of the dataset
(https://github.com/constantinpape/torch-em, `m2caiseg.py`). Black is outside the endoscope's picture.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame
from surgicalsam_napari.exchange.files import files_by_stem, folders_in, image_size
from surgicalsam_napari.exchange.format import Format, ReadOptions
from surgicalsam_napari.exchange.label_colors import BACKGROUND, ids_of_colors, read_colors
from surgicalsam_napari.exchange.listing import ListedPicture, find_picture, listed_dataset, numbered_classes

NAME = "m2caiseg"
LABELS, IMAGES, ENDING = "groundtruth", "images", "_gt"
COLORS = {
    "Grasper": (0, 85, 170),
    "Bipolar": (0, 85, 255),
    "Hook": (0, 170, 255),
    "Scissors": (0, 255, 85),
    "Clipper": (0, 255, 170),
    "Irrigator": (85, 0, 170),
    "Specimen bag": (85, 0, 255),
    "Trocars": (170, 85, 85),
    "Clip": (170, 170, 170),
    "Liver": (85, 170, 0),
    "Gallbladder": (85, 170, 255),
    "Fat": (85, 255, 0),
    "Upper wall": (85, 255, 170),
    "Artery": (170, 0, 255),
    "Intestine": (255, 0, 255),
    "Bile": (255, 255, 0),
    "Blood": (255, 0, 0),
    "Unknown": (170, 0, 85),
}
CLASSES = numbered_classes("m2caiSeg", tuple(COLORS))


def recognizes(path: Path) -> bool:
    return path.is_dir() and bool(_parts(path))


def read_dataset(path: Path, options: ReadOptions) -> Dataset:
    ids = {BACKGROUND: 0, **dict(zip(COLORS.values(), CLASSES.ids, strict=True))}
    found: dict[str, ListedPicture] = {}
    for part in _parts(path):
        for stem, file in files_by_stem(part / LABELS).items():

            def read(frame: DatasetFrame, file: Path = file) -> np.ndarray:
                return ids_of_colors(read_colors(file, frame.name), ids, frame.name, "m2caiSeg")

            name = stem.removesuffix(ENDING)
            picture = find_picture(Path(f"{name}.jpg"), [part / IMAGES])
            # trainval has the frames of train once more
            found.setdefault(name, ListedPicture(Path(f"{name}.png"), image_size(picture or file), read, picture))
    return listed_dataset(path, NAME, CLASSES, list(found.values()), options)


def _parts(path: Path) -> list[Path]:
    return [part for part in (path, *folders_in(path)) if (part / LABELS).is_dir() and (part / IMAGES).is_dir()]


FORMAT = Format(
    name=NAME,
    title="m2caiSeg",
    looks_like="train/images/NAME.jpg with train/groundtruth/NAME_gt.png",
    recognizes=recognizes,
    read_dataset=read_dataset,
)
