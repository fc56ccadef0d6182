"""A dataset of labelled frames, in any format, read frame by frame; `registry.open_dataset` opens one."""

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
    size : (H, W); (0, 0) where the file's header is damaged, `Dataset.label_map` says more
    image_path : the picture, if the dataset holds it
    """

    sequence: str
    frame_index: int
    name: str
    size: tuple[int, int]
    image_path: Path | None = None


@dataclass(frozen=True)
class Dataset:
    """Labelled frames on disk. Opening lists the files and reads their headers; label maps are read when asked for.

    Attributes
    ----------
    path : the folder, or the JSON file
    format : a key of `registry.FORMATS`
    frames : in order of sequence and frame
    read : what reads the file or files of a frame: (H, W) uint8
    annotated : class ids by frame, where not all classes were annotated
    is_export : whether frames are numbered as in the video that this was exported from; other datasets are numbered by
        the names of their pictures, and need not start at 0
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
            a file is missing, damaged or of another size, holds an unknown value, or masks overlap
        """
        label_map = self.read(frame)
        if frame.size not in (UNREADABLE, label_map.shape):
            raise ExchangeError(
                f"{frame.name} has labels of {_pixels(label_map.shape)} for a picture of {_pixels(frame.size)}. "
                "Both must have one size."
            )
        unknown = set(present_ids(label_map)) - set(self.classes.ids)
        if unknown:
            listed = ", ".join(f"{c.id} {c.name}" for c in self.classes)
            raise ExchangeError(
                f"{frame.name} has the value {min(unknown)}, and {self.classes.name} has {listed}. "
                "Give the class set that it was labelled with."
            )
        return label_map

    def annotated_class_ids(self, frame: DatasetFrame) -> tuple[int, ...]:
        """The classes that somebody has looked for in this frame, present or not; usually all."""
        return self.annotated.get(frame, self.classes.ids)


def _pixels(size: tuple[int, ...]) -> str:
    return f"{size[1]} x {size[0]} pixels"


def merged_masks(masks: Mapping[int, np.ndarray], name: str, classes: ClassSet) -> np.ndarray:
    """(H, W) uint8 from a mask (H, W) bool per class id; an ExchangeError where masks of two classes overlap."""
    label_map: np.ndarray | None = None
    for class_id, mask in masks.items():
        if label_map is None:
            label_map = np.zeros(mask.shape, np.uint8)
        if mask.shape != label_map.shape:
            raise ExchangeError(
                f"{name} has masks of {_pixels(mask.shape)} and of {_pixels(label_map.shape)}; a frame has one size. "
                "Replace the mask of the wrong size."
            )
        covered = label_map[mask]
        if covered.any():
            other = classes.by_id(int(covered[covered > 0][0])).name
            raise ExchangeError(
                f"{name} has {np.count_nonzero(covered)} pixels that are both {other} and {classes.by_id(class_id).name}: "
                "masks overlap, and a pixel has one class here. Remove these pixels from one of the two masks."
            )
        label_map[mask] = class_id
    assert label_map is not None
    return label_map


def needed_classes(classes: ClassSet | None, path: Path, example: str) -> ClassSet:
    """The class set given; an ExchangeError that asks for one where a dataset has ids alone."""
    if classes is None:
        raise ExchangeError(
            f"{path} numbers its classes ({example}) and names none: the same number means different tools in EndoVis 2017 "
            "and 2018. Give its class set (--classes endovis2017, endovis2018, or a YAML file)."
        )
    return classes
