"""Tuning SurgicalSAM on corrected frames: from a run's configuration to its best checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from surgicalsam_napari.errors import TrainingError
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.model.checkpoint import save_checkpoint
from surgicalsam_napari.model.encoders import ENCODERS
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_training.config import TrainingConfig
from surgicalsam_training.data.opening import dataset_options
from surgicalsam_training.data.split import Split, split_frames
from surgicalsam_training.data.training_data import TrainingData, open_training_data
from surgicalsam_training.loop.examples import Examples
from surgicalsam_training.loop.processes import ALONE, Processes
from surgicalsam_training.loop.prompts import PromptLosses
from surgicalsam_training.loop.rehearsal import PhantomRehearsal
from surgicalsam_training.loop.sampling import PromptSampler, augmented_versions, mean_class_embeddings
from surgicalsam_training.loop.steps import set_learning_rate, take_step
from surgicalsam_training.loop.tuning import (
    add_classes,
    blended,
    fix_prototypes,
    has_own_classes,
    known_classes,
    load_tuned_state,
    read_prototypes,
    replace_classes,
    starting_model,
    tuned_state,
    unfreeze,
)
from surgicalsam_training.reports import EpochReport, PreparationReport, Report, ResultReport, Scores, SplitReport
from surgicalsam_training.run.curves import draw_curves
from surgicalsam_training.run.run_folder import RunFolder, environment
from surgicalsam_training.scoring.evaluate import calibrated_threshold, evaluate, scores

SECONDS_BETWEEN_STATES = 30.0  # training time that a kill may lose; saving the state takes a moment


@dataclass
class Progress:
    """How far a run is; stored with weights and optimiser to resume after a stop."""

    epoch: int = 0  # epochs done
    best_score: float | None = None  # validation Challenge IoU, percent
    best_epoch: int = 0
    validations_since_best: int = 0
    seconds: float = 0.0  # training time, summed over all starts of the run
    before: Scores | None = None  # scores of the starting model
    best: Scores | None = None  # scores of the best epoch

    _resumed_at: float = field(default_factory=time.monotonic, repr=False)

    def to_state(self) -> dict[str, Any]:
        """As plain values."""
        record = {key: value for key, value in asdict(self).items() if not key.startswith("_")}
        return {**record, "seconds": self.elapsed}

    @classmethod
    def from_state(cls, record: dict[str, Any]) -> Progress:
        """The inverse of `to_state`."""
        stored = {name: record[name] and Scores(**record[name]) for name in ("before", "best")}
        return cls(**{**record, **stored})

    @property
    def elapsed(self) -> float:
        return self.seconds + time.monotonic() - self._resumed_at


def train(run: RunFolder, processes: Processes = ALONE) -> Generator[Report, None, ResultReport]:
    """Train with the run's configuration; resume a stopped run.

    Yields
    ------
    PreparationReport, SplitReport, then an EpochReport after each epoch, finally a ResultReport, which is also returned.
    After the generator is closed, the run can be resumed. Ignore the reports of processes other than the first.

    Raises
    ------
    TrainingError
        data or configuration do not allow training, another process trains in this folder, or the loss is not a number
    CheckpointError, DeviceError, DiskSpaceError, ProjectError, ExchangeError
        checkpoints written so far are kept
    """
    config = run.config
    with ExitStack() as stack:
        if processes.is_first:
            stack.enter_context(run.held())
        yield PreparationReport("reading labels", 0, 1)
        known = known_classes(config)
        data = open_training_data(
            config.data,
            base=known,
            trust=config.trust,
            classes=config.classes,
            ignored_classes=config.ignored_classes,
            seed=config.seed,
            datasets=dataset_options(config),
        )
        stack.callback(data.close)
        is_own = has_own_classes(data, known)
        if is_own:
            data = data.only([data.classes.by_id(class_id).name for class_id in sorted(data.shown_class_ids)])
            config = config.changed(kept_of_start=0.0, rehearsed_frames=0)  # both keep what the start knows of its classes
        split = split_frames(data, validation=config.validation, validation_share=config.validation_share, seed=config.seed)
        yield _describe(split, data, known if is_own else None)
        run.check_data(data.fingerprints())
        model = starting_model(config, data.classes)
        run.check_encoder(model.encoder_id, model.encoder_digest)
        yield from _embed(run, data, split, model, processes)
        rehearsal = yield from _rehearse(model, data, config)
        result = yield from _tune(run, config, model, data, split, rehearsal, processes, is_own=is_own)
    return result


def _tune(
    run: RunFolder,
    config: TrainingConfig,
    model: SurgicalSAM,
    data: TrainingData,
    split: Split,
    rehearsal: PhantomRehearsal | None,
    processes: Processes,
    *,
    is_own: bool,
) -> Generator[Report, None, ResultReport]:
    """The training loop; `is_own`: the model gets the data's classes instead of its own (`has_own_classes`)."""
    state = run.load_state()
    validation = split.validation if processes.is_first else ()
    examples = Examples(run, data, validation)
    if state is None:
        progress = Progress()
        if processes.is_first:
            yield PreparationReport("scoring the start", 0, 1)
            run.write_record(**_record(run, model, data, split))
            if not is_own:
                progress.before = _evaluate(model, data, validation)
                examples.keep_before(model)
    sampler = PromptSampler(data, split.training, model, config, rehearsal)
    if not sampler.present:
        raise TrainingError("No training frame shows a class to train. Correct frames that show instruments.")
    new = [class_id for class_id in data.classes.ids if is_own or class_id not in model.classes.ids]
    (replace_classes if is_own else add_classes)(model, data.classes, mean_class_embeddings(sampler, new))
    if config.prototypes == "fixed":
        fix_prototypes(model, _fixed_prototypes(model, sampler))
    parameters = unfreeze(model, config)
    start = tuned_state(model)
    optimizer = torch.optim.Adam(parameters, config.learning_rate, weight_decay=config.weight_decay)
    # fixed prototypes have no contrastive loss
    terms_config = config if config.prototypes == "learned" else config.changed(contrastive_weight=0.0)
    losses = processes.wrap(PromptLosses(model, terms_config).to(model.device).train())
    if state is not None:
        progress = Progress.from_state(state["progress"])
        load_tuned_state(model, state["weights"])
        model.presence_threshold = state["presence_threshold"]
        optimizer.load_state_dict(state["optimizer"])
    elif processes.is_first and not new:
        progress.best, progress.best_score = progress.before, _score(progress.before)
        _save_best(run, model, progress)

    if processes.is_first:
        run.forget_metrics_after(progress.epoch)

    reason, saved_at = "all epochs", -math.inf
    while progress.epoch < config.epochs:
        means = dict[str, float]()  # of the loss terms, over the steps so far
        steps = sampler.steps(progress.epoch)
        for step_index, step in enumerate(steps):
            set_learning_rate(optimizer, config, progress.epoch + step_index / len(steps))
            terms = take_step(losses, optimizer, sampler, step, sampler.version(progress.epoch), processes)
            if not math.isfinite(sum(terms.values())):
                raise TrainingError(_not_a_number(terms, progress, config, run))
            means = {name: (means.get(name, 0.0) * step_index + value) / (step_index + 1) for name, value in terms.items()}
            if processes.broadcast(run.is_stop_requested):
                reason = "cancelled"
                break
            if processes.broadcast(_is_time_up(config, progress)):
                reason = "time is up"
                break
        if reason == "cancelled":
            break
        progress.epoch += 1
        is_last = progress.epoch == config.epochs or reason == "time is up"
        if processes.is_first:
            validated = None
            if is_last or progress.epoch % config.validate_every == 0:
                with blended(model, start, config.kept_of_start):
                    model.presence_threshold = calibrated_threshold(model, data, validation)
                    validated = _evaluate(model, data, validation)
                    _keep_if_best(run, model, progress, validated)
            report = _epoch_report(progress, config, means, validated)
            run.append_metrics(report, validated, progress.elapsed, model.presence_threshold)
            if time.monotonic() - saved_at > SECONDS_BETWEEN_STATES or is_last:
                _save_state(run, model, optimizer, progress)
                draw_curves(run)
                saved_at = time.monotonic()
            yield report
        if processes.broadcast(bool(config.patience) and progress.validations_since_best >= (config.patience or 0)):
            reason = "no longer better"
        if reason != "all epochs":
            break

    processes.wait()
    if processes.is_first and not run.best_checkpoint.exists():  # cancelled before the first validation
        with blended(model, start, config.kept_of_start):
            _keep_if_best(run, model, progress, None)
    yield PreparationReport("drawing examples", 0, 1)
    result = ResultReport(
        str(run.best_checkpoint),
        reason,
        progress.best_epoch,
        round(progress.elapsed, 1),
        progress.before,
        progress.best,
        examples.draw() if processes.is_first else (),
    )
    if processes.is_first:
        draw_curves(run)
        run.write_result(result)
        run.last_state.unlink(missing_ok=True)
    yield result
    return result


