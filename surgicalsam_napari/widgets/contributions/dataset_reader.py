"""napari's reader for datasets: the labels of each video as a Labels layer, read frame by frame when they come into view."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from surgicalsam_napari.errors import ProjectError, VideoError
from surgicalsam_napari.instruments import LARGEST_CLASS_ID, PALETTE, ClassSet, InstrumentClass
from surgicalsam_napari.store.labels.label_array import LabelArray
from surgicalsam_napari.video import VideoReader

if TYPE_CHECKING:
    from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame

LayerData = tuple[Any, dict[str, Any], str]
# Only folders with one of these are recognized: that reads many files, and napari asks for every folder dropped on it.
MARKS = (
    "classes.json",
    "annotations.xml",
    "annotations",
    "data.yaml",
    "labelmap.txt",
    "labels.txt",
    "tasks.json",
    "SegmentationClass",
    "Annotations",
    "semseg",
    "zarr.json",
)


class DatasetLabels(LabelArray):
    """The labels of one video of a dataset, (T, H, W) uint8, only to look at.

    Parameters
    ----------
    frames : by index on the axis T; other frames are empty
    """

    def __init__(self, dataset: Dataset, frames: dict[int, DatasetFrame]) -> None:
        height, width = next(iter(frames.values())).size
        super().__init__((max(frames) + 1, height, width))
        self._dataset, self._frames = dataset, frames

    def frame(self, frame_index: int) -> np.ndarray:
        frame = self._frames.get(frame_index)
        if frame is None:
            return np.zeros(self.shape[1:], np.uint8)
        return self._dataset.label_map(frame)

    def __setitem__(self, key: Any, values: Any) -> None:
        raise ProjectError(
            f"The labels of {self._dataset.path.name} are only shown. To correct them, open their video in SurgicalSAM and "
            "import the dataset there."
        )


def looks_like_dataset(path: Path) -> bool:
    """Whether this folder is a dataset of a known format."""
    if not path.is_dir() or not any((path / mark).exists() for mark in MARKS):
        return False
    from surgicalsam_napari.exchange.registry import recognized_format

    return recognized_format(path) is not None


def dataset_layers(folder: Path) -> list[LayerData]:
    """For each video of the dataset: its pictures, if they are a folder of their own, and its labels."""
    from surgicalsam_napari.exchange.registry import open_dataset
    from surgicalsam_napari.widgets.viewer.layers import labels_arguments

    dataset = open_dataset(folder, classes=_numbered())
    layers: list[LayerData] = []
    for sequence in dataset.sequences:
        frames = [frame for frame in dataset.frames if frame.sequence == sequence]
        video = _pictures(frames)
        if video is not None:
            layers.append((video, {"name": sequence, "rgb": True}, "image"))
        positions = dict(enumerate(frames)) if video is not None else {frame.frame_index: frame for frame in frames}
        arguments = labels_arguments(dataset.classes, folder) | {"name": f"{sequence} labels", "metadata": {}}
        layers.append((DatasetLabels(dataset, positions), arguments, "labels"))
    return layers


def _pictures(frames: list[DatasetFrame]) -> VideoReader | None:
    """The pictures as a video, if a folder has these and no others, in the same order."""
    from surgicalsam_napari.video.image_folder import image_files

    paths = [frame.image_path for frame in frames]
    folder = paths[0].parent if paths[0] is not None else None
    try:
        return VideoReader(folder) if folder is not None and image_files(folder) == paths else None
    except VideoError:
        return None


def _numbered() -> ClassSet:
    """Classes for values without names."""
    numbers = range(1, LARGEST_CLASS_ID + 1)
    return ClassSet("numbers", tuple(InstrumentClass(n, f"Class {n}", PALETTE[n % len(PALETTE)]) for n in numbers))
