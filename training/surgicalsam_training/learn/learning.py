"""*Learn*: from corrected frames to a checkpoint with a pixel head, in seconds to a minute.

Every corrected frame takes part, every time, and each learning starts from the same bundled or given checkpoint: nothing is
forgotten, and the order of corrections does not matter. docs/real_video.md compares it with other ways to learn.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from itertools import count as count_from
from pathlib import Path
from typing import Any

from surgicalsam_napari.errors import TrainingError
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.model.checkpoint import AUTHORS_ENCODER, save_checkpoint
from surgicalsam_napari.model.class_prompt_encoder import Prototypes
from surgicalsam_napari.model.image_encoder import encoder_in_file
from surgicalsam_napari.model.pixel_head import PRESENCE_THRESHOLD, PixelHead
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.store import Project
from surgicalsam_training.config import TrainingConfig, parse_config
from surgicalsam_training.data.opening import dataset_options
from surgicalsam_training.data.training_data import TrainingData, open_training_data
from surgicalsam_training.learn.checking import expected_iou, steps_to_check
from surgicalsam_training.learn.fitting import step_count
from surgicalsam_training.learn.frames import CorrectedFrames
from surgicalsam_training.loop.tuning import starting_model
from surgicalsam_training.reports import ResultReport, Scores
from surgicalsam_training.run.run_folder import RunFolder, environment

FEW_FRAMES = 4  # with fewer, a warning
POOR_IOU = 50.0  # percent, on corrected frames that were left out; below it a class is reported as not learned well
FEWEST_CELLS = 4.0  # of the head's output; a class that covers less in its best frame is reported as very small
RUN_NAME = "learned_%Y-%m-%d_%H-%M-%S"
TRAINING_FOLDER = "training"


@dataclass(frozen=True)
class LearnReport:
    """`done` of `total` units of work; about as long each.

    Attributes
    ----------
    phase : "embedding frames", "checking" (with half of the frames left out), "learning"
    """

    phase: str
    done: int
    total: int


@dataclass(frozen=True)
class Learned:
    """The last report.

    Attributes
    ----------
    checkpoint : ready to be loaded
    frame_count : corrected frames that were learned from
    classes : the names of the classes that were learned
    expected_iou : by class name, percent: the IoU on corrected frames that were left out in turn; empty with too few frames
    warnings : sentences for the user: what was learned poorly, and what to do
    """

    checkpoint: Path
    seconds: float
    frame_count: int
    classes: tuple[str, ...]
    expected_iou: dict[str, float]
    warnings: tuple[str, ...]


def learn(
    project: Project,
    *,
    checkpoint: Path | str | None = None,
    encoder_weights: Path | str | None = None,
    device: str = "auto",
) -> Generator[LearnReport | Learned, None, Learned]:
    """Learn from the corrected frames of one project; the new checkpoint is in its folder `training`. See `learn_from`.

    If it is closed early or fails, it leaves no run behind.

    Parameters
    ----------
    checkpoint : to start from; only its encoder matters. By default the bundled weights
    """
    config = parse_config(
        {"data": (project.folder,), "checkpoint": checkpoint, "encoder_weights": encoder_weights, "device": device}
    )
    run = new_run(project.folder, config)
    try:
        return (yield from learn_from(run))
    finally:
        if not run.best_checkpoint.exists():
            shutil.rmtree(run.path, ignore_errors=True)


def new_run(project_folder: Path, config: TrainingConfig) -> RunFolder:
    """A new run in a project's folder `training`, named by the time."""
    folder = project_folder / TRAINING_FOLDER / datetime.now().strftime(RUN_NAME)
    return RunFolder.create(_unused(folder), config)


def learn_from(run: RunFolder) -> Generator[LearnReport | Learned, None, Learned]:
    """Learn from all corrected frames of the run's data: projects, exported datasets.

    The checkpoint knows the classes that the corrected frames show, and no others.

    Parameters
    ----------
    run : of its configuration, the data, the classes, the checkpoint to start from, the device and the seed are used

    Yields
    ------
    LearnReport; at the end Learned, which is also returned. If it is closed before, no checkpoint is written.

    Raises
    ------
    TrainingError
        no corrected frame, or none that shows an instrument
    CheckpointError, DeviceError, DiskSpaceError, ProjectError, ExchangeError, VideoError, WorkFailed
        nothing is written but embeddings
    """
    began = time.monotonic()
    config = run.config
    with run.held(), _opened(config) as data:
        classes = shown_classes(data)
        model = starting_model(_with_known_encoder(config), classes)
        examples = range(len(data.frames))
        missing = data.missing_embeddings(examples, 0, model)
        for done in data.embed(missing, 0, model) if missing else ():
            yield LearnReport("embedding frames", done, len(missing))
        frames = CorrectedFrames(data, classes, model)
        checking = expected_iou(frames, config.seed)
        expected = yield from _reported("checking", checking, steps_to_check(len(examples)))
        head, steps = frames.new_head(config.seed), step_count(len(examples))
        yield from _reported("learning", frames.fit(head, examples, steps, config.seed), steps)
        learned = with_head(frames, head)
        seconds = round(time.monotonic() - began, 1)
        run.write_record(
            config=config.model_dump(mode="json"),
            environment=environment(),
            classes=classes.to_json(),
            data=data.fingerprints(),
            expected_iou=expected,
        )
        record = {"run": run.path.name, "method": "pixel head", "frames": len(examples), "expected_iou": expected}
        save_checkpoint(run.best_checkpoint, learned, training_record=record, name=run.path.name)
        after = _as_scores(expected)
        run.write_result(ResultReport(str(run.best_checkpoint), "learned", 0, seconds, None, after, (), len(examples)))
        result = Learned(
            run.best_checkpoint, seconds, len(examples), tuple(classes.names), expected, _warnings(frames, expected)
        )
    yield result
    return result


