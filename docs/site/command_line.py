"""The reference of the command line as Markdown, from the commands themselves."""

from __future__ import annotations

import inspect
import io
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any

import typer

from surgicalsam_napari.cli import app

ARGUMENT = re.compile(r"[A-Z._\[\] ]+(?= <)")  # its name, without the type behind it: its help says what it takes


def reference() -> str:
    """Every command: its usage, what it does, its arguments and options."""
    return "\n".join(line for name, command in commands() for line in _lines(name, command))


def commands() -> Iterator[tuple[str, Any]]:
    """Every command as (what to type, click's command), sorted; a group stands before its commands."""
    yield from _commands_below("surgicalsam", typer.main.get_command(app))


def parameters(command: Any) -> list[Any]:
    """The arguments and options that its help shows."""
    return [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]


def complete_help(command: Any) -> None:
    """Let a command fill in what it only knows when it is asked for help, such as the list of formats."""
    with redirect_stdout(io.StringIO()):
        command.get_help(typer.Context(command))


def _commands_below(name: str, group: Any) -> Iterator[tuple[str, Any]]:
    for word, command in sorted(group.commands.items()):
        complete_help(command)
        yield f"{name} {word}", command
        if hasattr(command, "commands"):
            yield from _commands_below(f"{name} {word}", command)


def _lines(name: str, command: Any) -> Iterator[str]:
    records = [parameter.get_help_record(typer.Context(command, info_name=name)) for parameter in parameters(command)]
    yield from (f"### {name}", "", inspect.cleandoc(command.help or ""), "", "```", _usage(name, command), "```", "")
    rows = [f"| `{_name(usage)}` | {_cell(text)} |" for usage, text in filter(None, records)]
    if rows:
        yield from ("| | |", "| --- | --- |", *rows, "")


def _usage(name: str, command: Any) -> str:
    """As `surgicalsam embed VIDEO... [OPTIONS]`; arguments that may be left out stand in brackets."""
    arguments = [parameter for parameter in parameters(command) if parameter.param_type_name == "argument"]
    names = [parameter.metavar or parameter.name.upper() for parameter in arguments]
    shown = [text if parameter.required else f"[{text}]" for parameter, text in zip(arguments, names, strict=True)]
    return " ".join([name, *shown, "[OPTIONS]"])


def _name(usage: str) -> str:
    """As `--out DIR`, or the name of an argument alone."""
    argument = ARGUMENT.match(usage)
    return usage if argument is None else argument[0]


def _cell(text: str) -> str:
    """Text of a table's cell, which Markdown shows unchanged."""
    text = " ".join(text.split())
    for sign in "\\|[]*_":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("<", "&lt;")
