"""`surgicalsam train`; its options are the fields of `TrainingConfig`."""

from __future__ import annotations

import inspect
import json
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import typer

from surgicalsam_napari.cli.commands import app
from surgicalsam_napari.cli.options import AsJson
from surgicalsam_napari.cli.terminal import progress
from surgicalsam_napari.formatting import in_time
from surgicalsam_napari.instruments import CLASS_SETS

if TYPE_CHECKING:
    from surgicalsam_training.config import TrainingConfig
    from surgicalsam_training.loop.processes import Processes
    from surgicalsam_training.reports import EpochReport, ResultReport, Scores
    from surgicalsam_training.run.run_folder import RunFolder

PANELS = {  # of `surgicalsam train --help`
    "Data": (
        "classes",
        "ignored_classes",
        "data_classes",
        "frame_pattern",
        "overlaps",
        "unannotated",
        "trust",
        "validation",
        "validation_share",
    ),
    "Model": (
        "checkpoint",
        "encoder",
        "encoder_weights",
        "tokens_per_class",
        "dense_hidden_dim",
        "sparse_hidden_dim",
    ),
    "Length": ("epochs", "minutes", "patience", "validate_every"),
    "Optimiser": ("batch_size", "micro_batch_size", "learning_rate", "schedule", "weight_decay"),
    "Earlier knowledge": ("kept_of_start", "rehearsed_frames"),
    "Losses": (
        "temperature",
        "contrastive_weight",
        "cross_entropy_weight",
        "predicted_iou_weight",
        "presence_weight",
        "absent_share",
        "loss_resolution",
    ),
    "Augmentation": ("augmented_versions", "augmentation"),
    "Machine": ("device", "seed"),
    "Ablations": ("prototypes", "prototypes_file", "dense_prompts", "sparse_prompts", "marks"),
    "Switches": ("mixed_precision", "presence_tunes_decoder"),  # a separate panel: their names take the width of a terminal
}
TRY_LEARN = "Try `surgicalsam learn`: with few corrected frames it is more exact, and takes seconds."
ROWS = {
    "challenge_iou": "Challenge IoU",
    "iou": "IoU",
    "mean_class_iou": "mean class IoU",
    "absent_false_positive_rate": "masks on absent classes",
    "missed_rate": "present classes missed",
}


def _train(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[CONFIG] DATA...",
            help="A YAML configuration (optional). Then the data: projects, exported datasets, or the authors' processed "
            "EndoVis folders.",
        ),
    ] = None,
    *,
    out: Annotated[
        Path, typer.Option("--out", metavar="RUN", help="Folder of the run: a new one, or that of a stopped run.")
    ],
    preset: Annotated[
        str | None, typer.Option("--preset", metavar="NAME", help="Use these settings: endovis2018, endovis2017 or quick.")
    ] = None,
    as_json: AsJson = False,
    **settings: Any,
) -> None:
    """Train a model on corrected frames. The same command resumes a run that was stopped.

    Options override single settings of CONFIG or of the preset. Relative paths in CONFIG start at its folder.
    """
    from surgicalsam_training.config import parse_config, read_config
    from surgicalsam_training.config import preset as read_preset
    from surgicalsam_training.loop.processes import joined_processes
    from surgicalsam_training.reports import weakness
    from surgicalsam_training.run.run_folder import RunFolder

    paths = list(sources or [])
    config_file = paths.pop(0) if paths and _is_config(paths[0]) else None
    if config_file is not None and preset is not None:
        raise typer.BadParameter("give a configuration or a preset, not both.", param_hint="CONFIG / --preset")
    for path in filter(_is_config, paths):
        raise typer.BadParameter(f"give one configuration, before the data; {path} is among the data.", param_hint="CONFIG")
    config = parse_config({})
    if config_file is not None or preset is not None:
        config = read_config(config_file) if config_file is not None else read_preset(preset or "")
    given_settings = {name: value for name, value in settings.items() if value not in (None, [], ())}
    if paths:
        given_settings["data"] = paths
    given_settings |= _class_settings(given_settings.get("classes", ()))
    config = config.changed(**given_settings)
    if not config.data:
        raise typer.BadParameter("give at least one project or dataset to train on.", param_hint="DATA")
    with joined_processes() as processes:
        run = RunFolder.create(out, config) if processes.is_first else None
        processes.wait()
        result = _follow(run or RunFolder.open(out), processes)
    if result is None:
        return
    print(json.dumps(asdict(result)) if as_json else _result_text(result))
    weak = weakness(result)
    if weak is not None:
        print(f"{weak} {TRY_LEARN}", file=sys.stderr)


def _class_settings(texts: Sequence[str]) -> dict[str, Any]:
    """`--classes endovis2018` or a YAML file is the class set of the data, as in `surgicalsam import`; else it is a name."""
    sets = [text for text in texts if text.casefold() in CLASS_SETS or _is_config(Path(text))]
    if len(sets) > 1:
        raise typer.BadParameter(f"give one class set; got {' and '.join(sets)}.", param_hint="--classes")
    return {"data_classes": sets[0], "classes": [text for text in texts if text not in sets] or None} if sets else {}


def _is_config(path: Path) -> bool:
    return path.suffix.lower() in (".yaml", ".yml")


