"""Open training data of any kind, and find two paths with the same data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from surgicalsam_napari.errors import ExchangeError, SurgicalSAMError, TrainingError
from surgicalsam_napari.exchange.dataset import Dataset
from surgicalsam_napari.exchange.files import safe_name
from surgicalsam_napari.exchange.registry import open_dataset, recognized_format
from surgicalsam_napari.instruments import ENDOVIS2018, ClassSet, class_set_named
from surgicalsam_napari.store import Project
from surgicalsam_napari.store.locating import SUFFIX, project_of
from surgicalsam_napari.store.manifest import MANIFEST
from surgicalsam_napari.video import is_video
from surgicalsam_training.config import TrainingConfig
from surgicalsam_training.data.dataset_source import DatasetSource
from surgicalsam_training.data.processed_endovis import (
    ProcessedEndovisSource,
    class_set_of,
    is_processed_endovis,
    unnamed_classes_message,
)
from surgicalsam_training.data.project_source import ProjectSource
from surgicalsam_training.data.source import Source

KINDS = (
    "a project (*.surgicalsam, or the video it belongs to), a dataset with pictures in a format that `surgicalsam import` "
    "reads, or the authors' processed EndoVis folder (train/0/sam_features_h, or 0/sam_features_h)"
)


@dataclass(frozen=True)
class DatasetOptions:
    """How to read datasets; the same choices as in an import.

    Attributes
    ----------
    classes : of datasets that have only class numbers
    frame_pattern : how to read the names of frames (`exchange.frame_names`)
    overlaps : which of two overlapping masks is on top (`exchange.overlaps`); None if overlaps are refused
    unannotated_are_empty : frames without any annotation show no instrument; if False, they are left out
    """

    classes: ClassSet | None = None
    frame_pattern: str | None = None
    overlaps: str | None = None
    unannotated_are_empty: bool = False


def dataset_options(config: TrainingConfig) -> DatasetOptions:
    """How a training reads its datasets; a ClassSetError if its class set cannot be read."""
    return DatasetOptions(
        classes=None if config.data_classes is None else class_set_named(config.data_classes),
        frame_pattern=config.frame_pattern,
        overlaps=config.overlaps,
        unannotated_are_empty=config.unannotated == "empty",
    )


def open_sources(paths: Sequence[Path], trust: str, seed: int, options: DatasetOptions) -> list[Source]:
    """Open all paths; if one fails, close the others.

    Raises
    ------
    TrainingError, ProjectError, ExchangeError
        a path has no training data, is damaged, or has the same data as another path
    """
    if not paths:
        raise TrainingError(f"A training needs data: {KINDS}. Name at least one.")
    with ExitStack() as opened:
        distinct = _DistinctSources()
        for path in paths:
            source = open_source(Path(path).expanduser().absolute(), trust, seed, options)
            opened.callback(source.close)
            other = distinct.add(source)
            if other is not None:
                raise TrainingError(
                    f"{source.path} and {other.path} are the same video: its frames would count twice, and could be in "
                    "training and validation at once. Leave out one of them."
                )
        opened.pop_all()
    return distinct.sources


def open_source(path: Path, trust: str, seed: int, options: DatasetOptions) -> Source:
    if not path.exists():
        raise TrainingError(f"{path} does not exist. Check the path; training data are {KINDS}.")
    if (path / MANIFEST).exists() or path.suffix == SUFFIX:
        return ProjectSource(path, trust, seed)
    if is_video(path) and (project_of(path) / MANIFEST).exists():
        return ProjectSource(project_of(path), trust, seed)
    if is_processed_endovis(path):
        return ProcessedEndovisSource(path, options.classes)
    if path.is_file() and is_video(path):
        raise TrainingError(
            f"{path} has no project beside it ({Project.default_folder(path).name}). Open the video in the window and "
            "correct some frames, or import labels (`surgicalsam import`)."
        )
    if recognized_format(path) is None:
        raise TrainingError(f"{path} is not training data. Expected {KINDS}. Choose one of these.")
    return DatasetSource(_dataset(path, options), seed)


def _dataset(path: Path, options: DatasetOptions) -> Dataset:
    classes = class_set_of(path, options.classes)
    try:
        dataset = open_dataset(path, classes=classes, frame_pattern=options.frame_pattern)
    except ExchangeError as error:
        if classes is None and _opens_with_classes(path, options):
            raise TrainingError(unnamed_classes_message(path)) from error
        raise
    dataset = dataset.with_overlaps(options.overlaps)
    return dataset if options.unannotated_are_empty else dataset.without_unannotated()


def _opens_with_classes(path: Path, options: DatasetOptions) -> bool:
    try:
        open_dataset(path, classes=ENDOVIS2018, frame_pattern=options.frame_pattern)
    except ExchangeError:
        return False
    return True


class _DistinctSources:
    """Sources with different data.

    Two sources have the same data if they are the same video or folder, or if frames with the same name and number have
    equal pictures, as in an export of a project. No picture is read twice.
    """

    def __init__(self) -> None:
        self.sources: list[Source] = []
        self._by_identity: dict[str, Source] = {}
        self._by_name: dict[tuple, list[tuple[Source, int]]] = {}  # sources and example indices
        self._pictures: dict[tuple[int, int], bytes | None] = {}  # by source and example index

    def add(self, source: Source) -> Source | None:
        """Add a source; or return the source that has the same data, and add nothing."""
        other = self._by_identity.get(source.identity) or self._with_equal_picture(source)
        if other is None:
            self.sources.append(source)
            self._by_identity[source.identity] = source
            for example_index, name in enumerate(_names(source)):
                self._by_name.setdefault(name, []).append((source, example_index))
        return other

    def _with_equal_picture(self, source: Source) -> Source | None:
        compared: set[int] = set()  # one pair of pictures is enough
        for example_index, name in enumerate(_names(source)):
            for other, counterpart in self._by_name.get(name, ()):
                if id(other) not in compared:
                    compared.add(id(other))
                    picture = self._picture(source, example_index)
                    if picture is not None and picture == self._picture(other, counterpart):
                        return other
            if len(compared) == len(self.sources):
                break
        return None

    def _picture(self, source: Source, example_index: int) -> bytes | None:
        """A hash of the picture; None without a picture, for example if the video is missing."""
        key = id(source), example_index
        if key not in self._pictures:
            try:
                image = source.image(example_index)
            except SurgicalSAMError:
                image = None
            self._pictures[key] = None if image is None else hashlib.sha256(np.ascontiguousarray(image).data).digest()
            source.release()
        return self._pictures[key]


def _names(source: Source) -> Iterator[tuple]:
    """Of each frame, the properties that an export keeps; sequences in an export have safe names."""
    safe = {sequence: safe_name(sequence).casefold() for sequence in {frame.sequence for frame in source.frames}}
    return ((safe[frame.sequence], frame.frame_index, frame.size) for frame in source.frames)
