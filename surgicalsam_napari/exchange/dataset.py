"""A dataset of labelled frames in any format, read frame by frame; `registry.open_dataset` opens one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.files import UNREADABLE
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.store.label_maps import present_ids


@dataclass(frozen=True)
class DatasetFrame:
    """One labelled frame.

    Attributes
    ----------
    sequence : such as "seq_1", or the video's name
    frame_index : the number in the file's name, which is the frame of the video
    name : such as "seq_1/frame_00012", for messages
    size : (H, W); (0, 0) if the header of the file is damaged
    image_path : the picture, if the dataset contains it
    """

    sequence: str
    frame_index: int
    name: str
    size: tuple[int, int]
    image_path: Path | None = None


@dataclass(frozen=True)
class Dataset:
    """Labelled frames on disk. Opening lists the files and reads their headers; `label_map` reads the labels.

    Attributes
    ----------
    path : the folder, or the JSON file
    format : a key of `registry.FORMATS`
    frames : sorted by sequence and frame
    read : reads the label map of a frame from its files: (H, W) uint8
    annotated : annotated class ids by frame; in a frame that is not listed, all classes are annotated
    is_export : True if frames have the numbers of the exported video; other datasets take the numbers from the names of
        their pictures, which may start at any number
    """

    path: Path
    format: str
    classes: ClassSet
    frames: tuple[DatasetFrame, ...]
    read: Callable[[DatasetFrame], np.ndarray] = field(repr=False)
    annotated: Mapping[DatasetFrame, tuple[int, ...]] = field(default_factory=dict, repr=False)
    is_export: bool = False

    @property
    def sequences(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(frame.sequence for frame in self.frames))

    def label_map(self, frame: DatasetFrame) -> np.ndarray:
        """The labels of a frame: (H, W) uint8, ids of `classes`, 0 for background.

        Raises
        ------
        ExchangeError
            a file is missing, damaged or has a wrong size, contains an unknown value, or masks overlap
        """
        label_map = self.read(frame)
        if frame.size not in (UNREADABLE, label_map.shape):
            raise ExchangeError(
                f"{frame.name} has labels of {_pixels(label_map.shape)} for a picture of {_pixels(frame.size)}. "
                "Replace the file that has the wrong size."
            )
        unknown = set(present_ids(label_map)) - set(self.classes.ids)
        if unknown:
            listed = ", ".join(f"{c.id} {c.name}" for c in self.classes)
            raise ExchangeError(
                f"{frame.name} has the value {min(unknown)}, but {self.classes.name} has only {listed}. "
                "Choose the class set that was used for labelling (--classes on the command line)."
            )
        return label_map

    def annotated_class_ids(self, frame: DatasetFrame) -> tuple[int, ...]:
        """The ids of the classes annotated in this frame, present or absent; usually all."""
        return self.annotated.get(frame, self.classes.ids)


def _pixels(size: tuple[int, ...]) -> str:
    return f"{size[1]} x {size[0]} pixels"


def merged_masks(masks: Mapping[int, np.ndarray], name: str, classes: ClassSet) -> np.ndarray:
    """A label map (H, W) uint8 from one mask (H, W) bool per class id; an ExchangeError if two classes overlap."""
    label_map: np.ndarray | None = None
    for class_id, mask in masks.items():
        if label_map is None:
            label_map = np.zeros(mask.shape, np.uint8)
        if mask.shape != label_map.shape:
            raise ExchangeError(
                f"{name} has masks of {_pixels(mask.shape)} and of {_pixels(label_map.shape)}, but all masks of a frame "
                "must have the same size. Replace the mask that has the wrong size."
            )
        covered = label_map[mask]
        if covered.any():
            other = classes.by_id(int(covered[covered > 0][0])).name
            raise ExchangeError(
                f"{name} has {np.count_nonzero(covered)} pixels that are both {other} and {classes.by_id(class_id).name}. "
                "The masks overlap, but a pixel can have only one class. Remove these pixels from one of the two masks."
            )
        label_map[mask] = class_id
    assert label_map is not None
    return label_map


def needed_classes(classes: ClassSet | None, path: Path, example: str) -> ClassSet:
    """The given class set; an ExchangeError if it is None, because the dataset has only class ids."""
    if classes is None:
        raise ExchangeError(
            f"{path} has class numbers ({example}) but no class names. The same number means different instruments in "
            "EndoVis 2017 and 2018. Give its class set (--classes endovis2017, endovis2018, or a YAML file)."
        )
    return classes
