"""*Learn*: from corrected frames to a checkpoint with a pixel head, in seconds to a minute.

Every corrected frame takes part, every time, and each learning starts from the same bundled or given checkpoint: nothing is
forgotten, and the order of corrections does not matter. docs/real_video.md compares it with other ways to learn.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from itertools import count as count_from
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from surgicalsam_napari.errors import TrainingError
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.model.checkpoint import AUTHORS_ENCODER, save_checkpoint
from surgicalsam_napari.model.class_prompt_encoder import Prototypes
from surgicalsam_napari.model.encoders import ENCODERS
from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.pixel_head import PixelHead
from surgicalsam_napari.model.surgical_sam import FALLBACK_PRESENCE_THRESHOLD, SurgicalSAM
from surgicalsam_napari.model.upsampling import label_map_of
from surgicalsam_napari.store import Project
from surgicalsam_training.config import TrainingConfig, parse_config
from surgicalsam_training.data.training_data import TrainingData, open_training_data
from surgicalsam_training.learn.fitting import fit, step_count
from surgicalsam_training.learn.targets import HeadTarget, head_target
from surgicalsam_training.loop.prompts import class_embedding
from surgicalsam_training.loop.tuning import starting_model
from surgicalsam_training.reports import ResultReport, Scores
from surgicalsam_training.run.run_folder import RunFolder, environment
from surgicalsam_training.scoring.metrics import Pair, evaluate_label_maps

CACHE_BYTES = 1 << 30  # of embeddings in memory; with more frames they are read from the disk
FEWEST_FRAMES_TO_CHECK = 8  # with fewer, leaving out half of the frames says little
CHECK_STEPS = 100  # fewer than a learning: the check need not be exact
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

    Parameters
    ----------
    checkpoint : to start from; only its encoder matters. By default the bundled weights
    """
    config = parse_config(
        {"data": (project.folder,), "checkpoint": checkpoint, "encoder_weights": encoder_weights, "device": device}
    )
    return learn_from(new_run(project.folder, config))


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
        frames = _Frames(data, classes, model)
        expected = yield from _expected_iou(frames, model, config.seed)
        head, steps = frames.new_head(model, config.seed), step_count(len(examples))
        yield from _reported("learning", fit_on(frames, head, examples, steps, config.seed), steps)
        learned = with_head(model, classes, frames, head)
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
        run.write_result(ResultReport(str(run.best_checkpoint), "learned", 0, seconds, None, after, ()))
        result = Learned(
            run.best_checkpoint, seconds, len(examples), tuple(classes.names), expected, _warnings(frames, expected)
        )
    yield result
    return result


def learning_steps(frame_count: int) -> tuple[int, int]:
    """The steps of checking and of learning from so many frames; a step takes about the same time in both."""
    checking = 2 * CHECK_STEPS if frame_count >= FEWEST_FRAMES_TO_CHECK else 0
    return checking, step_count(frame_count)


def shown_classes(data: TrainingData) -> ClassSet:
    """The classes that corrected frames show; a TrainingError if they show none."""
    shown = {class_id for example_index in range(len(data.frames)) for class_id in data.present_class_ids(example_index)}
    if not shown:
        raise TrainingError(
            f"Learning needs a corrected frame that shows an instrument; the {counted(len(data.frames), 'corrected frame')} "
            "show only background. Paint an instrument in one of them, or correct another frame."
        )
    return ClassSet(data.classes.name, tuple(instrument for instrument in data.classes if instrument.id in shown))


class _Frames:
    """The embeddings and targets of the corrected frames."""

    def __init__(self, data: TrainingData, classes: ClassSet, model: SurgicalSAM) -> None:
        self.data, self.classes, self.device = data, classes, model.device
        self._model = model
        side = 2 * model.embedding_shape[1]
        self.targets = [self._target(example_index, model.input_size, side) for example_index in range(len(data.frames))]
        grid = model.embedding_shape[1:]
        visible = [FrameGeometry(frame.size, model.input_size).visible_grid(grid) for frame in data.frames]
        self.visible = max(rows for rows, _ in visible), max(columns for _, columns in visible)
        fits = len(data.frames) * 2 * int(np.prod(model.embedding_shape)) <= CACHE_BYTES
        self._cached = data.embeddings(range(len(data.frames)), 0, model) if fits else None

    def _target(self, example_index: int, input_size: int, side: int) -> HeadTarget:
        geometry = FrameGeometry(self.data.frames[example_index].size, input_size)
        known = self.data.known_class_ids(example_index)
        return head_target(self.data.label_map(example_index), self.classes.ids, known, geometry, side)

    def embeddings(self, example_indices: Sequence[int]) -> Tensor:
        """(B, D, h, w) float32 on the model's device."""
        if self._cached is not None:
            chosen = self._cached[list(example_indices)]
        else:
            chosen = self.data.embeddings(example_indices, 0, self._model)
        return torch.from_numpy(chosen).to(self.device, torch.float32)

    def new_head(self, model: SurgicalSAM, seed: int) -> PixelHead:
        """A head with random weights."""
        torch.manual_seed(seed)
        spec = ENCODERS[model.encoder_id]
        return PixelHead(spec.decoder_dim, spec.pyramid, len(self.classes)).to(self.device)

    def prototypes(self, decoder_dim: int) -> Tensor:
        """(C, D), the mean embedding inside each class's masks."""
        rows = []
        for class_id in self.classes.ids:
            shown = [i for i in range(len(self.data.frames)) if class_id in self.data.present_class_ids(i)][:16]
            rows.append(torch.stack([self._class_embedding(i, class_id, decoder_dim) for i in shown]).mean(dim=0))
        return torch.stack(rows)

    def _class_embedding(self, example_index: int, class_id: int, decoder_dim: int) -> Tensor:
        label_map = self.data.label_map(example_index)
        geometry = FrameGeometry(label_map.shape, self._model.input_size)
        return class_embedding(self.embeddings([example_index])[0, :decoder_dim].cpu(), label_map == class_id, geometry)


