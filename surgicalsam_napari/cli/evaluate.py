"""`surgicalsam evaluate`: scores a checkpoint, or masks of any system, by two protocols."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from surgicalsam_napari.cli.commands import app
from surgicalsam_napari.cli.options import (
    AsJson,
    Classes,
    Device,
    EncoderWeights,
    FramePattern,
    Overlaps,
    Unannotated,
    class_set_named,
)
from surgicalsam_napari.cli.terminal import with_count, with_progress
from surgicalsam_napari.cli.training import scores_table
from surgicalsam_napari.errors import TrainingError
from surgicalsam_napari.formatting import counted

if TYPE_CHECKING:
    from surgicalsam_napari.model.surgical_sam import SurgicalSAM
    from surgicalsam_training.data.benchmark_split import BenchmarkSplit
    from surgicalsam_training.data.training_data import DatasetOptions, TrainingData
    from surgicalsam_training.reports import Scores
    from surgicalsam_training.scoring.comparison import Result
    from surgicalsam_training.scoring.metrics import Metrics
    from surgicalsam_training.scoring.protocol import Answers, EvaluationProtocol

INSTANCE_SCORES = {
    "ap": "Mask AP, %",
    "ap50": "Mask AP50, %",
    "idf1": "IDF1, %",
    "hota": "HOTA, %",
    "detection_accuracy": "Detection accuracy (DetA), %",
    "association_accuracy": "Association accuracy (AssA), %",
    "id_switches": "Switches of identity",
    "id_switches_per_minute": "Switches of identity per minute of video",
    "class_flips": "Flips of class",
    "class_flips_per_minute": "Flips of class per minute of an instrument",
}
FOLD = "{fold}"  # a placeholder in a checkpoint's path, for 0 to 3


@dataclass(frozen=True)
class _Scored:
    """The scores of a set of frames by both protocols."""

    method: str
    split: BenchmarkSplit | None
    frames: int
    data: TrainingData
    metrics: Mapping[EvaluationProtocol, Metrics]
    record: dict
    notes: tuple[str, ...] = ()
    parameters: float | None = None


@app.command("evaluate")
def evaluate(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="[CHECKPOINT] DATA...",
            help="A checkpoint (.safetensors, or the SurgicalSAM authors' .pth; not with --predictions). Then the data: "
            "projects, exported datasets, EndoVis as distributed, or processed EndoVis folders.",
        ),
    ],
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions",
            metavar="DIR",
            help="Score the masks in this folder, not a checkpoint: SEQUENCE/FRAME.png, or FRAME_class1.png. "
            "With --instances: a project, or a dataset with instances.",
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol", metavar="NAME", help="Score the validation sequences of a benchmark: endovis2018, endovis2017."
        ),
    ] = None,
    fold: Annotated[
        int | None,
        typer.Option(
            "--fold", metavar="K", help="Fold of endovis2017, 0 to 3. Default: all four. K replaces {fold} in CHECKPOINT."
        ),
    ] = None,
    instances: Annotated[
        bool,
        typer.Option(
            "--instances",
            help="Score instances and tracks of --predictions against DATA; each is a project, or a dataset with instances.",
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write the table as scores.md, scores.csv and scores.json.")
    ] = None,
    classes: Classes = None,
    frame_pattern: FramePattern = None,
    overlaps: Overlaps = None,
    unannotated: Unannotated = "alone",
    encoder_weights: EncoderWeights = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Score a checkpoint, or masks of any system, on annotated frames by two protocols.

    As in the paper: only the classes that are present in a frame are prompted.
    As in use: every class is prompted, and the presence score decides.

    Classes are matched by name. A class that the checkpoint does not know counts as missed.
    With --classes, only these classes are prompted and scored; others count as background. For the authors' .pth,
    which does not name its classes, --classes names them; with --predictions, those of the masks. Of data that have only
    class numbers, --classes is the class set, as in `surgicalsam import`.

    With --instances, average precision of masks as in COCO, IDF1, HOTA, and switches of identity and flips of class per
    minute. Of a project in DATA, the corrected frames are the truth.
    """
    from surgicalsam_training.data.benchmark_split import benchmark_splits
    from surgicalsam_training.data.training_data import DatasetOptions

    if instances and (predictions is None or len(paths) != 1 or protocol is not None or fold is not None):
        raise typer.BadParameter(
            "instances are scored of one project or dataset against another: surgicalsam evaluate --instances "
            "--predictions PREDICTED TRUTH, without a checkpoint or --protocol.",
            param_hint="--instances",
        )
    if fold is not None and protocol is None:
        raise typer.BadParameter("a fold belongs to a protocol: add --protocol endovis2017.", param_hint="--fold")
    if not instances and predictions is None and len(paths) < 2:
        raise typer.BadParameter("give a checkpoint, then the data to score it on.", param_hint="DATA")
    splits = [None] if protocol is None else list(benchmark_splits(protocol, fold))
    class_set = class_set_named(classes)
    datasets = DatasetOptions(class_set, frame_pattern, overlaps, unannotated == "empty")
    if instances and predictions is not None:
        return _score_instances(predictions, paths[0], datasets, out, as_json)
    if predictions is not None:
        parts = _score_files(predictions, paths, splits, datasets)
    else:
        checkpoint, *paths = paths
        parts = _score_checkpoints(checkpoint, paths, splits, datasets, encoder_weights, device)
    _report(list(parts), paths, protocol, out, as_json)


