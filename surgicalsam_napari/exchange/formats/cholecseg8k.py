"""CholecSeg8k (Hong et al., 2020): 8,080 frames of Cholec80 with instruments and anatomy. Read only.

::

    video01/video01_00080/frame_80_endo.png                    the picture
    video01/video01_00080/frame_80_endo_watershed_mask.png     grey: the value of each pixel's class
    video01/video01_00080/frame_80_endo_color_mask.png         its colour, read if there is no watershed mask
    video01/video01_00080/frame_80_endo_mask.png               not complete, never read

The number is that of the frame in Cholec80's video. The dataset's page gives the values as #505050, #111111 …; in the files
they are the decimal numbers 50, 11 … (https://www.kaggle.com/datasets/newslab/cholecseg8k, and `dataset_variables.py` of
https://github.com/labdeeman7/cholec_instance_seg). The colours of the page are in a wrong order; those below are of the
files (https://github.com/we66530/Train_CholecSeg8k_with_DeeplabV3Res101_pytorch). Some pixels have no class: the white edge
of the picture, and single black ones (white in the colour mask). They are read as background, and counted.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame
from surgicalsam_napari.exchange.files import image_size, read_labels
from surgicalsam_napari.exchange.format import Format, ReadOptions
from surgicalsam_napari.exchange.label_colors import ids_of_colors, read_colors
from surgicalsam_napari.exchange.listing import (
    ListedPicture,
    Skips,
    count_unlabelled,
    listed_dataset,
    numbered_classes,
)
from surgicalsam_napari.video.image_folder import natural_key

NAME = "cholecseg8k"
WATERSHED, COLORS = "_endo_watershed_mask.png", "_endo_color_mask.png"
CLASSES = numbered_classes(
    "CholecSeg8k",
    (
        "Abdominal Wall",
        "Liver",
        "Gastrointestinal Tract",
        "Fat",
        "Grasper",
        "Connective Tissue",
        "Blood",
        "Cystic Duct",
        "L-hook Electrocautery",
        "Gallbladder",
        "Hepatic Vein",
        "Liver Ligament",
    ),
)
BLACK_BACKGROUND, UNLABELLED = 50, (0, 255)
VALUES = (11, 21, 13, 12, 31, 23, 24, 25, 32, 22, 33, 5)  # of classes 1 to 12
COLOR_OF_CLASS = (
    (210, 140, 140),
    (255, 114, 114),
    (231, 70, 156),
    (186, 183, 75),
    (170, 255, 0),
    (255, 85, 0),
    (255, 0, 0),
    (255, 255, 0),
    (169, 255, 184),
    (255, 160, 165),
    (0, 50, 128),
    (111, 74, 0),
)
_BACKGROUND_COLORS = ((127, 127, 127), (255, 255, 255), (0, 0, 0))
_DEPTHS = ("*", "*/*", "*/*/*")


def recognizes(path: Path) -> bool:
    return path.is_dir() and any(
        next(path.glob(depth + ending), None) is not None for depth in _DEPTHS for ending in (WATERSHED, COLORS)
    )


def read_dataset(path: Path, options: ReadOptions) -> Dataset:
    watershed, colors = _files(path, WATERSHED), _files(path, COLORS)
    skips = Skips()
    pictures = []
    for name in sorted(watershed.keys() | colors.keys(), key=natural_key):
        file = watershed.get(name) or colors[name]
        picture = path / name.parent / f"{name.name}_endo.png"

        def read(frame: DatasetFrame, file: Path = file) -> np.ndarray:
            return _watershed(file, frame.name) if file.name.endswith(WATERSHED) else _colors(file, frame.name)

        # the clips of a video are one sequence: video01/video01_00080
        video = name.parent.name.partition("_")[0] or path.name.partition("_")[0]
        image = picture if picture.is_file() else None
        pictures.append(ListedPicture(Path(video) / name.name, image_size(image or file), read, image))
    files = [watershed.get(name) or colors[name] for name in watershed.keys() | colors.keys()]
    count_unlabelled(sorted(files), _unlabelled_pixels, "pixels without a class", skips, path)
    return listed_dataset(path, NAME, CLASSES, pictures, options, skips=skips)


def _files(path: Path, ending: str) -> dict[Path, Path]:
    """The files by name without ending, relative to the dataset."""
    files = (file for depth in _DEPTHS for file in path.glob(depth + ending))
    return {(relative := file.relative_to(path)).with_name(relative.name.removesuffix(ending)): file for file in files}


def _watershed(file: Path, name: str) -> np.ndarray:
    values = read_labels(file, name)
    table = np.full(256, 255, np.uint8)
    table[[BLACK_BACKGROUND, *UNLABELLED]] = 0
    table[list(VALUES)] = CLASSES.ids
    labels = table[values]
    if (labels == 255).any():
        value = int(values[labels == 255][0])
        raise ExchangeError(f"{name} has the value {value}, which is no class of CholecSeg8k. Restore the file.")
    return labels


def _colors(file: Path, name: str) -> np.ndarray:
    ids = dict.fromkeys(_BACKGROUND_COLORS, 0) | dict(zip(COLOR_OF_CLASS, CLASSES.ids, strict=True))
    return ids_of_colors(read_colors(file, name), ids, name, "CholecSeg8k")


def _unlabelled_pixels(pixels: np.ndarray) -> int:
    first = pixels if pixels.ndim == 2 else pixels.max(axis=2)
    is_white = first == 255 if pixels.ndim == 2 else (pixels == 255).all(axis=2)
    return int(np.count_nonzero(is_white | (first == 0)))


FORMAT = Format(
    name=NAME,
    title="CholecSeg8k",
    looks_like="video01/video01_00080/frame_80_endo_watershed_mask.png beside frame_80_endo.png",
    recognizes=recognizes,
    read_dataset=read_dataset,
)