# Before the first step -----------------------------------------------------------------------------------------------


def _describe(split: Split, data: TrainingData, dropped: ClassSet | None) -> SplitReport:
    """The split for the user; `dropped` are the start's classes if they are left out."""
    warnings = (*data.notes, *split.warnings)
    if dropped is not None:
        warnings = (
            *warnings,
            f"The start knows none of these classes. Its own ({', '.join(dropped.names)}) are left out of the result.",
        )
    frames: dict[str, int] = {}
    for example_index in split.training:
        for class_id in data.present_class_ids(example_index):
            name = data.classes.by_id(class_id).name
            frames[name] = frames.get(name, 0) + 1
    return SplitReport(split.how, len(split.training), len(split.validation), frames, warnings)


def _embed(run: RunFolder, data: TrainingData, split: Split, model: SurgicalSAM, processes: Processes) -> Iterator[Report]:
    """Embed the original frames and the copies that are kept on disk; each process computes its share."""
    config = run.config
    plain = sorted({*split.training, *split.validation})
    wanted = [(0, plain)]
    if config.augmentation == "offline":
        used = min(augmented_versions(data, config), config.epochs // 2)
        wanted += [(version, sorted(split.training)) for version in range(1, used + 1)]
    missing = [(version, data.missing_embeddings(example_indices, version, model)) for version, example_indices in wanted]
    missing = [(version, processes.share(example_indices)) for version, example_indices in missing]
    processes.wait()  # every process lists the missing ones before any process adds new ones
    total, done = sum(len(example_indices) for _, example_indices in missing), 0
    for version, example_indices in missing:
        for _ in data.embed(example_indices, version, model) if example_indices else ():
            done += 1
            yield PreparationReport("embedding frames", done, total)
            if run.is_stop_requested:
                raise TrainingError(
                    "The run was stopped before training began. Embeddings are kept; start it again to resume."
                )
    processes.wait()
    is_kept = config.augmentation == "online" or ENCODERS[model.encoder_id].weights is None
    if not is_kept:  # it is not part of the checkpoint and would use GPU memory
        model.image_encoder = None


def _rehearse(
    model: SurgicalSAM, data: TrainingData, config: TrainingConfig
) -> Generator[Report, None, PhantomRehearsal | None]:
    """Synthetic frames for a model on the bundled encoder, which was trained on them; None for other models."""
    if not config.rehearsed_frames or not ENCODERS[model.encoder_id].is_bundled or config.encoder is not None:
        return None
    rehearsal = PhantomRehearsal(config.rehearsed_frames, data.classes)
    for done in rehearsal.prepare(model):
        yield PreparationReport("making synthetic frames", done, config.rehearsed_frames)
    return rehearsal


def _fixed_prototypes(model: SurgicalSAM, sampler: PromptSampler) -> dict[int, Tensor]:
    """By class id, the prototypes of the file, or the mean class embeddings of all training frames (paper, section 4.4)."""
    file = sampler.config.prototypes_file
    if file is not None:
        return read_prototypes(file, model.classes, model.decoder_dim)
    return mean_class_embeddings(sampler, model.classes.ids, most_frames=None)


def _record(run: RunFolder, model: SurgicalSAM, data: TrainingData, split: Split) -> dict[str, Any]:
    return {
        "config": run.config.model_dump(mode="json"),
        "environment": environment(),
        "device": str(model.device),
        "start": {"name": model.name, "encoder_id": model.encoder_id, "encoder_digest": model.encoder_digest},
        "classes": data.classes.to_json(),
        "data": data.fingerprints(),
        "split": {
            "how": split.how,
            "warnings": list(split.warnings),
            "training": [data.frames[example_index].name for example_index in split.training],
            "validation": [data.frames[example_index].name for example_index in split.validation],
        },
    }


# After an epoch ------------------------------------------------------------------------------------------------------


def _evaluate(model: SurgicalSAM, data: TrainingData, example_indices: Sequence[int]) -> Scores | None:
    return scores(evaluate(model, data, example_indices), data) if example_indices else None


def _score(validated: Scores | None) -> float | None:
    return None if validated is None else validated.challenge_iou


def _keep_if_best(run: RunFolder, model: SurgicalSAM, progress: Progress, validated: Scores | None) -> None:
    """Save this epoch's weights if they are the best so far; without validation data, the last weights are the best."""
    score = _score(validated)
    if score is not None and progress.best_score is not None and score <= progress.best_score:
        progress.validations_since_best += 1
        return
    progress.best, progress.best_score = validated, score
    progress.best_epoch, progress.validations_since_best = progress.epoch, 0
    _save_best(run, model, progress)


def _save_best(run: RunFolder, model: SurgicalSAM, progress: Progress) -> None:
    if not all(weight.isfinite().all() for weight in tuned_state(model).values()):
        raise TrainingError(_not_a_number({"weights": math.nan}, progress, run.config, run))
    record = {
        "run": run.path.name,
        "epoch": progress.best_epoch,
        "seconds": round(progress.elapsed, 1),
        "validation": progress.best and asdict(progress.best),
        "before": progress.before and asdict(progress.before),
        **{key: value for key, value in run.record.items() if key != "config"},
        "config": run.config.model_dump(mode="json"),
    }
    save_checkpoint(run.best_checkpoint, model, training_record=record, name=run.path.name)


def _save_state(run: RunFolder, model: SurgicalSAM, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    state = {"progress": progress.to_state(), "weights": tuned_state(model), "optimizer": optimizer.state_dict()}
    run.save_state({**state, "presence_threshold": model.presence_threshold})


def _epoch_report(
    progress: Progress, config: TrainingConfig, means: dict[str, float], validated: Scores | None
) -> EpochReport:
    left = progress.elapsed / progress.epoch * (config.epochs - progress.epoch)
    if config.minutes is not None:
        left = min(left, max(60 * config.minutes - progress.elapsed, 0.0))
    losses = {**means, "total": sum(means.values())}
    return EpochReport(progress.epoch, config.epochs, losses, _score(validated), progress.best_score, left)


def _is_time_up(config: TrainingConfig, progress: Progress) -> bool:
    return config.minutes is not None and progress.elapsed > 60 * config.minutes


def _not_a_number(terms: dict[str, float], progress: Progress, config: TrainingConfig, run: RunFolder) -> str:
    bad = ", ".join(name for name, value in terms.items() if not math.isfinite(value))
    kept = f"The best so far is kept in {run.best_checkpoint}." if run.best_checkpoint.exists() else "Nothing was kept."
    return (
        f"The loss ({bad}) is not a number in epoch {progress.epoch + 1}. {kept} Try a smaller learning rate "
        f"(it is {config.learning_rate:g})."
    )