# Scoring -------------------------------------------------------------------------------------------------------------


def _score_checkpoints(
    checkpoint: Path,
    paths: Sequence[Path],
    splits: Sequence[BenchmarkSplit | None],
    datasets: DatasetOptions,
    encoder_weights: Path | None,
    device: str,
) -> Iterator[_Scored]:
    from surgicalsam_napari.model.checkpoint import load_checkpoint
    from surgicalsam_training.data.training_data import open_training_data
    from surgicalsam_training.loop.tuning import tuned_state
    from surgicalsam_training.scoring.evaluate import embed_missing
    from surgicalsam_training.scoring.protocol import answers_of_model

    classes = datasets.classes
    by_file: dict[Path, list[BenchmarkSplit | None]] = {}
    for split in splits:
        by_file.setdefault(_checkpoint_of(checkpoint, split), []).append(split)
    for file, its_splits in by_file.items():
        load = partial(load_checkpoint, file, encoder_weights=encoder_weights, device=device, classes=classes)
        model = load(load_image_encoder=False)
        tuned = round(sum(tensor.numel() for tensor in tuned_state(model).values()) / 1e6, 2)
        notes: tuple[str, ...] = (model.caution,) if model.caution else ()
        if len(its_splits) > 1:
            notes += (f"One checkpoint for {len(its_splits)} folds: it must not have been trained on any of these data.",)
        with closing(open_training_data(paths, base=model.classes, datasets=datasets)) as all_data:
            data = all_data
            if classes is not None and file.suffix == ".safetensors":
                data = all_data.only(classes.names, model.classes)
            _print_notes(data)
            unknown = _unknown_classes(model, data)
            if _needs_encoder(model, data, {i for split in its_splits for i in _frames(data, split)}):
                model = load()
            for split in its_splits:
                example_indices = _frames(data, split)
                for _report in with_progress(embed_missing(model, data, example_indices), "embedding"):
                    pass
                metrics = _counted_scores(answers_of_model(model, data, example_indices), data, len(example_indices))
                record = {
                    "checkpoint": str(file),
                    "presence_threshold": model.presence_threshold,
                    "unknown_classes": unknown,
                }
                yield _Scored(model.name, split, len(example_indices), data, metrics, record, notes, tuned)


def _needs_encoder(model: SurgicalSAM, data: TrainingData, example_indices: Iterable[int]) -> bool:
    """Whether frames are to be embedded, or the encoder is known only from its weights (.pth)."""
    if not model.encoder_digest:
        return data.has_pictures
    return bool(data.missing_embeddings(sorted(example_indices), 0, model))


