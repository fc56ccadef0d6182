"""`surgicalsam classes`: lists the classes of a project, and adds, renames, recolours, reorders or removes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from surgicalsam_napari.cli.commands import app
from surgicalsam_napari.cli.options import AsJson, ExistingProject, existing_project

if TYPE_CHECKING:
    from surgicalsam_napari.store.project_classes import ProjectClasses


@app.command("classes")
def classes(
    project_path: ExistingProject,
    rename: Annotated[
        tuple[str, str] | None, typer.Option("--rename", metavar="OLD NEW", help="Rename a class; its labels stay.")
    ] = None,
    add: Annotated[
        list[str] | None, typer.Option("--add", metavar="NAME", help="Add a class. May be given several times.")
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option("--remove", metavar="NAME", help="Remove a class that labels nothing. May be given several times."),
    ] = None,
    color: Annotated[
        tuple[str, str] | None,
        typer.Option("--color", metavar='NAME "#rrggbb"', help="Give a class another colour."),
    ] = None,
    order: Annotated[
        str | None, typer.Option("--order", metavar="NAMES", help="All names in another order, separated by commas.")
    ] = None,
    parts: Annotated[
        list[str] | None,
        typer.Option(
            "--parts",
            metavar='"CLASS: PARTS"',
            help='The parts that a class has: "Clip Applier: Shaft, Wrist". May be given several times.',
        ),
    ] = None,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Allow a name that another class had before; it then loses this name.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="YAML", help="Write the classes to a file, for --classes.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the classes of a project, after changing them if asked. Labels stay, and old names still match checkpoints.

    The changes are made in the order rename, add, remove, color, order, parts; all of them or none. For the parts
    themselves, give the folder `parts` in the project: `surgicalsam classes clip.surgicalsam/parts --rename Wrist Joint`.
    """
    from surgicalsam_napari.store import Project

    def changed(present: ProjectClasses) -> ProjectClasses:
        if rename is not None:
            old, new = rename
            present = present.renamed(present.in_use.by_name(old).id, new, takes_over=take_over)
        for name in add or ():
            present = present.added(name, takes_over=take_over)
        for name in remove or ():
            present = present.without(present.in_use.by_name(name).id)
        if color is not None:
            present = present.recoloured(present.in_use.by_name(color[0]).id, color[1])
        if order is not None:
            present = present.reordered([present.in_use.by_name(name).id for name in order.split(",")])
        for text in parts or ():
            present = _with_parts(present, text)
        return present

    with Project.open(existing_project(project_path), require_video=False) as project:
        project.change_classes(changed)
        if out is not None:
            project.classes.write_yaml(out)
        if as_json:
            print(json.dumps({"project": str(project.folder), **project.classes.to_json()}, ensure_ascii=False))
            return
        for instrument in project.classes:
            former = f"   formerly {', '.join(instrument.former_names)}" if instrument.former_names else ""
            having = [part.name for part in project.classes.parts_of(instrument.id)]
            print(f"{instrument.id:>3}  {instrument.color}  {instrument.name}{former}{_listed(having)}")


def _listed(parts: list[str]) -> str:
    return f"   parts: {', '.join(parts)}" if parts else ""


def _with_parts(present: ProjectClasses, text: str) -> ProjectClasses:
    """With the parts of one class, from "CLASS: PART, PART"; parts that are new to the project are added."""
    class_name, colon, listed = text.partition(":")
    if not colon:
        raise typer.BadParameter(f'write "CLASS: PART, PART"; got "{text}".', param_hint="--parts")
    class_id, ids = present.in_use.by_name(class_name).id, []
    for name in filter(None, (each.strip() for each in listed.split(","))):
        present = present.part_added(name, [class_id], takes_over=True)
        assert present.in_use.parts is not None
        ids.append(present.in_use.parts.by_name(name).id)
    return present.with_parts_of(class_id, ids)
