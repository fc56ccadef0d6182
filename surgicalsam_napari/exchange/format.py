"""The record that describes a dataset format to readers, writers, the command line and the window.

What a reader provides in its `Dataset`:

- `frames`: sequence and number of each frame from `frame_names.read_picture_names` (a whole dataset) or `read_frame_names`
  (a folder), never from an own pattern, with `options.frame_pattern`. `DatasetFrame.file_name` keeps the reading for the
  preview. Two videos in one folder are two sequences.
- `read`: a label map, or the masks of a frame in the order of the file (`overlaps.ClassMask`), which may overlap. Polygons
  are checked with `coordinates.check_coordinates`, which refuses values that cannot be and says where they are.
- `unannotated`: listed frames without any annotation. The reader does not decide whether they are empty.
- `annotated`: if some classes of a frame are not known, for example because their annotations have only a box, the others.
- `has_instances`, `has_tracks`: whether masks tell the instruments of a class apart (`ClassMask.instance`), and name them
  over frames (`ClassMask.track_id`); `parts`, if masks have parts (`ClassMask.parts`).
- `skipped`: what it left out, with counts: annotations with only a box, files that are no frames. One bad entry does not
  refuse the whole dataset; a value that cannot be is an ExchangeError with its place in the file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from surgicalsam_napari.exchange.dataset import Dataset
from surgicalsam_napari.exchange.instances import Instances, instance_masks
from surgicalsam_napari.exchange.overlaps import ClassMask
from surgicalsam_napari.instruments import ClassSet

MASKS, POLYGONS = "masks", "polygons"


@dataclass(frozen=True)
class ReadOptions:
    """What a person says about a dataset before it is read.

    Attributes
    ----------
    classes : for datasets that have only class numbers; otherwise ignored
    frame_pattern : how to read the names of frames, if that is not clear (`frame_names`)
    """

    classes: ClassSet | None = None
    frame_pattern: str | None = None


@dataclass(frozen=True)
class FrameToWrite:
    """One frame of an export.

    Attributes
    ----------
    sequence : the video's name, valid as the name of a folder, without underscores
    name : the frame's name in files, without suffix: "frame_00012", or "clip-1_00012" in a dataset of several videos
    label_map : (H, W) uint8, class ids
    image : (H, W, 3) uint8; None if the pictures are not exported
    annotated : ids of the classes that are known in this frame, present or absent
    note : what a person noted on this frame
    instances : which pixels are one instrument; None if that is not known, or the format has no instances
    parts : (H, W) uint8, ids of parts; None if there are none, or the format has no parts
    """

    sequence: str
    frame_index: int
    name: str
    label_map: np.ndarray
    image: np.ndarray | None
    annotated: tuple[int, ...]
    note: str = ""
    instances: Instances | None = None
    parts: np.ndarray | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.label_map.shape[0], self.label_map.shape[1]

    def masks(self) -> Iterator[ClassMask]:
        """A mask for each instance, or for each class where instances are not known."""
        return instance_masks(self.label_map, self.instances)


@dataclass(frozen=True)
class ExportTarget:
    """What a writer writes.

    Attributes
    ----------
    folder : a new folder
    video : the name of the video's file; of a dataset of several videos, the dataset's name
    polygons : write polygons, in a format that can hold masks, too
    annotators : who corrected these labels
    has_instances : frames have `instances`
    has_tracks : instances have tracks
    parts : the parts that frames have; None if they have none
    """

    folder: Path
    classes: ClassSet
    video: str
    polygons: bool = False
    annotators: tuple[str, ...] = ()
    has_instances: bool = False
    has_tracks: bool = False
    parts: ClassSet | None = None


class FrameWriter(ABC):
    """Writes a dataset in one format. The sidecar classes.json is not its task."""

    @abstractmethod
    def write(self, frame: FrameToWrite) -> None:
        """Write one frame."""

    def close(self) -> None:  # noqa: B027
        """Write what belongs to all frames, after the last one."""

    def track_numbers(self) -> Mapping[str, Mapping[int, int]] | None:
        """By video, the track id of each number in the files (`ObjectNumbers.tracks`); None if files have the track ids."""
        return None

    def abort(self) -> None:  # noqa: B027
        """Close open files after an error; the folder will be removed."""


WriterFactory = Callable[[ExportTarget], FrameWriter]


FRAME_NAME = r"[^_]+_\d{5,}"  # `sidecar.frame_name`


class OwnedFiles(NamedTuple):
    """Files that an export writes: a glob below its folder, and a regular expression for their whole stems."""

    glob: str
    stem: str


@dataclass(frozen=True)
class Format:
    """One dataset format.

    Attributes
    ----------
    name : used on the command line, in classes.json and in folder names, such as "indexed-png"
    title : shown in the window
    looks_like : an example of its files, for the message about a folder that no format recognizes
    recognizes : whether a path looks like this format
    read_dataset : opens a recognized path
    precedence : if several formats recognize a path, the one with the lowest number reads it
    writer : None if labels cannot be exported in this format
    shapes : what the files can hold, the default first; a label picture holds masks
    note : what a person should know before an export, such as that pictures become JPEG; "" if there is nothing
    owned_files : the files of an export besides classes.json, used to find and replace an earlier export
    napari_name : shown in napari's Save dialog; None if the dialog does not offer this format
    instances : whether its writer keeps instances and tracks
    parts : whether its writer keeps parts
    """

    name: str
    title: str
    looks_like: str
    recognizes: Callable[[Path], bool]
    read_dataset: Callable[[Path, ReadOptions], Dataset]
    precedence: int = 1
    writer: WriterFactory | None = None
    shapes: tuple[str, ...] = (MASKS,)
    note: str = ""
    owned_files: tuple[OwnedFiles, ...] = ()
    napari_name: str | None = None
    instances: bool = False
    parts: bool = False

    @property
    def napari_command(self) -> str | None:
        """The writer's name in `widgets/contributions/writers.py`, such as "write_indexed_png"."""
        return None if self.napari_name is None else f"write_{self.name.replace('-', '_')}"