def _checkpoint_of(checkpoint: Path, split: BenchmarkSplit | None) -> Path:
    if FOLD not in str(checkpoint):
        return checkpoint
    if split is None or split.fold is None:
        raise TrainingError(
            f"{checkpoint} stands for a checkpoint per fold, but only endovis2017 has folds. Add --protocol endovis2017."
        )
    return Path(str(checkpoint).replace(FOLD, str(split.fold)))


def _score_files(
    folder: Path, paths: Sequence[Path], splits: Sequence[BenchmarkSplit | None], datasets: DatasetOptions
) -> Iterator[_Scored]:
    from surgicalsam_training.data.training_data import open_training_data
    from surgicalsam_training.scoring.comparison import OF_FILES
    from surgicalsam_training.scoring.external_predictions import answers_of_files, find_predictions

    with closing(open_training_data(paths, base=None, datasets=datasets)) as data:
        _print_notes(data)
        for split in splits:
            example_indices = _frames(data, split)
            external = find_predictions(folder, data, example_indices, datasets.classes)
            for note in external.notes:
                print(note, file=sys.stderr)
            metrics = _counted_scores(answers_of_files(external, data, example_indices), data, len(example_indices))
            record = {"predictions": str(folder), "notes": list(external.notes)}
            name = external.folder.name
            yield _Scored(name, split, len(example_indices), data, metrics, record, (*OF_FILES, *external.notes))


def _print_notes(data: TrainingData) -> None:
    for note in data.notes:
        print(note, file=sys.stderr)


def _frames(data: TrainingData, split: BenchmarkSplit | None) -> Sequence[int]:
    from surgicalsam_training.data.benchmark_split import validation_frames

    return range(len(data.frames)) if split is None else validation_frames(data, split)


def _counted_scores(answers: Answers, data: TrainingData, count: int) -> dict[EvaluationProtocol, Metrics]:
    from surgicalsam_training.scoring.protocol import score

    return {protocol: score(data, with_count(given, count, str(protocol))) for protocol, given in answers.items()}


def _unknown_classes(model: SurgicalSAM, data: TrainingData) -> list[str]:
    """Names of classes in the data that the model does not know, also printed on stderr; an error if it knows none."""
    shown = sorted(
        {class_id for example_index in range(len(data.frames)) for class_id in data.present_class_ids(example_index)}
    )
    names = [data.classes.by_id(class_id).name for class_id in shown if class_id not in model.classes.ids]
    if names and len(names) == len(shown):
        raise TrainingError(
            f"The data should show classes that {model.name} knows ({', '.join(model.classes.names)}), but show only "
            f"{', '.join(names)}. Choose another checkpoint, or rename the classes: they are matched by name."
        )
    if names:
        print(f"unknown to {model.name}, counted as missed: {', '.join(names)}", file=sys.stderr)
    return names


# Instances -----------------------------------------------------------------------------------------------------------


def _score_instances(predictions: Path, truth: Path, datasets: DatasetOptions, out: Path | None, as_json: bool) -> None:
    from surgicalsam_training.scoring.instance_sources import compare_instances, open_instances
    from surgicalsam_training.scoring.tables import Table, to_markdown, write_table

    with ExitStack() as opened:
        true = open_instances(truth, datasets, opened, is_truth=True)
        result = compare_instances(true, open_instances(predictions, datasets, opened, is_truth=False))
    for note in result.notes:
        print(note, file=sys.stderr)
    record = {name: None if value != value else value for name, value in asdict(result.scores).items()}
    counts = f"{counted(result.scores.instruments, 'instrument')} in {counted(result.scores.frames, 'frame')}"
    rows = tuple((title, record[name]) for name, title in INSTANCE_SCORES.items())
    table = Table(f"{predictions.name} on {counts} of {truth.name}", ("Score", "Value"), rows, result.notes)
    if out is not None:
        write_table(table, out, "scores")
    if as_json:
        print(json.dumps({**record, "predictions": str(predictions), "truth": str(truth), "notes": result.notes}))
    else:
        print(to_markdown(table), end="")


