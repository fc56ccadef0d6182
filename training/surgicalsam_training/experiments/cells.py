"""A cell of a table is a training and its scores; both are kept on disk, so that nothing is computed twice."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from surgicalsam_napari.errors import TrainingError
from surgicalsam_napari.exchange.files import write_file
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_training.config import TrainingConfig
from surgicalsam_training.data.split import split_frames
from surgicalsam_training.data.training_data import TrainingData, open_training_data
from surgicalsam_training.evaluate import scores
from surgicalsam_training.experiments.ablated import load_trained
from surgicalsam_training.experiments.setting import Stage
from surgicalsam_training.protocol import Protocol, every_class, predict_classes, present_classes, score
from surgicalsam_training.reports import EpochReport, PreparationReport, Scores
from surgicalsam_training.run_folder import RunFolder
from surgicalsam_training.trainer import train

NO_PART_OF_A_RESULT = {"device", "micro_batch_size"}  # settings that change speed and memory only

ProtocolScores = dict[Protocol, Scores]


@dataclass(frozen=True)
class OpenedData:
    """A dataset as a model of its own classes sees it, and the frames to score on."""

    data: TrainingData
    frames: tuple[int, ...]


def cell_name(config: TrainingConfig) -> str:
    """What tells the cells of one output folder apart, as the name of a folder."""
    parts = ["+".join(path.stem for path in config.data), f"n{config.tokens_per_class}", config.prototypes]
    parts += [f"without-{part}" for part in ("dense", "sparse") if not getattr(config, f"{part}_prompts")]
    parts += ["without-marks"] * (not config.marks)
    return "-".join([*parts, f"seed{config.seed}"])


def trained_cell(cells: Path, config: TrainingConfig) -> Generator[Stage, None, RunFolder]:
    """Train, go on with a training that was stopped, or take one that is finished.

    Raises
    ------
    TrainingError
        a cell of this name was trained with other settings, or the training is not possible
    CheckpointError, DeviceError, DiskSpaceError, ProjectError, ExchangeError
    """
    name = cell_name(config)
    place = cells / name
    if (place / "result.json").exists():
        run = RunFolder.open(place)
        _check_settings(run, config)
        return run
    run = RunFolder.create(place, config)
    with closing(train(run)) as reports:
        for report in reports:
            if isinstance(report, PreparationReport) and report.total > 1:
                yield Stage(f"{name}: {report.phase}", report.done, report.total)
            elif isinstance(report, EpochReport):
                yield Stage(f"{name}: training", report.done, report.total)
    return run


def _check_settings(run: RunFolder, config: TrainingConfig) -> None:
    there, here = run.config.model_dump(mode="json"), config.model_dump(mode="json")
    other = [name for name in there if name not in NO_PART_OF_A_RESULT and there[name] != here[name]]
    if other:
        raise TrainingError(
            f"{run.path} was trained with other settings ({other[0]}: {there[other[0]]!r} there, {here[other[0]]!r} here). "
            "Choose another folder (--out), or the settings it was made with."
        )


@contextmanager
def opened_data(
    model: SurgicalSAM, config: TrainingConfig, classes: Sequence[str] | None = None, ignored: Sequence[str] = ()
) -> Iterator[OpenedData]:
    """The validation frames of a configuration's data, in the model's class ids.

    Parameters
    ----------
    classes : names of those that count; None for all of the model's and the data's
    ignored : names that count as background
    """
    data = open_training_data(
        config.data,
        base=model.classes,
        trust=config.trust,
        classes=config.classes if classes is None else classes,
        ignored_classes=(*config.ignored_classes, *ignored),
        seed=config.seed,
    )
    with closing(data):
        split = split_frames(data, validation=config.validation, validation_share=config.validation_share, seed=config.seed)
        if not split.validation:
            raise TrainingError(
                f"The scores of an experiment are those of validation frames, and {config.data[0].name} has none. "
                "Name sequences (--set validation=[2, 5]), or a share (--set validation_share=0.2)."
            )
        yield OpenedData(data, split.validation)


def scored_cell(run: RunFolder, config: TrainingConfig) -> Generator[Stage, None, ProtocolScores]:
    """The scores of a cell on the validation frames of its own data."""
    model = cell_model(run, config.device)
    with opened_data(model, config) as opened:
        run.check_data(opened.data.fingerprints())
        return (yield from scored(run, model, opened, "validation"))


def cell_model(run: RunFolder, device: str) -> SurgicalSAM:
    """The best model of a cell, without the image encoder where that is not part of the checkpoint."""
    return load_trained(
        run.best_checkpoint, encoder_weights=run.config.encoder_weights, device=device, load_image_encoder=False
    )


def scored(run: RunFolder, model: SurgicalSAM, opened: OpenedData, name: str) -> Generator[Stage, None, ProtocolScores]:
    """Scores under both protocols; kept in the run's folder under this name, and taken from there."""
    data, frames = opened.data, opened.frames
    told: dict[str, Any] = {
        "data": data.fingerprints(),
        "classes": list(data.classes.names),
        "frames": [data.frames[index].name for index in frames],
        "checkpoint": _checkpoint_time(run),
    }
    file = run.path / "scores" / f"{name}.json"
    kept = _read_json(file)
    if all(kept.get(key) == value for key, value in told.items()):
        return {protocol: Scores(**kept["scores"][protocol.value]) for protocol in Protocol}
    missing = data.missing_embeddings(frames, 0, model)
    for done in data.embed(missing, 0, model) if missing else ():
        yield Stage(f"{run.path.name}: embedding frames", done, len(missing))
    found = {}
    for protocol in Protocol:
        asked = present_classes(data) if protocol is Protocol.PRESENT else every_class(model, data)
        predictions = predict_classes(model, data, frames, asked, gate=protocol is Protocol.EVERY)
        told_predictions: list[tuple[int, np.ndarray]] = []
        for done, prediction in enumerate(predictions, 1):
            told_predictions.append(prediction)
            yield Stage(f"{run.path.name}: {protocol.value}", done, len(frames))
        found[protocol] = scores(score(data, told_predictions), data)
    record = {**told, "scores": {protocol.value: asdict(one) for protocol, one in found.items()}}
    write_file(file, (json.dumps(record, indent=1) + "\n").encode())
    return found


def _checkpoint_time(run: RunFolder) -> str:
    """Tells the run's result from that of another training in the same place."""
    return str(run.record["environment"]["began"])


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
