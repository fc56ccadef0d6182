"""Cells of the tables: a training and its scores, both stored on disk so that nothing is computed twice."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path

from surgicalsam_napari.errors import TrainingError
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_training.config import TrainingConfig
from surgicalsam_training.experiments.scoring import OpenedData, ProtocolMetrics, kept_metrics, opened_data
from surgicalsam_training.experiments.stage import Stage
from surgicalsam_training.loop.ablation import load_trained
from surgicalsam_training.loop.trainer import train
from surgicalsam_training.reports import EpochReport, PreparationReport
from surgicalsam_training.run.run_folder import RunFolder
from surgicalsam_training.scoring.protocol import Answers, EvaluationProtocol, answers_of_model, predict_classes

RESULT_INDEPENDENT = {"device", "micro_batch_size"}  # settings that only change speed and memory


def cell_name(config: TrainingConfig) -> str:
    """The folder name of a cell, unique within one output folder."""
    parts = ["+".join(path.stem for path in config.data), f"n{config.tokens_per_class}", config.prototypes]
    parts += [f"without-{part}" for part in ("dense", "sparse") if not getattr(config, f"{part}_prompts")]
    parts += ["without-marks"] * (not config.marks) + ["from-file"] * (config.prototypes_file is not None)
    return "-".join([*parts, f"seed{config.seed}"])


def trained_cell(cells: Path, config: TrainingConfig) -> Generator[Stage, None, RunFolder]:
    """Train, resume a stopped training, or use a finished one.

    Parameters
    ----------
    cells : the folder of trainings

    Raises
    ------
    TrainingError
        a cell of this name was trained with other settings, or the training cannot run
    CheckpointError, DeviceError, DiskSpaceError, ProjectError, ExchangeError
    """
    name = cell_name(config)
    folder = cells / name
    if (folder / "result.json").exists():
        run = RunFolder.open(folder)
        _check_settings(run, config)
        return run
    run = RunFolder.create(folder, config)
    with closing(train(run)) as reports:
        for report in reports:
            if isinstance(report, PreparationReport) and report.total > 1:
                yield Stage(f"{name}: {report.phase}", report.done, report.total)
            elif isinstance(report, EpochReport):
                yield Stage(f"{name}: training", report.done, report.total)
    return run


def _check_settings(run: RunFolder, config: TrainingConfig) -> None:
    trained, current = run.config.model_dump(mode="json"), config.model_dump(mode="json")
    changed = [name for name in trained if name not in RESULT_INDEPENDENT and trained[name] != current[name]]
    if changed:
        name = changed[0]
        raise TrainingError(
            f"{run.path} was trained with other settings ({name}: {trained[name]!r} there, {current[name]!r} now). "
            "Choose another folder (--out), or use the settings of that training."
        )


def scored_cell(cells: Path, config: TrainingConfig) -> Generator[Stage, None, ProtocolMetrics]:
    """Train a cell if necessary, and score it on the validation frames of its own data."""
    run = yield from trained_cell(cells, config)
    model = cell_model(run)
    with opened_data(config, model.classes) as opened:
        run.check_data(opened.data.fingerprints())
        return (yield from cell_metrics(run, model, opened, "validation"))


def cell_metrics(
    run: RunFolder, model: SurgicalSAM, opened: OpenedData, name: str, class_ids: Sequence[int] | None = None
) -> Generator[Stage, None, ProtocolMetrics]:
    """The scores of a cell's model on validation frames, stored in the cell's folder under this name.

    Parameters
    ----------
    class_ids : the classes of the protocol "every class"; None for all classes of the model
    """
    data, example_indices = opened.data, opened.validation
    if data.missing_embeddings(example_indices, 0, model):
        model = cell_model(run, load_image_encoder=True)

    def answers() -> Answers:
        predictions = dict(answers_of_model(model, data, example_indices))
        if class_ids is not None:
            predictions[EvaluationProtocol.EVERY] = predict_classes(
                model, data, example_indices, lambda example_index: class_ids, gate=True
            )
        return predictions

    began = run.record["environment"]["began"]  # an earlier training in the same folder has another start
    file = run.path / "scores" / f"{name}.json"
    return (yield from kept_metrics(file, run.path.name, model, data, example_indices, answers, training=began))


def cell_model(run: RunFolder, *, load_image_encoder: bool = False) -> SurgicalSAM:
    """The best model of a cell; by default without the large image encoder, because the frames are already embedded."""
    config = run.config
    return load_trained(
        run.best_checkpoint,
        encoder_weights=config.encoder_weights,
        device=config.device,
        load_image_encoder=load_image_encoder,
    )