def fit_on(frames: _Frames, head: PixelHead, example_indices: Sequence[int], steps: int, seed: int) -> Iterator[int]:
    """Fit the head to some of the frames; yields the number of steps done."""
    example_indices = list(example_indices)
    with torch.no_grad():
        spread = example_indices[:: -(-len(example_indices) // 32)]
        head.standardise(frames.embeddings(spread))
    targets = [frames.targets[example_index] for example_index in example_indices]
    return fit(
        head,
        lambda positions: frames.embeddings([example_indices[position] for position in positions]),
        targets,
        visible=frames.visible,
        steps=steps,
        seed=seed,
    )


def with_head(model: SurgicalSAM, classes: ClassSet, frames: _Frames, head: PixelHead) -> SurgicalSAM:
    """The starting model with this head and the classes that were learned; its prototypes are their mean embeddings."""
    rows = frames.prototypes(model.decoder_dim)
    prototypes = Prototypes(len(classes), model.decoder_dim).requires_grad_(False)
    prototypes.class_embeddings.weight.data = rows.clone()
    model.prototypes, model.classes = prototypes.to(model.device), classes
    model.pixel_head = head.eval().requires_grad_(False)
    model.presence_threshold = FALLBACK_PRESENCE_THRESHOLD
    return model


def _expected_iou(frames: _Frames, model: SurgicalSAM, seed: int) -> Generator[LearnReport, None, dict[str, float]]:
    """By class name, percent: the IoU on frames that were left out, one half of them after the other."""
    count = len(frames.data.frames)
    if count < FEWEST_FRAMES_TO_CHECK:
        return {}
    halves = [range(start, count, 2) for start in (0, 1)]
    total = 2 * CHECK_STEPS
    pairs, done = [], 0
    for learned, left_out in (halves, halves[::-1]):
        head = frames.new_head(model, seed)
        yield from _reported("checking", (done + step for step in fit_on(frames, head, learned, CHECK_STEPS, seed)), total)
        done += CHECK_STEPS
        pairs += [_label_maps(frames, model, head, example_index) for example_index in left_out]
    metrics = evaluate_label_maps(pairs, frames.classes.ids)
    by_name = {frames.classes.by_id(class_id).name: iou for class_id, iou in metrics.class_iou.items()}
    return {name: round(float(iou), 1) for name, iou in by_name.items() if not np.isnan(iou)}


@torch.inference_mode()
def _label_maps(frames: _Frames, model: SurgicalSAM, head: PixelHead, example_index: int) -> Pair:
    """Prediction and truth of a frame, without the classes that are not annotated in it."""
    known = frames.data.known_class_ids(example_index) & set(frames.classes.ids)
    truth = frames.data.label_map(example_index)
    geometry = FrameGeometry(truth.shape, model.input_size)
    rows = list(range(len(frames.classes)))
    visible = geometry.visible_grid(model.embedding_shape[1:])
    logits = head.decode(frames.embeddings([example_index]), rows, visible).low_res_logits[0]
    kept = np.zeros(256, np.uint8)
    kept[list(known)] = list(known)
    return kept[label_map_of(logits, frames.classes.ids, geometry)], kept[truth], known


def _reported(phase: str, steps: Iterator[int], total: int) -> Generator[LearnReport, None, None]:
    for done in steps:
        yield LearnReport(phase, done, total)


def _as_scores(expected: dict[str, float]) -> Scores | None:
    """The expected IoU as a run's scores, for the list of checkpoints."""
    if not expected:
        return None
    mean = round(sum(expected.values()) / len(expected), 1)
    return Scores(mean, None, mean, dict(expected), None, None)


def _warnings(frames: _Frames, expected: dict[str, float]) -> tuple[str, ...]:
    """What was learned poorly or from too little, and what to do."""
    warnings = []
    count = len(frames.data.frames)
    if count < FEWEST_FRAMES_TO_CHECK:
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
    )
    try:
        yield data
    finally:
        data.close()


def _with_known_encoder(config: TrainingConfig) -> TrainingConfig:
    """Start from SAM instead of an authors' .pth: its class count need not fit, and its image encoder is SAM's."""
    if config.checkpoint is None or config.checkpoint.suffix == ".safetensors":
        return config
    return config.changed(checkpoint=None, encoder=AUTHORS_ENCODER)


def _unused(folder: Path) -> Path:
    """This folder, or with a number behind its name if it exists: two learnings may start in one second."""
    numbered = (folder.with_name(f"{folder.name}-{number}") for number in count_from(2))
    return next(path for path in chain([folder], numbered) if not path.exists())
