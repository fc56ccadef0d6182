"""An annotated video: its labels, the frames that are corrected and scored, and the IoU of each class."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from correcting import spread
from PIL import Image

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame
from surgicalsam_napari.exchange.importing import check_import
from surgicalsam_napari.exchange.registry import open_dataset
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.store import Project
from surgicalsam_napari.store.label_maps import present_ids
from surgicalsam_napari.video import VideoReader

GOOD_IOU = 0.85


@dataclass(frozen=True)
class AnnotatedVideo:
    """A video and a dataset with labels of some or all of its frames.

    Attributes
    ----------
    frame_count : of the video
    by_index : the labelled frames by their index in the video, ascending
    """

    path: Path
    dataset: Dataset
    frame_count: int
    by_index: Mapping[int, DatasetFrame]

    @property
    def classes(self) -> ClassSet:
        return self.dataset.classes

    @property
    def labelled(self) -> list[int]:
        return list(self.by_index)

    def truth(self, frame_index: int) -> np.ndarray:
        """(H, W) uint8, class ids."""
        return self.dataset.label_map(self.by_index[frame_index])

    def frames_with(self, class_id: int, frames: Sequence[int]) -> list[int]:
        """Those of these frames that show a class."""
        return [frame for frame in frames if np.any(self.truth(frame) == class_id)]


def open_annotated(video: Path, labels: Path, classes: ClassSet, *, needs_every_class: bool = True) -> AnnotatedVideo:
    """Open a video and its labels, and check every label map as an import does.

    Parameters
    ----------
    needs_every_class : refuse a class that is in no label map

    Raises
    ------
    VideoError, ExchangeError
        a file cannot be read, a label map has another size than the video or no frame in it, a class is in no label map
    """
    if not labels.is_dir():
        raise ExchangeError(
            f"LABELS should be a folder with frame_00000.png and so on; there is no folder {labels}. Choose another path."
        )
    dataset = open_dataset(labels, classes=classes)
    if (dataset.classes.ids, dataset.classes.names) != (classes.ids, classes.names):
        raise ExchangeError(
            f"{labels.name} is labelled with {', '.join(dataset.classes.names)}, as its classes.json says; "
            f"the class set has {', '.join(classes.names)}. Choose the class set of the labels (--classes)."
        )
    with tempfile.TemporaryDirectory() as scratch:
        project_folder = Path(scratch) / "check.surgicalsam"
        with Project.create(project_folder, VideoReader(video), classes) as project:
            plan = check_import(project, dataset)
            frame_count = project.video.info.frame_count
    by_index = {index: frame for frame, index in sorted(plan.frames, key=lambda pair: pair[1])}
    shown = {class_id for frame in by_index.values() for class_id in present_ids(dataset.label_map(frame))}
    if needs_every_class and (missing := [instrument.name for instrument in classes if instrument.id not in shown]):
        raise ExchangeError(
            f"Every class should be in a label map of {labels.name}; {', '.join(missing)} is in none. "
            "Remove the class from the class set (--classes), or choose other labels."
        )
    return AnnotatedVideo(video, dataset, frame_count, by_index)


def shown_classes(labels: Path, classes: ClassSet) -> ClassSet:
    """Those of these classes that a folder of label maps shows."""
    shown = {class_id for file in labels.glob("*.png") for class_id in present_ids(np.asarray(Image.open(file)))}
    return ClassSet(classes.name, tuple(instrument for instrument in classes if instrument.id in shown))


@dataclass(frozen=True)
class Protocol:
    """Which labelled frames a person corrects, and which are scored.

    Attributes
    ----------
    corrected : frames in the first half of the labelled frames, evenly spread
    gap, later : the other frames of the first half; the frames of the second half
    """

    corrected: tuple[int, ...]
    gap: tuple[int, ...]
    later: tuple[int, ...]


def protocol(labelled: Sequence[int], count: int) -> Protocol:
    """Correct `count` frames of the first half: of n labelled frames number int((p + 0.5) h / count), with h = n // 2."""
    half = len(labelled) // 2
    if count > half:
        raise ExchangeError(
            f"{count} corrected frames need at least {2 * count} labelled frames; there are {len(labelled)}. "
            "Choose fewer (--frames), or other labels."
        )
    corrected = [labelled[position] for position in spread(count, half)]
    gap = [frame for frame in labelled[:half] if frame not in corrected]
    return Protocol(tuple(corrected), tuple(gap), tuple(labelled[half:]))


# Scores --------------------------------------------------------------------------------------------------------------


def class_ious(labels: np.ndarray, truth: np.ndarray, class_ids: Sequence[int]) -> np.ndarray:
    """(C,) IoU from 0 to 1 of each class in one frame; NaN for a class that is in neither label map."""
    pairs = np.bincount(256 * labels.ravel().astype(np.int32) + truth.ravel(), minlength=256 * 256).reshape(256, 256)
    ids = list(class_ids)
    shared = pairs[ids, ids]
    union = pairs[ids].sum(axis=1) + pairs[:, ids].sum(axis=0) - shared
    return np.where(union > 0, shared / np.maximum(union, 1), np.nan)


class Scores:
    """The IoU of each class in each scored frame, for several ways to get the masks.

    Attributes
    ----------
    ious : by way and frame, (C,) from 0 to 1, NaN for a class that is in neither label map
    """

    def __init__(self, video: AnnotatedVideo) -> None:
        self._video = video
        self.ious: dict[str, dict[int, np.ndarray]] = {}

    def add(self, way: str, frame_index: int, labels: np.ndarray, truth: np.ndarray | None = None) -> None:
        truth = self._video.truth(frame_index) if truth is None else truth
        self.ious.setdefault(way, {})[frame_index] = class_ious(labels, truth, self._video.classes.ids)

    def means(self, frames: Iterable[int]) -> dict[str, dict[str, float | None]]:
        """Percent by way and class, over these frames."""
        frames = list(frames)
        return {
            way: by_class(self._video.classes, [ious[frame] for frame in frames if frame in ious])
            for way, ious in self.ious.items()
        }


def by_class(classes: ClassSet, ious: Sequence[np.ndarray]) -> dict[str, float | None]:
    """Mean IoU in percent by class name over frames, each (C,); None if no frame counts."""
    if not len(ious):
        return dict.fromkeys(classes.names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing is NaN, as it should be
        means = 100 * np.nanmean(np.stack(ious), axis=0)
    return {name: percent(mean) for name, mean in zip(classes.names, means, strict=True)}


def percent(value: float) -> float | None:
    """One decimal; None for NaN."""
    return None if np.isnan(value) else round(float(value), 1)


def good_share(ious: Collection[np.ndarray], least: float = GOOD_IOU) -> float:
    """The share of frames, each (C,), in which every class reaches an IoU; a class in neither label map counts as right."""
    return float(np.mean([bool(np.all(np.isnan(frame) | (frame >= least))) for frame in ious]))
