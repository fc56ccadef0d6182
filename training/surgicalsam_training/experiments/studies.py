"""The paper's ablations and studies that only need trainings and their scores: tables 3, 4, 6 and 7."""

from __future__ import annotations

import math
import statistics
from collections.abc import Generator, Sequence
from typing import Any

from surgicalsam_napari.errors import TrainingError
from surgicalsam_napari.instruments import ClassSet, plain
from surgicalsam_training.experiments.cells import cell_metrics, cell_model, scored_cell, trained_cell
from surgicalsam_training.experiments.scoring import ProtocolMetrics, opened_data
from surgicalsam_training.experiments.setting import Setting
from surgicalsam_training.experiments.stage import Stage
from surgicalsam_training.scoring.metrics import Metrics
from surgicalsam_training.scoring.protocol import EvaluationProtocol
from surgicalsam_training.scoring.published import PAPER, published_table
from surgicalsam_training.scoring.tables import Table

TOKENS = (2, 4, 6, 8)
FURTHER_SEEDS = (1, 2, 3)  # added to the setting's own seed
SHORT = {EvaluationProtocol.PRESENT: "present", EvaluationProtocol.EVERY: "every"}
METRICS = {"challenge_iou": "Challenge IoU", "iou": "IoU", "mean_class_iou": "mcIoU"}
WHOLE_SCORES = tuple(f"{title}, {SHORT[protocol]}" for protocol in EvaluationProtocol for title in METRICS.values())
DECIMALS = 2  # as the paper prints its figures
PAPERS_SCORES = ("Challenge IoU, paper", "mcIoU, paper")
HOW_TO_READ = (
    "In percent, on the validation frames. present: only the classes that are in a frame are prompted, as in the paper, and "
    "presence is not used; every: every class is prompted in every frame, and presence decides.",
    "The best epoch is chosen on the validation frames, as the authors' code does.",
)


def table3(setting: Setting) -> Generator[Stage, None, Table]:
    """The number of tokens n, with contrastive prototype learning and with fixed prototypes."""
    rows = []
    for prototypes, title in (("fixed", "fixed: mean class embeddings"), ("learned", "contrastive prototype learning")):
        for tokens in TOKENS:
            config = setting.config.changed(tokens_per_class=tokens, prototypes=prototypes)
            metrics_by_protocol = yield from scored_cell(setting.cells, config)
            papers = papers_scores("table3", prototypes=prototypes, n=tokens)
            rows.append((title, tokens, *whole_scores(metrics_by_protocol), *papers))
    return Table(
        "Table 3: tokens per class n, with contrastive prototype learning and with fixed prototypes",
        ("Prototypes", "n", *WHOLE_SCORES, *PAPERS_SCORES),
        tuple(rows),
        (*setting.notes, *HOW_TO_READ, papers_note("table3")),
        DECIMALS,
    )


def table6(setting: Setting) -> Generator[Stage, None, Table]:
    """The effect of dense prompts, sparse prompts and the positive and negative embeddings."""
    variants: dict[str, dict[str, Any]] = {
        "all": {},
        "without dense": {"dense_prompts": False},
        "without sparse": {"sparse_prompts": False},
        "without positive and negative": {"marks": False},
    }
    rows = []
    for title, left_out in variants.items():
        metrics_by_protocol = yield from scored_cell(setting.cells, setting.config.changed(**left_out))
        rows.append((title, *whole_scores(metrics_by_protocol), *papers_scores("table6", prompts=title)))
    return Table(
        "Table 6: effect of each part of the prompts",
        ("Prompt embeddings", *WHOLE_SCORES, *PAPERS_SCORES),
        tuple(rows),
        (
            *setting.notes,
            *HOW_TO_READ,
            papers_note("table6"),
            "without dense: SAM's own embedding for 'no mask' instead of the dense prompts. without sparse: no class token "
            "reaches the decoder, and so no positive or negative embedding either. without positive and negative: these "
            "embeddings are zero, so that the tokens do not show which class is asked for.",
        ),
        DECIMALS,
    )


def table7(setting: Setting) -> Generator[Stage, None, Table]:
    """Three further seeds, their mean and standard deviation."""
    own = setting.config.seed
    rows: list[tuple[object, ...]] = []
    for seed in (own, *(own + further for further in FURTHER_SEEDS)):
        metrics_by_protocol = yield from scored_cell(setting.cells, setting.config.changed(seed=seed))
        rows.append((f"seed {seed}", *whole_scores(metrics_by_protocol), *papers_scores("table7", seed=seed)))
    further = list(zip(*(row[1 : 1 + len(WHOLE_SCORES)] for row in rows[1:]), strict=True))
    for title, key, function in (
        ("mean of the three further seeds", "mean", statistics.mean),
        ("standard deviation of these", "standard deviation", statistics.stdev),
    ):
        rows.append((title, *(_over(function, values) for values in further), *papers_scores("table7", seed=key)))
    return Table(
        "Table 7: three further seeds",
        ("Seed", *WHOLE_SCORES, *PAPERS_SCORES),
        tuple(rows),
        (
            *setting.notes,
            *HOW_TO_READ,
            "The standard deviation is that of a sample (divided by 2).",
            f"{papers_note('table7')} The paper's mean and deviation are over its own seeds.",
        ),
        DECIMALS,
    )


