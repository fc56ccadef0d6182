"""`surgicalsam train` and `evaluate`; the options of `train` are the fields of `TrainingConfig`."""

from __future__ import annotations

import inspect
import json
import sys
import types
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

import typer

from surgicalsam_napari.cli.commands import app
from surgicalsam_napari.cli.options import AsJson, Device, EncoderWeights
from surgicalsam_napari.cli.terminal import progress, with_progress

if TYPE_CHECKING:
    from surgicalsam_training.config import TrainingConfig
    from surgicalsam_training.processes import Processes
    from surgicalsam_training.reports import ResultReport, Scores
    from surgicalsam_training.run_folder import RunFolder

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
            help="A YAML configuration; then projects, exported datasets, or the authors' processed EndoVis folders.",
        ),
    ] = None,
    *,
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="The run's folder: new, or of a run that was stopped.")],
    preset: Annotated[
        str | None, typer.Option("--preset", metavar="NAME", help="endovis2018, endovis2017 or quick.")
    ] = None,
    as_json: AsJson = False,
    **settings: Any,
) -> None:
    """Tune a model on corrected frames. A run that was stopped is gone on with by the same command."""
    from surgicalsam_training.config import parse_config, read_config
    from surgicalsam_training.config import preset as read_preset
    from surgicalsam_training.processes import joined_processes
    from surgicalsam_training.run_folder import RunFolder

    paths = list(sources or [])
    config_file = paths.pop(0) if paths and paths[0].suffix in (".yaml", ".yml") else None
    if config_file is not None and preset is not None:
        raise typer.BadParameter("give a configuration or a preset, not both.", param_hint="CONFIG / --preset")
    config = parse_config({})
    if config_file is not None or preset is not None:
        config = read_config(config_file) if config_file is not None else read_preset(preset or "")
    given = {name: value for name, value in settings.items() if value not in (None, [], ())}
    if paths:
        given["data"] = paths
    config = config.changed(**given)
    if not config.data:
        raise typer.BadParameter("name at least one project or dataset to train on.", param_hint="DATA")
    with joined_processes() as processes:
        run = RunFolder.create(out, config) if processes.is_first else None
        processes.wait()
        result = _follow(run or RunFolder.open(out), processes)
    if result is None:
        return
    print(json.dumps(asdict(result)) if as_json else _result_text(result))


def _follow(run: RunFolder, processes: Processes) -> ResultReport | None:
    """Train, with what happens told on stderr; the result, in the first of several processes."""
    from surgicalsam_training.reports import EpochReport, PreparationReport, ResultReport, SplitReport
    from surgicalsam_training.trainer import train

    result = None
    with closing(train(run, processes)) as reports, progress() as advance:
        for report in reports:
            if not processes.is_first:
                continue
            if isinstance(report, SplitReport):
                for line in (report.how, *report.warnings):
                    print(line, file=sys.stderr)
            elif isinstance(report, PreparationReport):
                advance(report.phase, report.done, report.total)
            elif isinstance(report, EpochReport):
                best = "" if report.best_challenge_iou is None else f", best IoU {report.best_challenge_iou:.1f}"
                advance(f"epoch, loss {report.losses['total']:.3f}{best}", report.done, report.total)
            elif isinstance(report, ResultReport):
                result = report
    return result


def _result_text(result: ResultReport) -> str:
    lines = [f"{result.reason} after {result.seconds:.0f} s; best epoch {result.best_epoch}: {result.checkpoint}"]
    if result.after is not None:
        columns = {"before": result.before, "after": result.after} if result.before is not None else {"": result.after}
        lines += ["", *_scores_table(columns)]
    return "\n".join(lines)


def _scores_table(columns: dict[str, Scores]) -> Iterator[str]:
    """Percentages, a line per metric and class, a column per set of scores."""
    yield " " * 28 + "".join(f"{title:>9}" for title in columns)
    for name, title in ROWS.items():
        yield f"{title:<28}" + "".join(_cell(getattr(scores, name)) for scores in columns.values())
    for name in dict.fromkeys(name for scores in columns.values() for name in scores.class_iou):
        yield f"  {name:<26}" + "".join(_cell(scores.class_iou.get(name)) for scores in columns.values())


def _cell(value: float | None) -> str:
    return f"{'–':>9}" if value is None else f"{value:9.1f}"


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A .safetensors of this project.")],
    data: Annotated[
        list[Path], typer.Argument(metavar="DATA...", help="Projects, exported datasets, processed EndoVis folders.")
    ],
    encoder_weights: EncoderWeights = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Score a checkpoint on corrected frames: every known class is asked for in every frame, and presence decides."""
    from surgicalsam_napari.model.checkpoint import load_checkpoint
    from surgicalsam_training.data.training_data import open_training_data
    from surgicalsam_training.evaluate import embed_missing, scores
    from surgicalsam_training.evaluate import evaluate as evaluate_model

    model = load_checkpoint(checkpoint, encoder_weights=encoder_weights, device=device)
    with closing(open_training_data(data, base=model.classes)) as frames:
        indices = range(len(frames.frames))
        for _report in with_progress(embed_missing(model, frames, indices), "embedding"):
            pass
        found = scores(evaluate_model(model, frames, indices), frames)
    record = {"checkpoint": str(checkpoint), "frames": len(indices), "presence_threshold": model.presence_threshold}
    print(json.dumps({**record, **asdict(found)}) if as_json else "\n".join(_scores_table({"": found})))


# Options from the fields of the configuration ------------------------------------------------------------------------


def _with_options_of(config: type[TrainingConfig]) -> Any:
    """`_train` with an option for every field; None, or nothing, where the option is not given."""

    def command(**arguments: Any) -> None:
        _train(**arguments)

    own = list(inspect.signature(_train, eval_str=True).parameters.values())
    kept = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own if parameter.name != "settings"]
    options = [_option(name, field) for name, field in config.model_fields.items() if name != "data"]
    command.__signature__ = inspect.Signature([*kept, *options])  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in [*kept, *options]}
    command.__doc__ = _train.__doc__
    return command


def _option(name: str, field: Any) -> inspect.Parameter:
    kind = _option_type(field.annotation)
    flag = f"--{name.replace('_', '-')}"
    option = typer.Option(
        f"{flag}/--no-{flag[2:]}" if kind is bool else flag, help=f"{field.description}.", show_default=False
    )
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option])


def _option_type(annotation: Any) -> Any:
    """The type of an option's value: of a field that may be None its other type, of a tuple the list of its items."""
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is tuple:
        return list[get_args(annotation)[0]]  # type: ignore[misc]
    return annotation


def _register() -> None:
    # the configuration imports pydantic and yaml only, so that `--help` still comes at once
    from surgicalsam_training.config import TrainingConfig

    app.command("train")(_with_options_of(TrainingConfig))
    app.command("evaluate")(evaluate)


_register()
