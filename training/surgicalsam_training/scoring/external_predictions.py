"""Masks that another system made, matched to annotated frames by sequence and frame.

The files are label maps (one per frame) or masks (one per frame and class). They are in folders per sequence, or their names
begin with the sequence::

    <sequence>/<frame>.png                  class ids, grey or indexed
    <sequence>/<frame>_class<c>.png         0 and 1, or 0 and 255
    <sequence>_<frame>.png                  as EndoVis 2018 is distributed
    <frame>.png                             if the data have one sequence

Other folders in the path, such as `binary_annotations`, are ignored. A `classes.json` in the folder defines the class ids.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from surgicalsam_napari.errors import TrainingError
from surgicalsam_napari.exchange.files import LABEL_SUFFIXES, UNREADABLE, image_size, read_labels
from surgicalsam_napari.exchange.frame_names import read_frame_name
from surgicalsam_napari.exchange.sidecar import read_sidecar
from surgicalsam_napari.instruments import ClassSet, plain
from surgicalsam_napari.store.label_maps import present_ids
from surgicalsam_training.data.split import sequence_number
from surgicalsam_training.data.training_data import TrainingData
from surgicalsam_training.scoring.protocol import Answers, EvaluationProtocol, without_absent_classes

_MASK = re.compile(r"(.+)_class(\d+)(?:_inst\d+)?")
_PICTURES = {"images", "left_frames", "right_frames"}  # folders of a dataset that contain no labels
_LABELS = {"annotations", "binary_annotations", "labels", "masks", "predictions", "ground_truth", "0", "train", "val"}
SHOWN = 5  # names in a message


@dataclass(frozen=True)
class ExternalPredictions:
    """The files of a folder, by frame; made by `find_predictions`.

    Attributes
    ----------
    label_maps : by example index; empty if the files are masks
    masks : by example index, (class id of the data, file); several files of one class are its instances
    lookup : (256,) int, value in a label map -> class id of the data, -1 for an unknown value
    notes : sentences for the user: missing and unused files
    """

    folder: Path
    label_maps: dict[int, Path]
    masks: dict[int, list[tuple[int, Path]]]
    lookup: np.ndarray = field(repr=False)
    notes: tuple[str, ...]


def find_predictions(
    folder: Path, data: TrainingData, example_indices: Sequence[int], classes: ClassSet | None = None
) -> ExternalPredictions:
    """List a folder of predictions and check names, completeness and sizes.

    Parameters
    ----------
    example_indices : examples to score
    classes : class set of the files if they have no `classes.json`; None for that of the data

    Raises
    ------
    TrainingError
        no file fits, label maps and masks are mixed, a frame has no label map or two, or a file has another size
    """
    folder = folder.expanduser().absolute()
    if not folder.is_dir():
        raise TrainingError(f"{folder} should be a folder of predicted masks, but there is none. Check the path.")
    sidecar = read_sidecar(folder)
    lookup = _lookup(classes if sidecar is None else sidecar.classes, data)
    files = [path for path in sorted(folder.rglob("*")) if _is_prediction(path, folder)]
    are_masks = _are_masks(folder, files)
    paths_by_example, notes = _by_frame(folder, files, data, example_indices)
    missing = [example_index for example_index in example_indices if example_index not in paths_by_example]
    if not are_masks:
        return ExternalPredictions(folder, _one_each(folder, data, paths_by_example, missing), {}, lookup, notes)
    _check_sequences(folder, data, paths_by_example, missing)
    if missing:
        notes += (f"{len(missing)} frames have no mask and count as predicted empty ({_names(data, missing)}).",)
    notes += ("Where masks of two classes overlap, the higher id is used.",)
    masks = {
        example_index: [(_class_id(path, lookup, data), path) for path in paths]
        for example_index, paths in paths_by_example.items()
    }
    return ExternalPredictions(folder, {}, masks, lookup, notes)


def read_predictions(
    predictions: ExternalPredictions, data: TrainingData, example_indices: Sequence[int]
) -> Iterator[tuple[int, np.ndarray]]:
    """Read the files of some frames.

    Yields
    ------
    example index, and its label map (H, W) uint8, class ids of the data

    Raises
    ------
    TrainingError, ExchangeError
        a file is damaged, is a colour picture, has another size, or has a value that is no class
    """
    for example_index in example_indices:
        if predictions.masks:
            yield example_index, _merged(predictions, data, example_index)
            continue
        path = predictions.label_maps[example_index]
        label_map = predictions.lookup[_read(path, data, example_index)]
        if (label_map < 0).any():
            unknown = min(set(present_ids(_read(path, data, example_index))) - _known(predictions.lookup))
            raise TrainingError(f"{path} has the value {unknown}; {_ids(predictions.lookup, data)}")
        yield example_index, label_map.astype(np.uint8)


def answers_of_files(predictions: ExternalPredictions, data: TrainingData, example_indices: Sequence[int]) -> Answers:
    """Both protocols: the files unchanged, and without absent classes, as if only present classes were prompted."""
    present = without_absent_classes(data, read_predictions(predictions, data, example_indices))
    return {
        EvaluationProtocol.PRESENT: present,
        EvaluationProtocol.EVERY: read_predictions(predictions, data, example_indices),
    }


# Match files to frames ----------------------------------------------------------------------------------------------


class _Finder:
    """Finds the example of a file; a folder or the beginning of the file name gives the sequence."""

    def __init__(self, data: TrainingData, example_indices: Sequence[int]) -> None:
        self._examples: dict[tuple[str, int], int] = {}  # example index by sequence and frame index
        for example_index in example_indices:
            frame = data.frames[example_index]
            self._examples[frame.sequence, frame.frame_index] = example_index
        sequences = list(dict.fromkeys(data.frames[example_index].sequence for example_index in example_indices))
        self._by_name: dict[str, list[str]] = {}
        self._by_number: dict[int, list[str]] = {}
        for sequence in sequences:
            for name in {sequence.casefold(), sequence.rpartition("/")[2].casefold()}:
                self._by_name.setdefault(name, []).append(sequence)
            number = sequence_number(sequence)
            if number is not None:
                self._by_number.setdefault(number, []).append(sequence)
        self._only = sequences[0] if len(sequences) == 1 else None

    def example_index(self, path: Path) -> int | None:
        """The example of a file (path relative to the folder of predictions); None without a match."""
        mask = _MASK.fullmatch(path.stem)
        stem = path.stem if mask is None else mask[1]
        frame = read_frame_name(stem)
        if frame is None:
            return None
        sequence = self._sequence(frame.video, path.parent.parts)
        return None if sequence is None else self._examples.get((sequence, frame.number))

    def _sequence(self, video: str, folders: tuple[str, ...]) -> str | None:
        candidates = [name for name in (video, *reversed(folders)) if name]
        for name in candidates:
            if len(named := self._by_name.get(name.casefold(), [])) == 1:
                return named[0]
        for name in candidates:
            number = sequence_number(name)
            if number is not None and re.fullmatch(r"(?i)(?:seq|instrument).*|[1-9]\d*", name):
                numbered = self._by_number.get(number, [])
                return numbered[0] if len(numbered) == 1 else None
        return self._only if set(folders) <= _LABELS else None


def _by_frame(
    folder: Path, files: Sequence[Path], data: TrainingData, example_indices: Sequence[int]
) -> tuple[dict[int, list[Path]], tuple[str, ...]]:
    """The files of each frame, with checked sizes; and a note on files of other frames."""
    finder = _Finder(data, example_indices)
    paths_by_example: dict[int, list[Path]] = {}
    others = []
    for path in files:
        example_index = finder.example_index(path.relative_to(folder))
        if example_index is None:
            others.append(path)
        else:
            paths_by_example.setdefault(example_index, []).append(path)
            _check_size(data, example_index, path)
    if not paths_by_example:
        raise TrainingError(_nothing_fits(folder, data, example_indices, files))
    if not others:
        return paths_by_example, ()
    first = others[0].relative_to(folder)
    return paths_by_example, (
        f"{len(others)} files belong to no frame that is scored and are ignored (the first is {first}).",
    )


def _is_prediction(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts
    is_hidden = any(part.startswith(".") for part in parts)
    return path.suffix.lower() in LABEL_SUFFIXES and not is_hidden and not _PICTURES & set(parts[:-1]) and path.is_file()


# Errors --------------------------------------------------------------------------------------------------------------


def _are_masks(folder: Path, files: Sequence[Path]) -> bool:
    """Whether the files are masks per class, rather than label maps."""
    is_mask = [_MASK.fullmatch(path.stem) is not None for path in files]
    if any(is_mask) and not all(is_mask):
        mask, label_map = (files[is_mask.index(kind)].relative_to(folder) for kind in (True, False))
        raise TrainingError(
            f"{folder} holds masks per class ({mask}) and label maps ({label_map}). Choose a folder with one kind of files."
        )
    return any(is_mask)


def _nothing_fits(folder: Path, data: TrainingData, example_indices: Sequence[int], files: Sequence[Path]) -> str:
    first = data.frames[example_indices[0]]
    content = f"its first file is {files[0].relative_to(folder)}" if files else "it holds no png, bmp or tif"
    return (
        f"{folder} should hold predictions named like {first.name}.png or {first.name}_class1.png, but {content}. "
        "Rename them like the sequences and frames of the data."
    )


def _check_sequences(
    folder: Path, data: TrainingData, paths_by_example: dict[int, list[Path]], missing: Sequence[int]
) -> None:
    """Raise an error for a sequence without any mask: it was probably forgotten, not predicted empty."""
    given_sequences = {data.frames[example_index].sequence for example_index in paths_by_example}
    without = sorted({data.frames[example_index].sequence for example_index in missing} - given_sequences)
    if without:
        raise TrainingError(
            f"{folder} has no mask for any frame of {', '.join(without)}. Add its masks, or score only the other sequences."
        )


def _one_each(
    folder: Path, data: TrainingData, paths_by_example: dict[int, list[Path]], missing: Sequence[int]
) -> dict[int, Path]:
    """The label map of every frame."""
    if missing:
        raise TrainingError(
            f"{folder} has label maps for {len(paths_by_example)} of {len(paths_by_example) + len(missing)} frames, but "
            f"none for {_names(data, missing)}. Add them; a frame without instruments needs a label map of zeros."
        )
    for example_index, paths in paths_by_example.items():
        if len(paths) > 1:
            raise TrainingError(
                f"{data.frames[example_index].name} has two label maps: {paths[0]} and {paths[1]}. Remove one."
            )
    return {example_index: paths[0] for example_index, paths in paths_by_example.items()}


def _check_size(data: TrainingData, example_index: int, path: Path) -> None:
    size = image_size(path)
    if size not in (UNREADABLE, data.frames[example_index].size):
        raise TrainingError(_wrong_size(path, size, data, example_index))


def _wrong_size(path: Path, size: tuple[int, ...], data: TrainingData, example_index: int) -> str:
    height, width = data.frames[example_index].size
    return (
        f"{path} has {size[1]} x {size[0]} pixels, but {data.frames[example_index].name} has {width} x {height}. "
        "Resize the predictions to the frame size (nearest neighbour), without cropping."
    )


def _names(data: TrainingData, example_indices: Sequence[int]) -> str:
    names = ", ".join(data.frames[example_index].name for example_index in example_indices[:SHOWN])
    return names + (f" and {len(example_indices) - SHOWN} more" if len(example_indices) > SHOWN else "")


# Pixels --------------------------------------------------------------------------------------------------------------


def _lookup(classes: ClassSet | None, data: TrainingData) -> np.ndarray:
    """(256,) int16: value -> class id of the data; classes are matched by name."""
    by_name = {plain(instrument.name): instrument.id for instrument in data.classes}
    lookup = np.full(256, -1, np.int16)
    lookup[0] = 0
    for instrument in classes or data.classes:
        lookup[instrument.id] = by_name.get(plain(instrument.name), -1)
    return lookup


def _known(lookup: np.ndarray) -> set[int]:
    return set(np.flatnonzero(lookup >= 0).tolist())


def _ids(lookup: np.ndarray, data: TrainingData) -> str:
    listed = ", ".join(f"{value} {data.classes.by_id(int(lookup[value])).name}" for value in sorted(_known(lookup) - {0}))
    return f"the classes are {listed}. Give the class set of the predictions (--classes, or a classes.json in their folder)."


def _class_id(path: Path, lookup: np.ndarray, data: TrainingData) -> int:
    named = _MASK.fullmatch(path.stem)
    assert named is not None
    value = int(named[2])
    if value not in _known(lookup) - {0}:
        raise TrainingError(f"{path} is of class {value}; {_ids(lookup, data)}")
    return int(lookup[value])


def _read(path: Path, data: TrainingData, example_index: int) -> np.ndarray:
    pixels = read_labels(path, str(path))
    if pixels.shape != data.frames[example_index].size:
        raise TrainingError(_wrong_size(path, pixels.shape, data, example_index))
    return pixels


def _merged(predictions: ExternalPredictions, data: TrainingData, example_index: int) -> np.ndarray:
    """(H, W) uint8; where masks overlap, the higher class id is used."""
    label_map = np.zeros(data.frames[example_index].size, np.uint8)
    for class_id, path in sorted(predictions.masks.get(example_index, [])):
        pixels = _read(path, data, example_index)
        other = set(present_ids(pixels)) - {1, 255}
        if other:
            raise TrainingError(f"{path} has the value {min(other)}; a mask has 0 and 255, or 0 and 1. Threshold it.")
        label_map[pixels > 0] = class_id
    return label_map
