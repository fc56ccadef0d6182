"""The instances of a project or a dataset, frame by frame, and which frames of two of them are compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from surgicalsam_napari.errors import TrainingError
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame
from surgicalsam_napari.exchange.registry import open_dataset
from surgicalsam_napari.instruments import ClassSet, same_classes
from surgicalsam_napari.store import Project
from surgicalsam_napari.store.corrections import corrected_frames
from surgicalsam_napari.store.locating import is_project_folder
from surgicalsam_training.data.training_data import DatasetOptions
from surgicalsam_training.scoring.instances import InstanceFrame, InstanceScores, InstanceVideo, score_instances

ALONE = 1 << 20  # ids from here on are of instances without a track: no two frames share one
UNKNOWN = 1 << 10  # class ids from here on are of classes that the truth does not know


class InstanceSource(Protocol):
    """A project or a dataset.

    Attributes
    ----------
    name : for messages
    has_tracks : whether an instance has the same id in all frames
    frame_rate : of the videos, if it is known
    """

    name: str
    classes: ClassSet
    has_tracks: bool
    frame_rate: float | None

    def frames(self) -> dict[str, list[int]]:
        """Frame indices, ascending, by the name of a sequence."""

    def read(self, sequence: str, frame_index: int) -> InstanceFrame:
        """The instances of a frame."""


class ProjectInstances:
    """The tracks of a project; as truth, only its corrected frames count."""

    has_tracks = True

    def __init__(self, project: Project, *, is_truth: bool) -> None:
        self.name, self.classes = project.folder.name, project.classes
        self.frame_rate = project.manifest.video.frame_rate
        self._project, self._table = project, project.tracks.table
        if not self._table.tracks:
            raise TrainingError(f"{self.name} has no tracks. Link its instances first: surgicalsam track.")
        self._indices = corrected_frames(project) if is_truth else list(range(project.manifest.video.frame_count))
        if not self._indices:
            raise TrainingError(
                f"{self.name} is the truth, of which the corrected frames count, but no frame is corrected. Verify the "
                "frames that are right, or give another project or dataset."
            )

    def frames(self) -> dict[str, list[int]]:
        return {self._project.folder.stem: self._indices}

    def read(self, sequence: str, frame_index: int) -> InstanceFrame:
        labels, numbers = self._project.labels[frame_index], self._project.tracks.numbers(frame_index)
        ids = ALONE + frame_index * 256 + np.arange(256)
        ids[0] = 0
        for number, track in self._table.in_frame(frame_index).items():
            ids[number] = track.id
        return InstanceFrame(labels, ids[numbers], self._confidence(frame_index))

    def _confidence(self, frame_index: int) -> dict[int, float]:
        ious = {class_id: self._project.labels.predicted_iou(frame_index, class_id) for class_id in self.classes.ids}
        return {class_id: iou for class_id, iou in ious.items() if not np.isnan(iou)}


class DatasetInstances:
    """The instances of a dataset."""

    frame_rate: float | None = None

    def __init__(self, dataset: Dataset) -> None:
        self.name, self.classes, self.has_tracks = dataset.path.name, dataset.classes, dataset.has_tracks
        if not dataset.has_instances:
            raise TrainingError(
                f"{self.name} should tell the instruments of a class apart, but its format has only classes. Give a project "
                "with tracks, or a dataset in COCO, CVAT for video, YouTube-VIS or MOTS."
            )
        self._dataset = dataset
        self._frames: dict[tuple[str, int], DatasetFrame] = {
            (frame.sequence, frame.frame_index): frame for frame in dataset.frames
        }

    def frames(self) -> dict[str, list[int]]:
        indices: dict[str, list[int]] = {}
        for sequence, frame_index in sorted(self._frames):
            indices.setdefault(sequence, []).append(frame_index)
        return indices

    def read(self, sequence: str, frame_index: int) -> InstanceFrame:
        content = self._dataset.content(self._frames[sequence, frame_index])
        assert content.instances is not None
        numbers = content.instances.numbers.astype(np.int64)
        ids = ALONE + frame_index * (1 << 16) + np.arange(1 << 16)
        ids[0] = 0
        ids[list(content.instances.tracks)] = list(content.instances.tracks.values())
        return InstanceFrame(content.label_map, ids[numbers])


def open_instances(path: Path, options: DatasetOptions, opened: ExitStack, *, is_truth: bool) -> InstanceSource:
    """Open a project or a dataset; a project is closed with `opened`.

    Raises
    ------
    TrainingError, ProjectError, ExchangeError
        it has no instances, or cannot be read
    """
    if is_project_folder(path):
        return ProjectInstances(opened.enter_context(Project.open(path, require_video=False)), is_truth=is_truth)
    dataset = open_dataset(path, classes=options.classes, frame_pattern=options.frame_pattern)
    dataset = dataset.with_overlaps(options.overlaps)
    return DatasetInstances(dataset if options.unannotated_are_empty else dataset.without_unannotated())


@dataclass(frozen=True)
class InstanceResult:
    """Scores of instances, and what a person should know about them."""

    scores: InstanceScores
    notes: tuple[str, ...]


def compare_instances(truth: InstanceSource, predicted: InstanceSource) -> InstanceResult:
    """Score one source against another, on the frames of the truth.

    Classes are matched by name, sequences by name unless both have one only, and frames by their numbers.

    Raises
    ------
    TrainingError
        no frame fits, a sequence is missing, or frames differ in size
    """
    sequences = _matched_sequences(truth, predicted)
    lookup = _class_lookup(predicted.classes, truth.classes)
    given = predicted.frames()
    notes, videos = [], []
    rate = truth.frame_rate or predicted.frame_rate
    for true_name, name in sequences.items():
        indices = truth.frames()[true_name]
        missing = len(set(indices) - set(given[name]))
        if missing == len(indices):
            raise TrainingError(
                f"{predicted.name} has the frames {given[name][0]} to {given[name][-1]} of {name}, but the truth has "
                f"{indices[0]} to {indices[-1]}: no frame is in both. Number the frames alike."
            )
        if missing:
            notes.append(f"{missing} frames of {true_name} are not in {predicted.name} and count as empty.")
        pairs = _pairs(truth, predicted, true_name, name, set(given[name]), lookup)
        videos.append(InstanceVideo(pairs, None if rate is None else (indices[-1] - indices[0] + 1) / rate))
    scores = score_instances(videos)
    if rate is None:
        notes.append("Neither side has a frame rate: nothing is given per minute. A project has one.")
    without = [source.name for source in (truth, predicted) if not source.has_tracks]
    if without:
        scores = _without_tracks(scores)
        notes.append(f"{' and '.join(without)} has instances without tracks: only masks are scored, not identities.")
    return InstanceResult(scores, tuple(notes))


def _without_tracks(scores: InstanceScores) -> InstanceScores:
    nan = float("nan")
    scores = replace(scores, idf1=nan, hota=nan, association_accuracy=nan, id_switches=None, class_flips=None)
    return replace(scores, id_switches_per_minute=nan, class_flips_per_minute=nan)


def _pairs(
    truth: InstanceSource, predicted: InstanceSource, true_name: str, name: str, given: set[int], lookup: np.ndarray
) -> Iterator[tuple[InstanceFrame, InstanceFrame]]:
    for index in truth.frames()[true_name]:
        true = truth.read(true_name, index)
        if index not in given:
            yield true, InstanceFrame(np.zeros_like(true.labels), np.zeros_like(true.tracks))
            continue
        found = predicted.read(name, index)
        if found.labels.shape != true.labels.shape:
            sizes = [f"{shape[1]} x {shape[0]}" for shape in (found.labels.shape, true.labels.shape)]
            raise TrainingError(
                f"Frame {index} of {name} has {sizes[0]} pixels in {predicted.name}, but {sizes[1]} in {truth.name}. "
                "Resize the predictions to the size of the truth (nearest neighbour)."
            )
        confidence = {int(lookup[class_id]): value for class_id, value in found.confidence.items()}
        yield true, InstanceFrame(lookup[found.labels], found.tracks, confidence)


def _class_lookup(classes: ClassSet, of_truth: ClassSet) -> np.ndarray:
    """(256,) int: class id of the prediction -> of the truth; from `UNKNOWN` on for classes that the truth does not know."""
    lookup = UNKNOWN + np.arange(256)
    lookup[0] = 0
    same = same_classes(classes, of_truth)
    lookup[list(same)] = list(same.values())
    return lookup


def _matched_sequences(truth: InstanceSource, predicted: InstanceSource) -> dict[str, str]:
    """The sequence of the prediction for each sequence of the truth."""
    true_names, names = list(truth.frames()), list(predicted.frames())
    if len(true_names) == len(names) == 1:
        return {true_names[0]: names[0]}
    by_name = {_short(name): name for name in names}
    missing = [name for name in true_names if _short(name) not in by_name]
    if missing:
        raise TrainingError(
            f"{predicted.name} should have the sequences of {truth.name}, but {_listed(missing)} is not among its "
            f"{_listed(names)}. Rename the sequences alike, or score only those that both have."
        )
    return {name: by_name[_short(name)] for name in true_names}


def _short(name: str) -> str:
    return name.rpartition("/")[2].casefold()


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
