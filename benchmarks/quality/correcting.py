"""Shared by the training benchmarks: phantom videos, and a simulated person who corrects frames exactly."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.append(str(Path(__file__).parents[1]))
from common.options import new_parser

from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.phantom import write_phantom_clip
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project
from surgicalsam_napari.store.corrections import untouched_frames
from surgicalsam_training.config import TrainingConfig, preset
from surgicalsam_training.launch import train_in_process
from surgicalsam_training.reports import ResultReport
from surgicalsam_training.run.run_folder import RunFolder
from surgicalsam_training.scoring.metrics import Metrics, evaluate_label_maps

QUICK_TRAINING = ["epochs=1", "rehearsed_frames=2", "augmented_versions=1"]  # for `--quick`


def phantom_video(folder: Path, seed: int, frame_count: int, **scene: object) -> tuple[Path, np.ndarray]:
    """A phantom mp4 and its exact masks (T, H, W) uint8."""
    video = write_phantom_clip(folder, seed, frame_count=frame_count, **scene)  # type: ignore[arg-type]
    files = sorted(video.with_name(f"{video.stem}_labels").glob("*.png"))
    return video, np.stack([np.asarray(Image.open(file)) for file in files])


def spread(count: int, frame_count: int) -> list[int]:
    """`count` frames, evenly spread over a video, without its first and last frame."""
    return [int((position + 0.5) * frame_count / count) for position in range(count)]


def correct(project: Project, truth: np.ndarray, frames: Sequence[int]) -> None:
    """Paint these frames with their true labels, and verify them."""
    for frame in frames:
        project.labels[frame] = truth[frame]
        project.labels.verify(frame)


def segment_untouched(session: Session) -> None:
    """Predict every class that the model knows, in all frames that nobody has corrected."""
    assert session.project is not None
    for _report in session.segment(session.trained_class_ids(), untouched_frames(session.project)):
        pass


def score(project: Project, truth: np.ndarray, frames: Sequence[int], classes: ClassSet) -> Metrics:
    """Metrics of a project's labels."""
    return evaluate_label_maps(((project.labels[frame], truth[frame]) for frame in frames), classes.ids)


def tune(folder: Path, data: Sequence[Path], settings: dict) -> tuple[ResultReport, float]:
    """Train in a separate process, as the window does. Returns the result and the seconds, start-up included."""
    config: TrainingConfig = preset("quick").changed(data=list(data), **settings)
    started = time.perf_counter()
    reports = train_in_process(RunFolder.create(folder, config))
    while True:
        try:
            next(reports)
        except StopIteration as end:
            return end.value, time.perf_counter() - started


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that these benchmarks share."""
    options = new_parser(description)
    options.add_argument("--checkpoint", type=Path, help="start from this checkpoint instead of the bundled weights")
    options.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a training setting")
    return options


def settings_of(arguments: argparse.Namespace) -> dict:
    given = dict(item.split("=", 1) for item in arguments.set)
    return given | ({"checkpoint": arguments.checkpoint} if arguments.checkpoint else {})


def rounded(value: float) -> float:
    return round(float(value), 2)
