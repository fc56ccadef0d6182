"""A dataset of labelled frames in any format, read frame by frame; `registry.open_dataset` opens one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.files import UNREADABLE
from surgicalsam_napari.exchange.frame_names import FrameName
from surgicalsam_napari.exchange.instances import Instances, instances_of
from surgicalsam_napari.exchange.overlaps import ClassMask, class_masks, from_below, painted, stacked
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
    file_name : what the file's name says, with the text that the number was read from; None if there is no such name
    """

    sequence: str
    frame_index: int
    name: str
    size: tuple[int, int]
    image_path: Path | None = None
    file_name: FrameName | None = None


@dataclass(frozen=True)
class FrameContent:
    """What a frame of a dataset shows.

    Attributes
    ----------
    label_map : (H, W) uint8, ids of `Dataset.classes`
    instances : None if the dataset does not tell instances apart
    parts : (H, W) uint8, ids of `Dataset.parts`; None if the dataset has no parts
    """

    label_map: np.ndarray
    instances: Instances | None = None
    parts: np.ndarray | None = None


@dataclass(frozen=True)
class Skipped:
    """Something in the dataset that is not imported.

    Attributes
    ----------
    what : in the plural, such as "annotations with only a box"
    example : where the first one is, such as "annotation 12"
    """

    what: str
    count: int
    example: str = ""


@dataclass(frozen=True)
class Dataset:
    """Labelled frames on disk. Opening lists the files and reads their headers; `label_map` reads the labels.

    Attributes
    ----------
    path : the folder, or the JSON file
    format : a key of `registry.FORMATS`
    frames : sorted by sequence and frame
    read : reads a frame from its files: its label map, (H, W) uint8, or its masks in the order of the file, which may
        overlap (`stacked` merges them)
    annotated : annotated class ids by frame; in a frame that is not listed, all classes are annotated
    unannotated : frames that the dataset lists without any annotation, and without saying that they are empty. They are left
        alone unless a person says that they show no instrument
    skipped : what the reader left out, with counts
    overlaps : which mask is on top (`overlaps.stacked`); None if overlaps are refused
    is_export : True if frames have the numbers of the exported video; other datasets take the numbers from the names of
        their pictures, which may start at any number
    has_instances : whether masks tell the instruments of a class apart
    has_tracks : whether instances have track ids, which are the same in all frames of a sequence
    parts : the parts of instruments, if masks have them
    notes : what a person should know before an import, such as that ids of tracks change
    """

    path: Path
    format: str
    classes: ClassSet
    frames: tuple[DatasetFrame, ...]
    read: Callable[[DatasetFrame], np.ndarray | Sequence[ClassMask]] = field(repr=False)
    annotated: Mapping[DatasetFrame, tuple[int, ...]] = field(default_factory=dict, repr=False)
    is_export: bool = False
    unannotated: frozenset[DatasetFrame] = field(default=frozenset(), repr=False)
    skipped: tuple[Skipped, ...] = ()
    overlaps: str | None = None
    has_instances: bool = False
    has_tracks: bool = False
    parts: ClassSet | None = None
    notes: tuple[str, ...] = ()

    @property
    def sequences(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(frame.sequence for frame in self.frames))

    def with_overlaps(self, order: str | None) -> Dataset:
        """The same dataset, whose overlapping masks are stacked in this order."""
        return replace(self, overlaps=order)

    def without_masks_of(self, class_ids: Collection[int]) -> Dataset:
        """The same dataset, in which the masks of these classes do not cover others; label maps stay as they are."""

        def read(frame: DatasetFrame) -> np.ndarray | Sequence[ClassMask]:
            content = self.read(frame)
            return content if isinstance(content, np.ndarray) else [one for one in content if one.class_id not in class_ids]

        return replace(self, read=read) if class_ids else self

    def without_unannotated(self) -> Dataset:
        """The same dataset without the frames that nobody annotated."""
        return replace(self, frames=tuple(frame for frame in self.frames if frame not in self.unannotated))

    def label_map(self, frame: DatasetFrame) -> np.ndarray:
        """The labels of a frame: (H, W) uint8, ids of `classes`, 0 for background.

        Raises
        ------
        ExchangeError
            a file is missing, damaged or has a wrong size, contains an unknown value, or masks overlap
        """
        return self.content(frame).label_map

    def content(self, frame: DatasetFrame) -> FrameContent:
        """The labels of a frame with its instances and parts, read once; errors as in `label_map`."""
        read = self.read(frame)
        if isinstance(read, np.ndarray):
            return FrameContent(self.checked(frame, read))
        masks = from_below(read, self.overlaps, frame.name, self.classes)
        label_map = self.checked(frame, painted(masks, frame.size))
        return FrameContent(
            label_map,
            instances_of(masks, label_map.shape) if self.has_instances else None,
            _parts_of(masks, label_map.shape) if self.parts is not None else None,
        )

    def instances(self, frame: DatasetFrame) -> np.ndarray | None:
        """The instances of a frame: (H, W) uint16, 0 for none; None if the dataset does not tell them apart.

        The values are track ids if the dataset has tracks, and else numbers that have a meaning only in this frame.
        """
        found = self.content(frame).instances
        if found is None:
            return None
        return found.track_ids() if self.has_tracks else found.numbers

    def parts_map(self, frame: DatasetFrame) -> np.ndarray | None:
        """The parts of a frame: (H, W) uint8, ids of `parts`, 0 where none is known; None if the dataset has no parts."""
        return self.content(frame).parts

    def stacked(self, frame: DatasetFrame, masks: Sequence[ClassMask]) -> np.ndarray:
        """The masks of a frame as a label map; an ExchangeError if they overlap and no order is chosen."""
        return stacked(masks, frame.size, self.overlaps, frame.name, self.classes)

    def checked(self, frame: DatasetFrame, label_map: np.ndarray) -> np.ndarray:
        """The label map; an ExchangeError if it has a wrong size or unknown values."""
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


def _parts_of(masks: Sequence[ClassMask], shape: tuple[int, ...]) -> np.ndarray:
    parts = np.zeros(shape, np.uint8)
    for one in masks:
        parts[one.mask] = 0 if one.parts is None else one.parts[one.mask]
    return parts


def _pixels(size: tuple[int, ...]) -> str:
    return f"{size[1]} x {size[0]} pixels"


def merged_masks(masks: Mapping[int, np.ndarray], name: str, classes: ClassSet) -> np.ndarray:
    """A label map (H, W) uint8 from one mask (H, W) bool per class id; an ExchangeError if two classes overlap."""
    return stacked(class_masks(masks), (0, 0), None, name, classes)


def needed_classes(classes: ClassSet | None, path: Path, example: str) -> ClassSet:
    """The given class set; an ExchangeError if it is None, because the dataset has only class ids."""
    if classes is None:
        raise ExchangeError(
            f"{path} has class numbers ({example}) but no class names. The same number means different instruments in "
            "EndoVis 2017 and 2018. Give its class set (--classes endovis2017, endovis2018, or a YAML file)."
        )
    return classes
