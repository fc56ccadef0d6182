"""Compare SurgicalSAM with other ways of prompting SAM and with published figures (Yue et al., AAAI 2024, tables 1, 2)."""

from __future__ import annotations

from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path

from surgicalsam_napari.errors import TrainingError
from surgicalsam_napari.instruments import CLASS_SETS, ClassSet, plain
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_training.baselines.text_prototypes import write_text_prototypes
from surgicalsam_training.config import TrainingConfig, preset
from surgicalsam_training.data.benchmark_split import benchmark_splits
from surgicalsam_training.experiments.baselines import MASK2FORMER, baseline_metrics, mask2former_parameters
from surgicalsam_training.experiments.cells import cell_model, scored_cell, trained_cell
from surgicalsam_training.experiments.scoring import ProtocolMetrics, opened_data
from surgicalsam_training.experiments.setting import Setting
from surgicalsam_training.experiments.stage import Stage
from surgicalsam_training.loop.tuning import tuned_state
from surgicalsam_training.scoring.comparison import Result, comparison_table
from surgicalsam_training.scoring.metrics import mean_metrics
from surgicalsam_training.scoring.protocol import EvaluationProtocol
from surgicalsam_training.scoring.published import published_rows
from surgicalsam_training.scoring.tables import Table

OURS, TEXT = "SurgicalSAM", "SurgicalSAM with text prototypes"
NOTES = (
    "GT centroid, GT box and tracking get the position of each instrument from the truth, and so know which classes are "
    "present. PerSAM gets the mask of the first frame of each video that shows the class, and cannot predict absence. These "
    "methods use SAM's own weights without tuning.",
    "SurgicalSAM's best epoch is chosen on the validation frames, as the authors' code does.",
)
NO_MASK2FORMER = (
    f'{MASK2FORMER}: not run, because its library is not installed (`pip install "surgicalsam-napari[baselines]"`).'
)
NO_TEXT = f"{TEXT}: not run, because no text embeddings were given (`--text`)."


def table1(setting: Setting) -> Generator[Stage, None, Table]:
    """SurgicalSAM and the baselines on the same frames with both protocols, and the published figures of the benchmark.

    EndoVis 2017 with its preset runs over the paper's four folds, as `table2`.
    """
    if not setting.is_phantom and has_folds(setting.config):
        return (yield from table2(setting))
    return (yield from _compared(setting, "Table 1", {0: setting.config}))


def table2(setting: Setting) -> Generator[Stage, None, Table]:
    """The same on EndoVis 2017: the mean of the paper's four folds.

    Raises
    ------
    TrainingError
        no dataset of the setting has these folds
    """
    config = next(filter(has_folds, setting.configs), None)
    if config is None:
        raise TrainingError(
            f"Table 2 is of EndoVis 2017, in four folds over its eight sequences; {setting.config.data[0].name} is another "
            "dataset. Name EndoVis 2017, or use --preset endovis2017."
        )
    splits = benchmark_splits("endovis2017")
    folds = {n: config.changed(validation=[str(seq) for seq in split.sequences]) for n, split in enumerate(splits)}
    return (yield from _compared(setting, "Table 2", folds))


def has_folds(config: TrainingConfig) -> bool:
    """Whether the validation is that of a fold of EndoVis 2017."""
    return config.validation == preset("endovis2017").validation


def _compared(setting: Setting, name: str, folds: dict[int, TrainingConfig]) -> Generator[Stage, None, Table]:
    """A row per method and protocol, the mean of all folds; then the published rows."""
    detector = setting.detector if find_spec("transformers") else None
    parts: dict[str, list[ProtocolMetrics]] = {}
    parameters: dict[str, float] = {}
    for number, config in folds.items():
        cells, rest = (setting.out / part / (f"fold{number}" if len(folds) > 1 else "") for part in ("cells", "baselines"))
        run = yield from trained_cell(cells, config)
        model = cell_model(run)
        parameters[OURS] = _tuned_millions(model)
        metrics_by_method = {OURS: (yield from scored_cell(cells, config))}
        if setting.text is not None:
            text_config = _with_text(config, setting.text, model, rest)
            metrics_by_method[TEXT] = yield from scored_cell(cells, text_config)
            parameters[TEXT] = round(parameters[OURS] - model.prototypes().numel() / 1e6, 2)
        with opened_data(config, model.classes) as opened:
            metrics_by_method |= yield from baseline_metrics(rest, config, opened, detector)
        for method, metrics in metrics_by_method.items():
            parts.setdefault(method, []).append(metrics)
    if detector is not None:
        parameters[MASK2FORMER] = mask2former_parameters(detector, len(model.classes))
    where = "validation" if len(folds) == 1 else f"mean of {len(folds)} folds"
    results = [
        Result(method, where, protocol, mean_metrics([fold[protocol] for fold in by_fold]), parameters.get(method, 0.0))
        for method, by_fold in parts.items()
        for protocol in EvaluationProtocol
    ]
    left_out = [note for note, there in ((NO_MASK2FORMER, detector), (NO_TEXT, setting.text)) if there is None]
    notes = (*setting.notes, *NOTES, *setting.comparison_notes, *left_out)
    title = f"{name}: SurgicalSAM and other ways of prompting SAM"
    return comparison_table(title, model.classes, results, published_rows(benchmark_of(model.classes)), notes)


def _with_text(config: TrainingConfig, text: Path, model: SurgicalSAM, folder: Path) -> TrainingConfig:
    """The same training with fixed prototypes from text embeddings and without the contrastive loss (section 8.5)."""
    file = folder / "text_prototypes.safetensors"
    if not file.exists():
        write_text_prototypes(file, text, model.classes, model.decoder_dim)
    return config.changed(prototypes="fixed", prototypes_file=file, contrastive_weight=0.0)


def _tuned_millions(model: SurgicalSAM) -> float:
    return round(sum(tensor.numel() for tensor in tuned_state(model).values()) / 1e6, 2)


def benchmark_of(classes: ClassSet) -> str | None:
    """The benchmark whose classes have these names; None if there is none."""
    names = set(map(plain, classes.names))
    matching = (key for key, known in CLASS_SETS.items() if set(map(plain, known.names)) == names)
    return next(matching, None)
