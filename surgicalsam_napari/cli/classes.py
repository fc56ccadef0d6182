"""`surgicalsam classes`: lists the classes of a project, and adds, renames, recolours, reorders or removes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from surgicalsam_napari.cli.commands import app
from surgicalsam_napari.cli.options import AsJson, ExistingProject, existing_project


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
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Allow a name that another class had before; it then loses this name.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="YAML", help="Write the classes to a file, for --classes.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the classes of a project, after changing them if asked. Labels stay, and old names still match checkpoints.

    The changes are made in the order rename, add, remove, color, order; all of them or none.
    """
    from surgicalsam_napari.store import Project
    from surgicalsam_napari.store.project_classes import ProjectClasses

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
            print(f"{instrument.id:>3}  {instrument.color}  {instrument.name}{former}")
