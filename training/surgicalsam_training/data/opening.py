"""Which kind of training data lies at a path, and whether two paths are the same data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from surgicalsam_napari.errors import ExchangeError, SurgicalSAMError, TrainingError
from surgicalsam_napari.exchange import coco, endovis, endovis2017, endovis2018, indexed_png
from surgicalsam_napari.exchange.dataset import Dataset, open_dataset
from surgicalsam_napari.exchange.files import safe_name
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.store import Project
from surgicalsam_napari.store.manifest import MANIFEST
from surgicalsam_napari.store.project import SUFFIX
from surgicalsam_napari.video import is_video
from surgicalsam_training.data.dataset_source import DatasetSource
from surgicalsam_training.data.processed_endovis import (
    ProcessedEndovisSource,
    class_set_by_name,
    is_processed_endovis,
    unnamed_classes_message,
)
from surgicalsam_training.data.project_source import ProjectSource
from surgicalsam_training.data.source import AnnotatedFrame, Source

KINDS = (
    "a project (*.surgicalsam, or the video it belongs to), an exported dataset with pictures, or the authors' processed "
    "EndoVis folder (train/0/sam_features_h, or 0/sam_features_h)"
)


def open_sources(paths: Sequence[Path], trust: str, seed: int) -> list[Source]:
    """Open all, or none.

    Raises
    ------
    TrainingError, ProjectError, ExchangeError
        a path is none of the kinds, damaged, or the same data as another
    """
    if not paths:
        raise TrainingError(f"A training needs data: {KINDS}. Name some.")
    with ExitStack() as opened:
        sources: list[Source] = []
        for path in paths:
            source = open_source(Path(path).expanduser().absolute(), trust, seed)
            opened.callback(source.close)
            for other in sources:
                if _is_the_same(source, other):
                    raise TrainingError(
                        f"{source.path} and {other.path} are the same video: its frames would count twice, and could be in "
                        "training and validation at once. Leave out one of them."
                    )
            sources.append(source)
        opened.pop_all()
    return sources


def open_source(path: Path, trust: str, seed: int) -> Source:
    if not path.exists():
        raise TrainingError(f"{path} does not exist. Training data are {KINDS}.")
    if (path / MANIFEST).exists() or path.suffix == SUFFIX:
        return ProjectSource(path, trust, seed)
    if is_video(path) and (Project.default_folder(path) / MANIFEST).exists():
        return ProjectSource(Project.default_folder(path), trust, seed)
    if is_processed_endovis(path):
        return ProcessedEndovisSource(path)
    if path.is_file() and is_video(path):
        raise TrainingError(
            f"{path} has no project beside it ({Project.default_folder(path).name}). Open the video in the window and "
            "correct some frames, or import labels (`surgicalsam import`)."
        )
    if not any(reader.recognizes(path) for reader in (coco, endovis2017, endovis2018, endovis, indexed_png)):
        raise TrainingError(f"{path} is none of what training can read: {KINDS}. Choose one of these.")
    return DatasetSource(_dataset(path), seed)


def _dataset(path: Path) -> Dataset:
    classes = class_set_by_name(path)
    try:
        return open_dataset(path, classes=classes)
    except ExchangeError as error:
        if classes is None and _opens_with_classes(path):
            raise TrainingError(unnamed_classes_message(path)) from error
        raise


def _opens_with_classes(path: Path) -> bool:
    try:
        open_dataset(path, classes=ENDOVIS2018)
    except ExchangeError:
        return False
    return True


def _is_the_same(source: Source, other: Source) -> bool:
    """The same video or folder; or frames of one name and number with equal pictures, as in an export of a project."""
    if source.identity == other.identity:
        return True
    for place, counterpart in _of_one_name(source, other):
        try:
            first, second = source.image(place), other.image(counterpart)
        except SurgicalSAMError:  # a video that is gone cannot be compared
            return False
        return first is not None and second is not None and np.array_equal(first, second)  # one pair tells
    return False


def _of_one_name(source: Source, other: Source) -> Iterator[tuple[int, int]]:
    def key(frame: AnnotatedFrame) -> tuple:
        return safe_name(frame.sequence).casefold(), frame.position, frame.size  # an export's sequence has a safe name

    places = {key(frame): place for place, frame in enumerate(other.frames)}
    for place, frame in enumerate(source.frames):
        if key(frame) in places:
            yield place, places[key(frame)]
