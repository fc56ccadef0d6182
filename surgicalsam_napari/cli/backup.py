"""`surgicalsam backup` and `restore`: a project in one file with checksums, and a project from such a file."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from surgicalsam_napari.cli.commands import app
from surgicalsam_napari.cli.options import AsJson, ExistingProject, existing_project
from surgicalsam_napari.cli.terminal import progress
from surgicalsam_napari.formatting import in_bytes

if TYPE_CHECKING:
    from surgicalsam_napari.store.backup import BackupReport


@app.command("backup")
def backup(
    project_path: ExistingProject,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, such as clip.surgicalsam.zip.")],
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="Also the embeddings, which can be computed again; several MB per frame.")
    ] = False,
    damaged: Annotated[bool, typer.Option("--damaged", help="Also if the project is damaged.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a project to one file: labels, history, snapshots, notes, work log, learned checkpoints; not the video."""
    from surgicalsam_napari.store import Project
    from surgicalsam_napari.store.backup import backing_up

    with Project.open(existing_project(project_path), require_video=False) as project:
        _run(backing_up(project, file, embeddings=embeddings, damaged=damaged, overwrite=overwrite), project.folder.name)
        record = {"project": str(project.folder), "file": str(file), "bytes": file.stat().st_size}
    print(json.dumps(record) if as_json else f"{record['project']}: backed up to {file} ({in_bytes(file.stat().st_size)})")


@app.command("restore")
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `surgicalsam backup` wrote.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="New folder for the project, such as clip.surgicalsam.")],
    as_json: AsJson = False,
) -> None:
    """Make a project from a backup. A damaged backup is refused; an existing project is never replaced."""
    from surgicalsam_napari.store.backup import restoring

    _run(restoring(file, folder), file.name)
    print(json.dumps({"file": str(file), "project": str(folder)}) if as_json else f"{file}: restored to {folder}")


def _run(reports: Generator[BackupReport, None, Path], name: str) -> None:
    titles = {"check": f"checking {name}", "write": f"writing {name}", "restore": f"restoring {name}"}
    with progress() as advance:
        for report in reports:
            advance(titles[report.what], report.done, report.total)
