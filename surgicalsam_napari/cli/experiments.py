"""`surgicalsam experiment`: the paper's tables and figures by one command each."""

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

if TYPE_CHECKING:
    from surgicalsam_training.experiments.catalogue import Experiment, Outcome
    from surgicalsam_training.experiments.setting import Setting
    from surgicalsam_training.experiments.stage import Stage

ALL = "all"


@app.command("experiment")
def experiment(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="table1, fig2, table3, table4, table5, table6, table7, figures, or all."),
    ],
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[DATA]...",
            help="Each one dataset: EndoVis in the authors' layout or as distributed, an exported dataset, a project.",
        ),
    ] = None,
    *,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Trainings, tables and figures; goes on if stopped.")],
    phantom: Annotated[bool, typer.Option("--phantom", help="The small version, on drawn scenes and demo weights.")] = False,
    together: Annotated[bool, typer.Option("--together", help="All DATA are one dataset.")] = False,
    preset: Annotated[
        str | None,
        typer.Option("--preset", metavar="NAME", help="Of the trainings; by default endovis2017 or 2018, by the classes."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of `surgicalsam train`. May be given several times."),
    ] = None,
    docs: Annotated[
        Path | None, typer.Option("--docs", metavar="DIR", help="Also write the results into experiments.md there.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Redo a table or a figure of the SurgicalSAM paper. What was computed before in DIR is not computed again.

    Trainings follow the paper (presets endovis2018 and endovis2017). With --phantom everything takes less than an hour, and
    shows how the results look, not how good the method is on surgery.
    """
    from surgicalsam_training.experiments.catalogue import EXPERIMENTS, experiment_named, written
    from surgicalsam_training.experiments.page import update_page

    chosen = list(EXPERIMENTS.values()) if name == ALL else [experiment_named(name)]
    if phantom and (data or preset or together):
        raise typer.BadParameter("it takes neither DATA, --together nor --preset.", param_hint="--phantom")
    if not phantom and not data:
        raise typer.BadParameter("name your copy of EndoVis, or other data; or take --phantom.", param_hint="DATA")
    files: list[Path] = []
    for one in chosen:
        count = 1 if together else len(data or [])
        if not phantom and name != ALL and not one.fewest <= count <= one.most:
            takes = f"{one.fewest}" if one.fewest == one.most else f"{one.fewest} to {one.most}"
            raise typer.BadParameter(
                f"{one.name} takes {takes} of them, got {count}; --together takes all DATA as one dataset.",
                param_hint="DATA",
            )
        if not phantom and count < one.fewest:
            print(f"{one.name} is left out: it takes {one.fewest} datasets", file=sys.stderr)
            continue
        setting = _setting(data or [], out, phantom, together, preset, settings or [])
        outcome = _run(one, setting)
        files += written(outcome, setting)
        if docs is not None:
            update_page(docs, outcome, _command(one, data or [], phantom, together, preset, settings or []))
        if not as_json:
            _show(outcome)
    if as_json:
        print(json.dumps({"files": [str(file) for file in files]}))


def _setting(data: list[Path], out: Path, phantom: bool, together: bool, preset: str | None, settings: list[str]) -> Setting:
    from surgicalsam_training.experiments.phantom_setting import phantom_setting
    from surgicalsam_training.experiments.setting import data_setting

    if phantom:
        return _told(phantom_setting(out, settings), "phantom")
    return data_setting(data, out, preset_name=preset, settings=settings, together=together)


def _run(one: Experiment, setting: Setting) -> Outcome:
    from surgicalsam_training.experiments.catalogue import run_experiment

    started = time.monotonic()
    outcome = _told(run_experiment(one, setting), one.name)
    print(f"{one.name}, {one.title}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return outcome


def _told(stages: Generator[Stage, None, Any], name: str) -> Any:
    """What the generator returns; on the way a bar for each stage on stderr, or a line where that is no terminal."""
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
    one: Experiment, data: list[Path], phantom: bool, together: bool, preset: str | None, settings: list[str]
) -> str:
    """As a reader types it, with names of folders rather than this machine's paths."""
    where = ["--phantom"] if phantom else [path.name for path in data]
    options = ["--together"] * together
    options += [*(["--preset", preset] if preset else []), *(part for text in settings for part in ("--set", text))]
    out = "runs/phantom" if phantom else "runs/paper"
    return " ".join(["surgicalsam", "experiment", one.name, *where, *options, "--out", out])


def _show(outcome: Outcome) -> None:
    from surgicalsam_training.scoring.tables import to_markdown

    if outcome.table is not None:
        print(to_markdown(outcome.table))
    for figure in outcome.figures:
        print(f"{figure.path}: {figure.caption}")
