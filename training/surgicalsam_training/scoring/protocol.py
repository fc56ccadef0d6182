"""Evaluation protocols: which classes are prompted in a frame, and how predictions are scored.

The paper prompts only the classes that are in a frame, so no absent class can get a mask. In use, every class is prompted
in every frame, and the model must decide which classes are present. A predictor is any generator `(..., example_indices,
asked)` of (example index, label map); `score` scores its output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum

import numpy as np
import torch

from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.surgical_sam import SurgicalSAM, fallback_presence
from surgicalsam_napari.model.upsampling import label_map_of
from surgicalsam_training.data.training_data import TrainingData
from surgicalsam_training.scoring.metrics import Metrics, Pair, evaluate_label_maps

Asked = Callable[[int], Sequence[int]]  # example index -> ids of the classes to prompt in that frame

BATCH_SIZES = {"cpu": 1}  # frames decoded at a time
LARGEST_BATCH = 16


class EvaluationProtocol(StrEnum):
    """Which classes are prompted in a frame: as in the paper's tables, or as in use."""

    PRESENT = "present classes prompted"
    EVERY = "every class prompted"


Answers = Mapping[EvaluationProtocol, Iterator[tuple[int, np.ndarray]]]  # by protocol, example indices and label maps


def present_classes(data: TrainingData) -> Asked:
    """The paper's protocol: only the classes in the frame are prompted; presence should not gate the masks."""
    return data.present_class_ids


def every_class(model: SurgicalSAM, data: TrainingData) -> Asked:
    """The protocol of use: the `known_classes` are prompted in every frame; presence decides."""
    class_ids = known_classes(model, data)
    return lambda example_index: class_ids


def known_classes(model: SurgicalSAM, data: TrainingData) -> tuple[int, ...]:
    """The classes that are annotated in the data and that the model knows; ids are the same in both.

    Other classes of the model are not asked for: they would take pixels, and nothing could tell whether they are right.
    """
    annotated = data.annotated_class_ids
    return tuple(class_id for class_id in data.classes.ids if class_id in annotated and class_id in model.classes.ids)


def score(data: TrainingData, predictions: Iterable[tuple[int, np.ndarray]]) -> Metrics:
    """Score label maps against the data.

    Parameters
    ----------
    predictions : example index, and its label map: (H, W) uint8, class ids of the data
    """
    return evaluate_label_maps(_pairs(data, predictions), data.classes.ids)


def predict_classes(
    model: SurgicalSAM, data: TrainingData, example_indices: Sequence[int], asked: Asked, *, gate: bool
) -> Iterator[tuple[int, np.ndarray]]:
    """Predict with SurgicalSAM; the embeddings of the frames must exist (`TrainingData.embed`).

    Parameters
    ----------
    asked : the classes to prompt; a class that the model does not know gets no mask
    gate : True as in use: masks only of classes that the model finds present, and the highest logit wins where they
        overlap. False as in the authors' code: masks of every prompted class, painted by ascending predicted IoU

    Yields
    ------
    example index, and its label map (H, W) uint8
    """
    known = set(known_classes(model, data))
    for batch in batches(model, example_indices):
        wanted = [[class_id for class_id in asked(example_index) if class_id in known] for example_index in batch]
        class_ids = list(dict.fromkeys(class_id for ids in wanted for class_id in ids))
        if not class_ids:
            yield from ((example_index, np.zeros(data.frames[example_index].size, np.uint8)) for example_index in batch)
            continue
        decoded = model.decode(torch.from_numpy(data.embeddings(batch, 0, model)), class_ids)
        quality = decoded.predicted_iou.float().cpu().numpy()
        presence = fallback_presence(decoded) if decoded.presence is None else decoded.presence
        given = (presence >= model.presence_threshold).cpu().numpy() | (not gate)
        for row, (example_index, ids) in enumerate(zip(batch, wanted, strict=True)):
            columns = [column for column, class_id in enumerate(class_ids) if class_id in ids and given[row, column]]
            geometry = FrameGeometry(data.frames[example_index].size, model.input_size)
            given_ids = [class_ids[column] for column in columns]
            yield (
                example_index,
                label_map_of(
                    decoded.low_res_logits[row, columns], given_ids, geometry, None if gate else quality[row, columns]
                ),
            )


def answers_of_model(model: SurgicalSAM, data: TrainingData, example_indices: Sequence[int]) -> Answers:
    """The predictions of SurgicalSAM under both protocols."""
    present = predict_classes(model, data, example_indices, present_classes(data), gate=False)
    return {
        EvaluationProtocol.PRESENT: present,
        EvaluationProtocol.EVERY: predict_classes(model, data, example_indices, every_class(model, data), gate=True),
    }


def without_absent_classes(
    data: TrainingData, predictions: Iterable[tuple[int, np.ndarray]]
) -> Iterator[tuple[int, np.ndarray]]:
    """The same label maps, with 0 instead of classes that are not in the frame.

    For a system without prompts this is the closest equivalent to prompting only the present classes.
    """
    for example_index, label_map in predictions:
        kept = np.zeros(256, np.uint8)
        kept[list(data.present_class_ids(example_index))] = data.present_class_ids(example_index)
        yield example_index, kept[label_map]


def batches(model: SurgicalSAM, example_indices: Sequence[int]) -> Iterator[list[int]]:
    """The examples in batches of a size that suits the model's device."""
    size = BATCH_SIZES.get(model.device.type, LARGEST_BATCH)
    for start in range(0, len(example_indices), size):
        yield list(example_indices[start : start + size])


def _pairs(data: TrainingData, predictions: Iterable[tuple[int, np.ndarray]]) -> Iterator[Pair]:
    """Prediction and truth of each frame, without the classes that are not annotated in it."""
    for example_index, label_map in predictions:
        known = data.known_class_ids(example_index)
        kept = np.zeros(256, np.uint8)
        kept[list(known)] = list(known)
        yield kept[label_map], kept[data.label_map(example_index)], known