def table4(setting: Setting) -> Generator[Stage, None, Table]:
    """Trained on one dataset, tested on the other, over the classes with a common name."""
    if len(setting.configs) != 2:
        raise TrainingError(
            f"Table 4 trains on one dataset and tests on another; it needs two, got {len(setting.configs)}. Name two."
        )
    runs = []
    for config in setting.configs:
        runs.append((yield from trained_cell(setting.cells, config)))
    models = [cell_model(run) for run in runs]
    shared = shared_names([model.classes for model in models])
    if not shared:
        own, others = (", ".join(model.classes.names) for model in models)
        raise TrainingError(
            f"The two datasets should share class names; the first has {own}, the second {others}. Name datasets that do."
        )
    titles = [config.data[0].name for config in setting.configs]
    rows = []
    for trained, (run, model) in enumerate(zip(runs, models, strict=True)):
        for tested in (trained, 1 - trained):
            ignored = [name for name in models[tested].classes.names if name not in shared[tested]]
            ids = [model.classes.by_name(name).id for name in shared[0]]
            with opened_data(setting.configs[tested], model.classes, shared[tested], ignored) as opened:
                metrics_by_protocol = yield from cell_metrics(run, model, opened, f"shared-classes-of-{titles[tested]}", ids)
            rows.append(("SurgicalSAM", titles[trained], titles[tested], *_shared_scores(metrics_by_protocol, ids)))
    columns = [
        f"{title}, {SHORT[protocol]}" for protocol in EvaluationProtocol for title in ("Challenge IoU", "mcIoU", *shared[0])
    ]
    return Table(
        "Table 4: trained on one dataset, tested on the validation frames of the other",
        ("Method", "Trained on", "Tested on", *columns),
        (*rows, *_papers_table4(shared[0])),
        (
            *setting.notes,
            *HOW_TO_READ,
            f"published: copied from {PAPER}, {published_table('table4')['source']}; the mean of its classes is mcIoU here.",
            f"Scored over the classes with a common name ({', '.join(shared[0])}); all others count as background. "
            "Each model was trained on all classes of its dataset.",
        ),
        DECIMALS,
    )


def shared_names(class_sets: Sequence[ClassSet]) -> list[list[str]]:
    """The class names that all sets share (ignoring case), in the order of the first; one list per set, in its spelling."""
    by_set = [{plain(name): name for name in classes.names} for classes in class_sets]
    common = [name for name in by_set[0] if all(name in names for names in by_set)]
    return [[names[name] for name in common] for names in by_set] if common else []


def whole_scores(metrics_by_protocol: ProtocolMetrics) -> tuple[float | None, ...]:
    """A value for each of `WHOLE_SCORES`."""
    return tuple(number(getattr(metrics_by_protocol[protocol], name)) for protocol in EvaluationProtocol for name in METRICS)


def papers_scores(name: str, **key: object) -> tuple[float | None, float | None]:
    """The Challenge IoU and the mc IoU of a row of the paper's table; None where it has no such row."""
    rows: list[dict[str, Any]] = published_table(name)["rows"]
    row = next((row for row in rows if all(row[k] == value for k, value in key.items())), {})
    return row.get("challenge_iou"), row.get("mean_class_iou")


def papers_note(name: str) -> str:
    """Where the paper's columns come from."""
    return f"paper: the present classes prompted, copied from {PAPER}, {published_table(name)['source']}."


def _papers_table4(names: Sequence[str]) -> list[tuple[object, ...]]:
    """The paper's rows of table 4, under the columns for classes of these names."""
    table = published_table("table4")
    every = (None,) * (2 + len(names))
    rows: list[tuple[object, ...]] = []
    for row in table["rows"]:
        by_name = dict(zip(map(plain, table["classes"]), row["class_iou"], strict=True))
        present = (None, row["mean_class_iou"], *(by_name.get(plain(name)) for name in names))
        rows.append((f"{row['method']}, published", row["trained_on"], row["tested_on"], *present, *every))
    return rows


def _shared_scores(metrics_by_protocol: ProtocolMetrics, class_ids: Sequence[int]) -> list[float | None]:
    def of(metrics: Metrics) -> list[float]:
        by_class = [metrics.class_iou.get(class_id, math.nan) for class_id in class_ids]
        return [metrics.challenge_iou, metrics.mean_class_iou, *by_class]

    return [number(value) for protocol in EvaluationProtocol for value in of(metrics_by_protocol[protocol])]


def number(value: float) -> float | None:
    """A rounded value for tables; None for NaN."""
    return None if math.isnan(value) else round(value, 3)


def _over(function: Any, values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return round(function(numbers), 3) if len(numbers) == len(values) else None
