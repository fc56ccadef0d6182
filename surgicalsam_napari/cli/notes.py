"""`surgicalsam notes`: prints the notes on the frames of a project."""

from __future__ import annotations

import csv
import json
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from surgicalsam_napari.cli.commands import app
from surgicalsam_napari.cli.options import AsJson, ExistingProject, existing_project
from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.formatting import counted


@app.command("notes")
def notes(
    project_path: ExistingProject,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the CSV to this file. Default: print it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the notes on frames as CSV: frame, time, text, annotator, and when it was written."""
    from surgicalsam_napari.store import Project
    from surgicalsam_napari.store.notes import COLUMNS

    with Project.open(existing_project(project_path), require_video=False) as project:
        times = None
        with suppress(ProjectError):  # the video was moved: the notes are listed without times
            times = project.video.frame_times()
        if out is not None:
            count = project.notes.write_csv(out, times)
            record = {"project": str(project.folder), "out": str(out), "notes": count}
            print(json.dumps(record) if as_json else f"{project.folder}: {counted(count, 'note')} written to {out}")
        elif as_json:
            entries = [asdict(note) for note in project.notes.entries()]
            print(json.dumps({"project": str(project.folder), "notes": entries}, ensure_ascii=False))
        else:
            csv.writer(sys.stdout, lineterminator="\n").writerows([COLUMNS, *project.notes.rows(times)])
