"""Write predictions for `surgicalsam evaluate --predictions`: a folder per sequence with an indexed PNG per frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from surgicalsam_napari.exchange.formats.indexed_png import write_classes, write_label_map
from surgicalsam_training.data.training_data import TrainingData


def write_predictions(
    folder: Path, data: TrainingData, predictions: Iterable[tuple[int, np.ndarray]]
) -> Iterator[tuple[int, np.ndarray]]:
    """Write each prediction, then yield it: `<folder>/<sequence>/frame_00012.png`, and `classes.json` in the folder.

    Raises
    ------
    ExchangeError, DiskSpaceError
        the folder cannot be written
    """
    sequences = list(dict.fromkeys(frame.sequence for frame in data.frames))
    write_classes(folder, data.classes, sequences[0] if len(sequences) == 1 else f"{len(sequences)} sequences")
    for example_index, label_map in predictions:
        frame = data.frames[example_index]
        write_label_map(folder / sequence_folder(frame.sequence), frame.frame_index, label_map, data.classes)
        yield example_index, label_map


def sequence_folder(sequence: str) -> PurePosixPath:
    """A relative folder; sequences with equal names in several sources are in folders of their sources."""
    parts = [part for part in PurePosixPath(sequence.replace("\\", "/")).parts if part not in ("/", "..")]
    return PurePosixPath(*[part.replace(":", "-") for part in parts])
