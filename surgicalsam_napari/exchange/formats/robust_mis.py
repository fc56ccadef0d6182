"""ROBUST-MIS (Ross et al., 2019; Maier-Hein et al., 2021): instruments in 30 laparoscopic operations. Read only.

::

    Training/Proctocolectomy/1/12450/raw.png                       the picture
    Training/Proctocolectomy/1/12450/instrument_instances.png      grey: 0, or the number of an instrument

The folder of a frame is its number, the one above it the operation. The numbers tell single instruments of a frame apart,
not their types, so all are one class; they are no tracks, because the same instrument may have another number in the next
frame. A frame without `instrument_instances.png` is listed without labels. ROBUST-MIPS, a corrected release of the same
frames, has the same layout (https://www.synapse.org/Synapse:syn18779624 and syn64023381).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame
from surgicalsam_napari.exchange.files import image_size, read_labels
from surgicalsam_napari.exchange.format import Format, ReadOptions
from surgicalsam_napari.exchange.instances import NO_TRACKS
from surgicalsam_napari.exchange.listing import ListedPicture, listed_dataset, numbered_classes
from surgicalsam_napari.exchange.overlaps import ClassMask
from surgicalsam_napari.store.label_maps import present_ids
from surgicalsam_napari.video.image_folder import natural_key

NAME = "robust-mis"
LABELS, IMAGE = "instrument_instances.png", "raw.png"
CLASSES = numbered_classes("ROBUST-MIS", ("Instrument",))
_DEPTHS = ("*", "*/*", "*/*/*", "*/*/*/*")  # below Training, an operation, or one of its folders


def recognizes(path: Path) -> bool:
    return path.is_dir() and any(next(path.glob(f"{depth}/{LABELS}"), None) is not None for depth in _DEPTHS)


def read_dataset(path: Path, options: ReadOptions) -> Dataset:
    names = (LABELS, IMAGE)
    folders = {file.parent for depth in _DEPTHS for name in names for file in path.glob(f"{depth}/{name}")}
    pictures = []
    for folder in sorted(folders, key=natural_key):
        labels, image = folder / LABELS, folder / IMAGE

        def read(frame: DatasetFrame, labels: Path = labels) -> np.ndarray | Sequence[ClassMask]:
            if not labels.is_file():
                return np.zeros(frame.size, np.uint8)
            numbers = read_labels(labels, frame.name)
            if not numbers.any():
                return numbers
            return [ClassMask(1, numbers == number, instance=number) for number in present_ids(numbers)]

        size = image_size(image if image.is_file() else labels)
        picture = image if image.is_file() else None
        pictures.append(ListedPicture(folder.relative_to(path), size, read, picture, is_annotated=labels.is_file()))
    dataset = listed_dataset(path, NAME, CLASSES, pictures, options)
    return replace(dataset, has_instances=True, notes=(NO_TRACKS,))


FORMAT = Format(
    name=NAME,
    title="ROBUST-MIS",
    looks_like="Proctocolectomy/1/12450/instrument_instances.png beside raw.png",
    recognizes=recognizes,
    read_dataset=read_dataset,
)
