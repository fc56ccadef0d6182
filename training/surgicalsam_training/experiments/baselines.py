"""The scores of the methods that SurgicalSAM is compared with, on the validation frames of one dataset or fold."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch

from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_training.baselines.detections import read_detections, write_detections
from surgicalsam_training.baselines.detector import MASK2FORMER_ALPHA, predict_from_detections
from surgicalsam_training.baselines.mask2former import DetectorSettings, build_network, detect, load_detector, train_detector
from surgicalsam_training.baselines.oracle import predict_from_boxes, predict_from_centroids
from surgicalsam_training.baselines.persam import predict_persam_in_videos
from surgicalsam_training.baselines.persam_f import predict_persam_f, tune_in_videos
from surgicalsam_training.baselines.starting import published_sam, sam_of_checkpoint
from surgicalsam_training.baselines.tracking import predict_by_tracking
from surgicalsam_training.config import TrainingConfig
from surgicalsam_training.experiments.scoring import OpenedData, ProtocolMetrics, kept_metrics
from surgicalsam_training.experiments.stage import Stage
from surgicalsam_training.scoring.protocol import Answers, Asked, EvaluationProtocol, every_class, present_classes

Predict = Callable[[Asked], Iterator[tuple[int, np.ndarray]]]
MASK2FORMER = "Mask2Former + SAM"


def untuned_sam(config: TrainingConfig, classes: ClassSet) -> SurgicalSAM:
    """The untuned SAM from which the setting's trainings start."""
    if config.encoder is None:
        return sam_of_checkpoint(
            config.checkpoint, encoder_weights=config.encoder_weights, classes=classes, device=config.device
        )
    return published_sam(config.encoder, classes, encoder_weights=config.encoder_weights, device=config.device)


def baseline_metrics(
    folder: Path, config: TrainingConfig, opened: OpenedData, detector: DetectorSettings | None
) -> Generator[Stage, None, dict[str, ProtocolMetrics]]:
    """The scores by method; those that the folder has for the same frames are used again.

    Parameters
    ----------
    detector : settings of the Mask2Former, which is trained on the training frames; None: no such row
    """
    data, frames = opened.data, opened.validation
    model = untuned_sam(config, data.classes)
    tuned_by_video = cache(lambda: list(tune_in_videos(model, data, frames)))  # once for both protocols

    def predict_tuned(asked: Asked) -> Iterator[tuple[int, np.ndarray]]:
        for video, tuned in tuned_by_video():
            yield from predict_persam_f(model, data, video, asked, tuned=tuned)

    methods: dict[str, Predict] = {
        "GT centroid + SAM": lambda asked: predict_from_centroids(model, data, frames, asked),
        "GT box + SAM": lambda asked: predict_from_boxes(model, data, frames, asked),
        "PerSAM": lambda asked: predict_persam_in_videos(model, data, frames, asked),
        "PerSAM, fine-tuned": predict_tuned,
        "Tracking, 1 point": lambda asked: predict_by_tracking(model, data, frames, asked, points=1),
        "Tracking, 5 points": lambda asked: predict_by_tracking(model, data, frames, asked, points=5),
    }
    if detector is not None:
        methods[MASK2FORMER] = yield from _mask2former(folder / "mask2former", config, opened, model, detector)
    metrics_by_method = {}
    for method, predict in methods.items():
        file = folder / f"{method.replace(' ', '-').replace(',', '').replace('+', 'and').lower()}.json"

        def answers(predict: Predict = predict) -> Answers:
            asked = {EvaluationProtocol.PRESENT: present_classes(data), EvaluationProtocol.EVERY: every_class(model, data)}
            return {protocol: predict(asked[protocol]) for protocol in EvaluationProtocol}

        encoder = model.encoder_digest
        metrics_by_method[method] = yield from kept_metrics(file, method, model, data, frames, answers, encoder=encoder)
    return metrics_by_method


def mask2former_parameters(detector: DetectorSettings, class_count: int) -> float:
    """Millions of parameters that its training tunes."""
    with torch.device("meta"):
        network = build_network(detector, class_count)
    return round(sum(weight.numel() for weight in network.parameters()) / 1e6, 2)


def _mask2former(
    folder: Path, config: TrainingConfig, opened: OpenedData, model: SurgicalSAM, settings: DetectorSettings
) -> Generator[Stage, None, Predict]:
    """Train a Mask2Former on the training frames, or use the one in the folder; its boxes are prompts of SAM."""
    for report in train_detector(folder, opened.data, opened.training, settings, config.device):
        yield Stage(f"{MASK2FORMER}: training", report.done, report.total)
    file = folder / "detections.json"
    if not file.exists():
        detected = detect(load_detector(folder, config.device), opened.data, opened.validation)
        write_detections(file, opened.data, detected)
    detections = read_detections(file, opened.data)
    return lambda asked: predict_from_detections(
        model, opened.data, opened.validation, asked, detections=detections, alpha=MASK2FORMER_ALPHA
    )
