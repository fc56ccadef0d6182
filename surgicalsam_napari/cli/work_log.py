"""`surgicalsam log`: prints how much work a person did on each frame of a project."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from surgicalsam_napari.cli.commands import app
from surgicalsam_napari.cli.options import AsJson, ExistingProject, existing_project
from surgicalsam_napari.formatting import counted


@app.command("log")
def work_log(
    project_path: ExistingProject,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the CSV to this file. Default: print it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the work on each frame as CSV: seconds of work, strokes, changed pixels, annotators."""
    from surgicalsam_napari.store import Project
    from surgicalsam_napari.store.work_log import COLUMNS

    with Project.open(existing_project(project_path), require_video=False) as project:
        log = project.work_log
        if out is not None:
            count = log.write_csv(out)
            record = {"project": str(project.folder), "out": str(out), "frames": count}
            print(json.dumps(record) if as_json else f"{project.folder}: work on {counted(count, 'frame')} written to {out}")
        elif as_json:
            print(json.dumps({"project": str(project.folder), "work": [asdict(work) for work in log.per_frame()]}))
        else:
            csv.writer(sys.stdout, lineterminator="\n").writerows([COLUMNS, *log.rows()])
