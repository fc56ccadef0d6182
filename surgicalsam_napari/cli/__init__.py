"""The command line `surgicalsam`: `embed`, `segment`, `export`, `import`, `convert`, `learn`, `train`, `evaluate` …"""

from __future__ import annotations

from typer.models import CommandInfo, TyperInfo

from surgicalsam_napari.cli import (  # noqa: F401  (imported to register their commands)
    backup,
    baselines,
    check,
    classes,
    evaluate,
    exchange,
    experiments,
    export,
    fill,
    learn,
    notes,
    overlay,
    statistics,
    track,
    training,
    work_log,
    worker,
)
from surgicalsam_napari.cli.commands import app, main

__all__ = ["GROUPS", "app", "main"]

GROUPS = {  # of the commands, in the order of `surgicalsam --help`
    "Segment a video": ("demo", "segment", "track", "fill", "embed", "info"),
    "Learn from corrections": ("learn", "train", "evaluate", "models"),
    "Labels in and out": ("import", "export", "convert", "overlay"),
    "Look after a project": ("classes", "statistics", "notes", "log", "check", "backup", "restore"),
    "Other machines": ("worker",),
    "Research": ("experiment", "baseline", "text-prototypes"),
}


def _group_commands() -> None:
    groups = {name: group for group, names in GROUPS.items() for name in names}
    order = list(groups)
    entries: list[CommandInfo | TyperInfo] = [*app.registered_commands, *app.registered_groups]
    for entry in entries:
        entry.rich_help_panel = groups[_name(entry)]
    app.registered_commands.sort(key=lambda entry: order.index(_name(entry)))


def _name(entry: CommandInfo | TyperInfo) -> str:
    return str(entry.name or entry.callback.__name__)  # type: ignore[union-attr]


_group_commands()