def _follow(run: RunFolder, processes: Processes) -> ResultReport | None:
    """Train and print the progress on stderr; returns the result in the first of several processes, else None."""
    from surgicalsam_training.loop.trainer import train
    from surgicalsam_training.reports import EpochReport, PreparationReport, ResultReport, SplitReport

    result = None
    with closing(train(run, processes)) as reports, _ProgressPrinter() as printer:
        for report in reports:
            if not processes.is_first:
                continue
            if isinstance(report, SplitReport):
                for line in (report.how, *report.warnings):
                    printer.say(line)
            elif isinstance(report, PreparationReport) and report.total == 1:
                printer.say(report.phase)
            elif isinstance(report, PreparationReport):
                printer.count(report.phase, report.phase, report.done, report.total)
            elif isinstance(report, EpochReport):
                printer.epoch(report)
            elif isinstance(report, ResultReport):
                result = report
    return result


class _ProgressPrinter:
    """Prints the progress of a training on stderr: a line for each message, and a bar for each phase.

    If stderr is no terminal, as in a cluster's log, it prints a line for every validated epoch instead of the epochs' bar.
    """

    def __enter__(self) -> _ProgressPrinter:
        self._bar, self._counted = ExitStack(), ""
        self._advance: Callable[[str, int, int], None]
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def say(self, line: str) -> None:
        self._bar.close()
        self._counted = ""
        print(line, file=sys.stderr, flush=True)

    def count(self, what: str, title: str, done: int, total: int) -> None:
        if what != self._counted:
            self._bar.close()
            self._advance, self._counted = self._bar.enter_context(progress()), what
        self._advance(title, done, total)

    def epoch(self, report: EpochReport) -> None:
        best = "" if report.best_challenge_iou is None else f", best IoU {report.best_challenge_iou:.1f}"
        loss = f"loss {report.losses['total']:.3f}"
        if sys.stderr.isatty():
            self.count("epochs", f"epoch, {loss}{best}", report.done, report.total)
        elif report.challenge_iou is not None:
            self.say(f"epoch {report.done} of {report.total}: {loss}, IoU {report.challenge_iou:.1f}{best}")


def _result_text(result: ResultReport) -> str:
    kept = f"best epoch {result.best_epoch}" if result.best_epoch else "no epoch was better than the start, so that is kept"
    lines = [f"{result.reason} after {in_time(result.seconds)}; {kept}: {result.checkpoint}"]
    if result.after is not None:
        columns = {"before": result.before, "after": result.after} if result.before is not None else {"": result.after}
        lines += ["", *scores_table(columns)]
    return "\n".join(lines)


def scores_table(columns: dict[str, Scores]) -> Iterator[str]:
    """A table of percentages: a line per metric and class, a column per set of scores."""
    if len(columns) > 1:
        yield " " * 28 + "".join(f"{title:>9}" for title in columns)
    for name, title in ROWS.items():
        yield f"{title:<28}" + "".join(_cell(getattr(scores, name)) for scores in columns.values())
    for name in dict.fromkeys(name for scores in columns.values() for name in scores.class_iou):
        yield f"  {name:<26}" + "".join(_cell(scores.class_iou.get(name)) for scores in columns.values())


def _cell(value: float | None) -> str:
    return f"{'–':>9}" if value is None else f"{value:9.1f}"


# Options from the fields of the configuration ------------------------------------------------------------------------


def _with_options_of(config: type[TrainingConfig]) -> Any:
    """`_train` with an option for every field of the configuration; None or [] if the option is not given."""

    def command(**arguments: Any) -> None:
        _train(**arguments)

    own = list(inspect.signature(_train, eval_str=True).parameters.values())
    kept = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own if parameter.name != "settings"]
    panels = {**PANELS, "More": _without_panel(config)}
    options = [_option(name, config.model_fields[name], panel) for panel, names in panels.items() for name in names]
    command.__signature__ = inspect.Signature([*kept, *options])  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in [*kept, *options]}
    command.__doc__ = _train.__doc__
    return command


def _without_panel(config: type[TrainingConfig]) -> list[str]:
    placed = {"data", *(name for names in PANELS.values() for name in names)}
    return [name for name in config.model_fields if name not in placed]


def _option(name: str, field: Any, panel: str) -> inspect.Parameter:
    kind = _option_type(field.annotation)
    flag = f"--{name.replace('_', '-')}"
    text = f"{field.description}."
    if get_origin(kind) is list:
        text += " May be given several times."
    elif field.default is not None:
        text += f" Default without preset: {_in_words(field.default)}."
    option = typer.Option(
        f"{flag}/--no-{flag[2:]}" if kind is bool else flag,
        help=text,
        show_default=False,
        metavar=_metavar(kind),
        rich_help_panel=panel,
    )
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option])


def _option_type(annotation: Any) -> Any:
    """The type of an option's value: for an optional field its other type, for a tuple a list of its items."""
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is tuple:
        return list[get_args(annotation)[0]]  # type: ignore[misc]
    return annotation


def _metavar(kind: Any) -> str | None:
    if get_origin(kind) is Literal:
        return "|".join(get_args(kind))
    return {bool: None, int: "N", float: "X", Path: "FILE"}.get(kind, "NAME")


def _in_words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _register() -> None:
    # the configuration imports only pydantic and yaml, so that `--help` still appears at once
    from surgicalsam_training.config import TrainingConfig

    app.command("train")(_with_options_of(TrainingConfig))


_register()
