"""`surgicalsam check`: compares every file of a project with its checksum, names what is damaged, and restores it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from surgicalsam_napari.cli.commands import app
from surgicalsam_napari.cli.damage import damage_lines, damage_of, damage_record
from surgicalsam_napari.cli.options import AsJson, ExistingProject, existing_project
from surgicalsam_napari.formatting import counted

if TYPE_CHECKING:
    from surgicalsam_napari.store import Project
    from surgicalsam_napari.store.checking import Damage


FILES = "files"  # in place of frames: the files that belong to no frame


@app.command("check")
def check(
    project_path: ExistingProject,
    repair: Annotated[
        bool, typer.Option("--repair", help="Restore what is found unchanged in the history or in a snapshot.")
    ] = False,
    accept_frames: Annotated[
        str | None,
        typer.Option(
            "--accept",
            metavar="FRAMES",
            help='Keep these damaged frames as they are now; "files": project.json, notes.json, work.csv and the history.',
        ),
    ] = None,
    clear_frames: Annotated[
        str | None,
        typer.Option("--clear", metavar="FRAMES", help="Empty these damaged frames; their files go to the folder damaged."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check all files of a project. Ends with 1 if something is damaged that was not restored."""
    from surgicalsam_napari.store import Project

    with Project.open(existing_project(project_path), require_video=False) as project:
        record: dict[str, Any] = {"project": str(project.folder), "frames": len(project.labels)}
        record |= _decided(project, accept_frames, clear_frames)
        found = damage_of(project, repair=repair)
        record["damaged"] = [damage_record(damage) for damage in found if not damage.restored_from]
        record["restored"] = [damage_record(damage) for damage in found if damage.restored_from]
    print(json.dumps(record) if as_json else _text(record, found))
    if record["damaged"]:
        raise typer.Exit(1)


def _decided(project: Project, accept_frames: str | None, clear_frames: str | None) -> dict[str, list[int]]:
    from surgicalsam_napari.inference.frame_selection import parse_frames
    from surgicalsam_napari.store.checking import accept, accept_files, clear

    count = len(project.labels)
    if accept_frames == FILES:
        accept_files(project)
        accept_frames = None
    accepted = [] if accept_frames is None else accept(project, parse_frames(accept_frames, count))
    cleared = [] if clear_frames is None else clear(project, parse_frames(clear_frames, count))
    return {"accepted": accepted, "cleared": cleared}


def _text(record: dict[str, Any], found: tuple[Damage, ...]) -> str:
    lines = [f"frame {index}: kept as it is" for index in record["accepted"]]
    lines += [f"frame {index}: emptied" for index in record["cleared"]]
    lines += damage_lines(found)
    counts = f"{counted(record['frames'], 'frame')} checked"
    if found:
        counts += f", {len(record['damaged']):,} damaged files, {len(record['restored']):,} restored"
    else:
        counts += ", nothing is damaged"
    return "\n".join([*lines, f"{record['project']}: {counts}"])
