"""Endoscapes-Seg50 (Murali et al., 2023): 493 frames of cholecystectomies with anatomy and tools. Read only.

::

    semseg/1_25.png          grey values of the classes in seg_label_map.txt; 1_25 is frame 25 of video 1
    seg_label_map.txt        background, cystic_plate, calot_triangle, cystic_artery, cystic_duct, gallbladder, tool
    train/1_25.jpg           the pictures, also in val, test, train_seg …

The label pictures are read, not `insseg` (one array for each frame, with the same objects) and not `annotation_coco.json`:
that of `train` has only boxes. A folder such as `train_seg` alone is read as COCO. Numbers count frames of the video at its
own rate, as in `all_metadata.csv` (https://github.com/CAMMA-public/Endoscapes, the dataset's own README).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame
from surgicalsam_napari.exchange.files import files_by_stem, image_size, read_labels
from surgicalsam_napari.exchange.format import Format, ReadOptions
from surgicalsam_napari.exchange.listing import (
    ListedPicture,
    find_picture,
    listed_dataset,
    named_classes,
    numbered_classes,
    text_lines,
)
from surgicalsam_napari.instruments import ClassSet, plain

NAME = "endoscapes"
LABELS, LABEL_MAP = "semseg", "seg_label_map.txt"
IMAGES = ("train_seg", "val_seg", "test_seg", "train", "val", "test", "all")
CLASSES = numbered_classes(
    "Endoscapes", ("cystic_plate", "calot_triangle", "cystic_artery", "cystic_duct", "gallbladder", "tool")
)


def recognizes(path: Path) -> bool:
    return path.is_dir() and (path / LABELS).is_dir() and bool(files_by_stem(path / LABELS, (".png",)))


def read_dataset(path: Path, options: ReadOptions) -> Dataset:
    pictures = []
    for file in files_by_stem(path / LABELS, (".png",)).values():

        def read(frame: DatasetFrame, file: Path = file) -> np.ndarray:
            return read_labels(file, frame.name)

        picture = find_picture(Path(file.name), [path / folder for folder in IMAGES])
        pictures.append(ListedPicture(Path(file.name), image_size(picture or file), read, picture))
    return listed_dataset(path, NAME, _classes(path), pictures, options)


def _classes(path: Path) -> ClassSet:
    """The classes of seg_label_map.txt, in its order, or those of the paper."""
    file = path / LABEL_MAP
    if not file.is_file():
        return CLASSES
    names = [line.strip() for line in text_lines(file) if line.strip()]
    return named_classes([name for name in names if plain(name) != "background"], file)


FORMAT = Format(
    name=NAME,
    title="Endoscapes",
    looks_like="semseg/1_25.png with train/1_25.jpg and seg_label_map.txt",
    recognizes=recognizes,
    read_dataset=read_dataset,
    precedence=-1,  # before COCO, whose files in the same folder have only boxes
)