# Printing ------------------------------------------------------------------------------------------------------------


def _report(parts: Sequence[_Scored], paths: Sequence[Path], benchmark: str | None, out: Path | None, as_json: bool) -> None:
    from surgicalsam_training.scoring.comparison import comparison_table
    from surgicalsam_training.scoring.evaluate import scores
    from surgicalsam_training.scoring.metrics import mean_metrics
    from surgicalsam_training.scoring.protocol import EvaluationProtocol
    from surgicalsam_training.scoring.published import published_rows
    from surgicalsam_training.scoring.tables import to_markdown, write_table

    whole = {protocol: mean_metrics([part.metrics[protocol] for part in parts]) for protocol in EvaluationProtocol}
    data = parts[0].data
    for part in parts:
        if not part.data.classes.has_classes_of(data.classes):
            own, others = (", ".join(classes.names) for classes in (data.classes, part.data.classes))
            raise TrainingError(
                f"All folds must have the same class set: {parts[0].method} has {own}, {part.method} has {others}. "
                "Score them one by one (--fold)."
            )
    published = published_rows(benchmark)
    notes = dict.fromkeys(note for part in parts for note in part.notes)
    title = f"{parts[0].method} on {sum(part.frames for part in parts)} frames of {', '.join(path.name for path in paths)}"
    table = comparison_table(title, data.classes, list(_results(parts, whole)), published, tuple(notes))
    if out is not None:
        write_table(table, out, "scores")
    by_protocol = {protocol: scores(metrics, data) for protocol, metrics in whole.items()}
    if as_json:
        record = {"frames": sum(part.frames for part in parts), **_scores_record(by_protocol)}
        if len(parts) == 1:
            record |= parts[0].record
        if benchmark is not None:
            record |= {"protocol": benchmark, "parts": [_part_record(part) for part in parts]}
            record |= {"published": [asdict(row) for row in published]}
        print(json.dumps(record))
    elif benchmark is not None:
        print(to_markdown(table), end="")
    else:
        columns = {"prompted": by_protocol[EvaluationProtocol.PRESENT], "every": by_protocol[EvaluationProtocol.EVERY]}
        print("\n".join([title, "", *scores_table(columns)]))
        print("\nprompted: only the classes present in a frame, as in the paper")
        print("every: every class is prompted, and the presence score decides")


def _part_record(part: _Scored) -> dict:
    from surgicalsam_training.scoring.evaluate import scores

    assert part.split is not None
    by_protocol = {protocol: scores(metrics, part.data) for protocol, metrics in part.metrics.items()}
    frames = {"fold": part.split.fold, "sequences": part.split.sequences, "frames": part.frames}
    return {**part.record, **frames, **_scores_record(by_protocol)}


def _scores_record(by_protocol: Mapping[EvaluationProtocol, Scores]) -> dict:
    """The scores with every class prompted; under `present_classes_prompted` those with the present classes prompted."""
    from surgicalsam_training.scoring.protocol import EvaluationProtocol

    return {
        **asdict(by_protocol[EvaluationProtocol.EVERY]),
        "present_classes_prompted": asdict(by_protocol[EvaluationProtocol.PRESENT]),
    }


def _results(parts: Sequence[_Scored], whole: Mapping[EvaluationProtocol, Metrics]) -> Iterator[Result]:
    from surgicalsam_training.scoring.comparison import Result

    for part in parts:
        frames = f"all {part.frames}" if part.split is None else part.split.frames
        for protocol, metrics in part.metrics.items():
            yield Result(part.method, frames, protocol, metrics, part.parameters)
    if len(parts) > 1:
        for protocol, metrics in whole.items():
            yield Result(parts[0].method, f"mean of {len(parts)} folds", protocol, metrics, parts[0].parameters)
