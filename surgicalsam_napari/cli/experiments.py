"""`surgicalsam experiment`: reproduces the tables and figures of the paper, one command each."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from surgicalsam_napari.cli.commands import app
from surgicalsam_napari.cli.options import AsJson
from surgicalsam_napari.cli.terminal import progress
from surgicalsam_napari.formatting import in_time

if TYPE_CHECKING:
    from surgicalsam_training.experiments.catalogue import Experiment, Outcome
    from surgicalsam_training.experiments.setting import Setting
    from surgicalsam_training.experiments.stage import Stage

ALL = "all"


@app.command("experiment")
def experiment(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="table1 to table7, fig2, figures, or all."),
    ],
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[DATA]...",
            help="One dataset each: EndoVis in the authors' layout or as distributed, an exported dataset, or a project.",
        ),
    ] = None,
    *,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for trainings, tables and figures. A stopped run resumes.")
    ],
    phantom: Annotated[
        bool, typer.Option("--phantom", help="Run a small version, on synthetic scenes with the light weights.")
    ] = False,
    together: Annotated[bool, typer.Option("--together", help="Use all DATA as one dataset.")] = False,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset", metavar="NAME", help="Training preset. Default: endovis2018 or endovis2017, by the classes."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of `surgicalsam train`. May be given several times."),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(
            "--text",
            metavar="TEXT",
            help="table1, table2: text embeddings of the class names (.npy, .safetensors), or a folder with CLIP weights.",
        ),
    ] = None,
    docs: Annotated[
        Path | None, typer.Option("--docs", metavar="DIR", help="Also write the results into experiments.md in this folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Reproduce a table or a figure of the SurgicalSAM paper. Results that are already in DIR are used again.

    Trainings follow the paper (presets endovis2018 and endovis2017).

    With --phantom everything takes less than an hour.
    It shows what the results look like, not how good the method is on surgical video.
    """
    from surgicalsam_training.experiments.catalogue import EXPERIMENTS, experiment_named, written
    from surgicalsam_training.experiments.page import update_page

    chosen = list(EXPERIMENTS.values()) if name == ALL else [experiment_named(name)]
    if phantom and (data or preset or together or text):
        raise typer.BadParameter("do not combine it with DATA, --together, --preset or --text.", param_hint="--phantom")
    if not phantom and not data:
        raise typer.BadParameter("give your copy of EndoVis or other data, or use --phantom.", param_hint="DATA")
    files: list[Path] = []
    for one in chosen:
        count = 1 if together else len(data or [])
        if not phantom and name != ALL and not one.fewest <= count <= one.most:
            needed = f"{one.fewest}" if one.fewest == one.most else f"{one.fewest} to {one.most}"
            raise typer.BadParameter(
                f"datasets for {one.name}: {needed} needed, got {count}; --together uses all DATA as one dataset.",
                param_hint="DATA",
            )
        setting = _setting(one, data or [], out, phantom, together, preset, settings or [], text)
        if name == ALL and not one.fits(setting):
            needed = "EndoVis 2017" if one.needs_folds else f"{one.fewest} datasets"
            print(f"{one.name} is skipped: it needs {needed}", file=sys.stderr)
            continue
        outcome = _run(one, setting)
        files += written(outcome, setting)
        if docs is not None:
            update_page(docs, outcome, _command(one, data or [], phantom, together, preset, settings or [], text))
        if not as_json:
            _show(outcome)
    if as_json:
        print(json.dumps({"files": [str(file) for file in files]}))


def _setting(
    one: Experiment,
    data: list[Path],
    out: Path,
    phantom: bool,
    together: bool,
    preset: str | None,
    settings: list[str],
    text: Path | None,
) -> Setting:
    from surgicalsam_training.experiments.phantom_setting import phantom_setting
    from surgicalsam_training.experiments.setting import data_setting

    if phantom:
        return _with_stages(phantom_setting(out, settings, one.phantom_sets), "phantom")
    return data_setting(data, out, preset_name=preset, settings=settings, together=together, text=text)


def _run(one: Experiment, setting: Setting) -> Outcome:
    from surgicalsam_training.experiments.catalogue import run_experiment

    started = time.monotonic()
    outcome = _with_stages(run_experiment(one, setting), one.name)
    print(f"{one.name}, {one.title}: {in_time(time.monotonic() - started)}", file=sys.stderr, flush=True)
    return outcome


def _with_stages(stages: Generator[Stage, None, Any], name: str) -> Any:
    """The generator's return value; shows a bar for each stage on stderr, or a line if stderr is no terminal."""
    shown = ""
    with closing(stages), ExitStack() as bar:
        while True:
            try:
                stage = next(stages)
            except StopIteration as end:
                return end.value
            if stage.title != shown:
                bar.close()
                shown = stage.title
                if sys.stderr.isatty():
                    advance = bar.enter_context(progress())
                else:
                    print(f"{name}: {shown}", file=sys.stderr, flush=True)
            if sys.stderr.isatty():
                advance(f"{name}: {stage.title}", stage.done, stage.total)


def _command(
    one: Experiment,
    data: list[Path],
    phantom: bool,
    together: bool,
    preset: str | None,
    settings: list[str],
    text: Path | None,
) -> str:
    """The command as a reader types it, with names of folders instead of full paths."""
    inputs = ["--phantom"] if phantom else [path.name for path in data]
    options = ["--together"] * together
    options += [*(["--preset", preset] if preset else []), *(part for value in settings for part in ("--set", value))]
    options += ["--text", text.name] if text else []
    out = "runs/phantom" if phantom else "runs/paper"
    return " ".join(["surgicalsam", "experiment", one.name, *inputs, *options, "--out", out])


def _show(outcome: Outcome) -> None:
    from surgicalsam_training.scoring.tables import to_markdown

    if outcome.table is not None:
        print(to_markdown(outcome.table))
    for figure in outcome.figures:
        print(f"{figure.path}: {figure.caption}")
