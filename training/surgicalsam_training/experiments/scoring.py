"""Scores with both protocols, stored on disk so that nothing is predicted twice."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from surgicalsam_napari.errors import TrainingError
from surgicalsam_napari.exchange.files import write_file
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.untrusted import read_json
from surgicalsam_training.config import TrainingConfig
from surgicalsam_training.data.opening import dataset_options
from surgicalsam_training.data.split import split_frames
from surgicalsam_training.data.training_data import TrainingData, open_training_data
from surgicalsam_training.experiments.stage import Stage
from surgicalsam_training.scoring.evaluate import embed_missing
from surgicalsam_training.scoring.metrics import Metrics
from surgicalsam_training.scoring.protocol import Answers, EvaluationProtocol, score

ProtocolMetrics = dict[EvaluationProtocol, Metrics]


@dataclass(frozen=True)
class OpenedData:
    """A dataset with its training and validation frames, as indices into `data.frames`."""

    data: TrainingData
    training: tuple[int, ...]
    validation: tuple[int, ...]


@contextmanager
def opened_data(
    config: TrainingConfig, base: ClassSet | None, names: Sequence[str] | None = None, ignored: Sequence[str] = ()
) -> Iterator[OpenedData]:
    """The data of a configuration, with the split of its training.

    Parameters
    ----------
    base : the classes of the scored model
    names : of the classes to score; None for those of the configuration
    ignored : names of further classes that count as background

    Raises
    ------
    TrainingError, ExchangeError, ProjectError
        the data cannot be read, or have no validation frame
    """
    data = open_training_data(
        config.data,
        base=base,
        trust=config.trust,
        classes=config.classes if names is None else names,
        ignored_classes=(*config.ignored_classes, *ignored),
        seed=config.seed,
        datasets=dataset_options(config),
    )
    with closing(data):
        split = split_frames(data, validation=config.validation, validation_share=config.validation_share, seed=config.seed)
        if not split.validation:
            raise TrainingError(
                f"An experiment is scored on validation frames; {config.data[0].name} has none. "
                "Name sequences (--set validation=[2,5]), or a share (--set validation_share=0.2)."
            )
        yield OpenedData(data, split.training, split.validation)


def kept_metrics(
    file: Path,
    title: str,
    model: SurgicalSAM,
    data: TrainingData,
    example_indices: Sequence[int],
    answers: Callable[[], Answers],
    **depends_on: Any,
) -> Generator[Stage, None, ProtocolMetrics]:
    """Score predictions with both protocols; scores that the file has for the same labels and frames are used again.

    Parameters
    ----------
    title : of the stages
    model : computes missing embeddings of the frames
    answers : called only if the scores are not stored
    depends_on : further inputs of the scores, as plain JSON
    """
    inputs = {
        "data": data.fingerprints(),
        "classes": list(data.classes.names),
        "frames": [data.frames[example_index].name for example_index in example_indices],
        **depends_on,
    }
    kept = _read(file)
    if all(kept.get(key) == value for key, value in inputs.items()):
        return {protocol: _metrics(kept["scores"][protocol.value]) for protocol in EvaluationProtocol}
    for report in embed_missing(model, data, example_indices):
        yield Stage(f"{title}: embedding frames", report.done, report.total)
    metrics_by_protocol = {}
    for protocol, predictions in answers().items():
        label_maps = list[tuple[int, np.ndarray]]()
        for done, prediction in enumerate(predictions, 1):
            label_maps.append(prediction)
            yield Stage(f"{title}: {protocol}", done, len(example_indices))
        metrics_by_protocol[protocol] = score(data, label_maps)
    record = {**inputs, "scores": {protocol.value: _plain(metrics) for protocol, metrics in metrics_by_protocol.items()}}
    write_file(file, (json.dumps(record, indent=1) + "\n").encode())
    return metrics_by_protocol


def _plain(metrics: Metrics) -> dict[str, Any]:
    """The record for JSON: null for NaN, text for class ids."""
    record = asdict(metrics)
    by_class = {str(class_id): _or_none(iou) for class_id, iou in record.pop("class_iou").items()}
    return {**{name: _or_none(value) for name, value in record.items()}, "class_iou": by_class}


def _metrics(record: dict[str, Any]) -> Metrics:
    """The inverse of `_plain`."""
    by_class = {int(class_id): _or_nan(iou) for class_id, iou in record["class_iou"].items()}
    other: dict[str, Any] = {name: _or_nan(value) for name, value in record.items() if name != "class_iou"}
    return Metrics(**other, class_iou=by_class)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except (FileNotFoundError, ValueError):
        return {}