def learning_steps(frame_count: int) -> tuple[int, int]:
    """The steps of checking and of learning from so many frames; a step takes about the same time in both."""
    return steps_to_check(frame_count), step_count(frame_count)


def shown_classes(data: TrainingData) -> ClassSet:
    """The classes that corrected frames show; a TrainingError if they show none."""
    shown = {class_id for example_index in range(len(data.frames)) for class_id in data.present_class_ids(example_index)}
    if not shown:
        raise TrainingError(
            f"Learning needs a corrected frame that shows an instrument; the {counted(len(data.frames), 'corrected frame')} "
            "show only background. Paint an instrument in one of them, or correct another frame."
        )
    return ClassSet(data.classes.name, tuple(instrument for instrument in data.classes if instrument.id in shown))


def with_head(frames: CorrectedFrames, head: PixelHead) -> SurgicalSAM:
    """The starting model with this head and the classes that were learned; its prototypes are their mean embeddings."""
    model, classes = frames.model, frames.classes
    prototypes = Prototypes(len(classes), model.decoder_dim).requires_grad_(False)
    prototypes.class_embeddings.weight.data = frames.prototypes().clone()
    model.prototypes, model.classes = prototypes.to(model.device), classes
    model.pixel_head = head.eval().requires_grad_(False)
    model.presence_threshold = PRESENCE_THRESHOLD
    return model


def _reported(phase: str, steps: Iterable[int], total: int) -> Generator[LearnReport, None, Any]:
    """Each step as a report; what the steps return at their end, if they are a generator."""
    steps = iter(steps)
    while True:
        try:
            done = next(steps)
        except StopIteration as end:
            return end.value
        yield LearnReport(phase, done, total)


def _as_scores(expected: dict[str, float]) -> Scores | None:
    """The expected IoU as a run's scores, for the list of checkpoints."""
    if not expected:
        return None
    mean = round(sum(expected.values()) / len(expected), 1)
    return Scores(mean, None, mean, dict(expected), None, None)


def _warnings(frames: CorrectedFrames, expected: dict[str, float]) -> tuple[str, ...]:
    """What was learned poorly or from too little, and what to do."""
    warnings = []
    count = len(frames.data.frames)
    if count < FEW_FRAMES:
        warnings.append(
            f"Only {counted(count, 'corrected frame')}: masks far from there may be wrong. Correct a few frames that look "
            "different, and learn again."
        )
    for position, instrument in enumerate(frames.classes):
        shown = [target for target in frames.targets if target.share[position + 1].any()]
        largest = max(float(target.share[position + 1].float().sum()) for target in frames.targets)
        if largest < FEWEST_CELLS:
            warnings.append(f"{instrument.name} covers only a few pixels in its corrected frames, too few to learn it well.")
        elif len(shown) == 1 and count > 1:
            warnings.append(f"{instrument.name} is in one corrected frame only. Correct another frame that shows it.")
        elif expected.get(instrument.name, 100.0) < POOR_IOU:
            warnings.append(
                f"{instrument.name} is not learned well yet: IoU {expected[instrument.name]:.0f} on corrected frames that "
                "were left out. Correct more frames in which it looks different, and learn again."
            )
    return tuple(warnings)


@contextmanager
def _opened(config: TrainingConfig) -> Iterator[TrainingData]:
    data = open_training_data(
        config.data,
        base=None,
        trust=config.trust,
        classes=config.classes,
        ignored_classes=config.ignored_classes,
        seed=config.seed,
        datasets=dataset_options(config),
    )
    try:
        yield data
    finally:
        data.close()


def _with_known_encoder(config: TrainingConfig) -> TrainingConfig:
    """Start from SAM instead of an authors' .pth: its class count need not fit, and its image encoder is SAM's.

    With weights of a distilled encoder, start from these.
    """
    if config.checkpoint is None or config.checkpoint.suffix == ".safetensors":
        return config
    encoder = None if config.encoder_weights is None else encoder_in_file(config.encoder_weights)
    return config.changed(checkpoint=None, encoder=encoder or AUTHORS_ENCODER)


def _unused(folder: Path) -> Path:
    """This folder, or with a number behind its name if it exists: two learnings may start in one second."""
    numbered = (folder.with_name(f"{folder.name}-{number}") for number in count_from(2))
    return next(path for path in chain([folder], numbered) if not path.exists())
