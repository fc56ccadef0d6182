"""Compare SurgicalSAM with other ways of prompting SAM and with published figures (Yue et al., AAAI 2024, tables 1, 2)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import numpy as np

from surgicalsam_napari.instruments import CLASS_SETS, ClassSet, plain
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_training.baselines.oracle import predict_from_boxes, predict_from_centroids
from surgicalsam_training.baselines.persam import Example, first_frames, learn_examples, predict_persam
from surgicalsam_training.baselines.persam_f import predict_persam_f, tune_examples
from surgicalsam_training.baselines.starting import published_sam, sam_of_checkpoint
from surgicalsam_training.baselines.tracking import predict_by_tracking
from surgicalsam_training.config import TrainingConfig, preset
from surgicalsam_training.data.benchmark_split import benchmark_splits
from surgicalsam_training.experiments.cells import cell_model, scored_cell, trained_cell
from surgicalsam_training.experiments.scoring import OpenedData, ProtocolMetrics, kept_metrics, opened_data
from surgicalsam_training.experiments.setting import Setting
from surgicalsam_training.experiments.stage import Stage
from surgicalsam_training.loop.tuning import tuned_state
from surgicalsam_training.scoring.comparison import Result, comparison_table
from surgicalsam_training.scoring.evaluate import embed_missing
from surgicalsam_training.scoring.metrics import mean_metrics
from surgicalsam_training.scoring.protocol import Answers, Asked, EvaluationProtocol, every_class, present_classes
from surgicalsam_training.scoring.published import published_rows
from surgicalsam_training.scoring.tables import Table

Predictor = Callable[[Asked], Iterator[tuple[int, np.ndarray]]]

NOTES = (
    "GT centroid, GT box and tracking get the position of each instrument from the truth, and so know which classes are "
    "present: with every class prompted, their results are the same. PerSAM cannot predict absence. These methods use "
    "SAM's own weights without tuning.",
    "SurgicalSAM's best epoch is chosen on the validation frames, as the authors' code does.",
    "Mask2Former + SAM needs a separate training: `surgicalsam baseline mask2former`.",
)


def table1(setting: Setting) -> Generator[Stage, None, Table]:
    """SurgicalSAM and the baselines on the same frames with both protocols, and the published figures of the benchmark.

    EndoVis 2017 with its preset runs over the paper's four folds (table 2), and reports their mean.
    """
    parts: dict[str, list[ProtocolMetrics]] = {}
    folds = _folds(setting)
    classes: ClassSet | None = None
    for number, config in folds.items():
        cells = setting.cells / f"fold{number}" if number else setting.cells
        run = yield from trained_cell(cells, config)
        model = cell_model(run)
        tuned = round(sum(tensor.numel() for tensor in tuned_state(model).values()) / 1e6, 2)
        classes = classes or model.classes
        parts.setdefault("SurgicalSAM", []).append((yield from scored_cell(cells, config)))
        folder = setting.out / "baselines" / (f"fold{number}" if number else "")
        with opened_data(config, model.classes) as opened:
            metrics_by_method = yield from _baselines(folder, config, opened)
        for method, metrics in metrics_by_method.items():
            parts.setdefault(method, []).append(metrics)
    assert classes is not None
    where = "validation" if len(folds) == 1 else f"mean of {len(folds)} folds"
    results = [
        Result(method, where, protocol, mean_metrics([fold[protocol] for fold in by_fold]), _parameters(method, tuned))
        for method, by_fold in parts.items()
        for protocol in EvaluationProtocol
    ]
    benchmark = benchmark_of(classes)
    published = published_rows(benchmark)
    title = f"Table {'2' if len(folds) > 1 else '1'}: SurgicalSAM and other ways of prompting SAM"
    return comparison_table(title, classes, results, published, (*setting.notes, *NOTES))


def _folds(setting: Setting) -> dict[int, TrainingConfig]:
    config = setting.config
    if setting.is_phantom or config.validation != preset("endovis2017").validation:
        return {0: config}
    splits = benchmark_splits("endovis2017")
    return {n: config.changed(validation=[str(seq) for seq in split.sequences]) for n, split in enumerate(splits)}


def _parameters(method: str, tuned: float) -> float | None:
    return tuned if method == "SurgicalSAM" else 0.0


def benchmark_of(classes: ClassSet) -> str | None:
    """The benchmark whose classes have these names; None if there is none."""
    names = set(map(plain, classes.names))
    matching = (key for key, known in CLASS_SETS.items() if set(map(plain, known.names)) == names)
    return next(matching, None)


def untuned_sam(config: TrainingConfig, classes: ClassSet) -> SurgicalSAM:
    """The untuned SAM from which the setting's trainings start."""
    if config.encoder is None:
        return sam_of_checkpoint(
            config.checkpoint, encoder_weights=config.encoder_weights, classes=classes, device=config.device
        )
    return published_sam(config.encoder, classes, encoder_weights=config.encoder_weights, device=config.device)


def _baselines(
    folder: Path, config: TrainingConfig, opened: OpenedData
) -> Generator[Stage, None, dict[str, ProtocolMetrics]]:
    data, example_indices = opened.data, opened.validation
    model = untuned_sam(config, data.classes)
    examples = yield from _examples(model, opened)
    predictors: dict[str, Callable[[], Predictor]] = {
        "GT centroid + SAM": lambda: lambda asked: predict_from_centroids(model, data, example_indices, asked),
        "GT box + SAM": lambda: lambda asked: predict_from_boxes(model, data, example_indices, asked),
        "PerSAM": lambda: lambda asked: predict_persam(model, data, example_indices, asked, examples=examples),
        "PerSAM, fine-tuned": lambda: _persam_f(model, opened, examples),
        "Tracking, 1 point": lambda: lambda asked: predict_by_tracking(model, data, example_indices, asked, points=1),
        "Tracking, 5 points": lambda: lambda asked: predict_by_tracking(model, data, example_indices, asked, points=5),
    }
    metrics_by_method = {}
    for method, predictor in predictors.items():
        file = folder / f"{method.replace(' ', '-').replace(',', '').lower()}.json"

        def answers(predictor: Callable[[], Predictor] = predictor) -> Answers:
            predict = predictor()
            asked_by_protocol = {
                EvaluationProtocol.PRESENT: present_classes(data),
                EvaluationProtocol.EVERY: every_class(model, data),
            }
            return {protocol: predict(asked) for protocol, asked in asked_by_protocol.items()}

        encoder = model.encoder_digest
        metrics_by_method[method] = yield from kept_metrics(
            file, method, model, data, example_indices, answers, encoder=encoder
        )
    return metrics_by_method


def _examples(model: SurgicalSAM, opened: OpenedData) -> Generator[Stage, None, dict[int, Example]]:
    """PerSAM's example of each class that a training frame shows."""
    first = first_frames(opened.data, opened.training)
    for report in embed_missing(model, opened.data, sorted(set(first.values()))):
        yield Stage("PerSAM: embedding frames", report.done, report.total)
    return learn_examples(model, opened.data, list(first), opened.training)


def _persam_f(model: SurgicalSAM, opened: OpenedData, examples: dict[int, Example]) -> Predictor:
    tuned = {report.class_id: report.tuned for report in tune_examples(model, opened.data, examples)}
    return lambda asked: predict_persam_f(model, opened.data, opened.validation, asked, tuned=tuned)
