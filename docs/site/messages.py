"""The messages of the program as Markdown, from the source: each says what was expected, what was found, and what to do."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

TOP = Path(__file__).resolve().parents[2]
PACKAGES = ("surgicalsam_napari", "training/surgicalsam_training")
ERRORS = TOP / "surgicalsam_napari/errors.py"
GAP = "…"  # for a value that is only known when the error happens


class Message(NamedTuple):
    """A message in the source: the name of its error class, and its text with gaps for values."""

    error: str
    text: str


def reference() -> str:
    """All messages, grouped by error class."""
    found = sorted(set(messages()))
    lines = []
    for error, meaning in error_classes().items():
        texts = [message.text for message in found if message.error == error]
        if texts:
            lines += [f"### {error}", "", meaning, "", f'??? note "{len(texts)} messages"', ""]
            lines += [*(f"    - {_escaped(text)}" for text in texts), ""]
    return "\n".join(lines)


def error_classes() -> dict[str, str]:
    """The classes of errors.py, with the first line of their docstrings."""
    nodes = [node for node in ast.parse(ERRORS.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)]
    return {node.name: (ast.get_docstring(node) or "").split("\n")[0] for node in nodes}


def messages() -> Iterator[Message]:
    """Every message that is written where its error is raised."""
    classes = error_classes()
    for path in (path for package in PACKAGES for path in sorted((TOP / package).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in classes and node.args:
                text = text_of(node.args[0])
                if text.replace(GAP, "").strip(" .:;,()"):
                    yield Message(node.func.id, text)


def all_texts(paths: Iterable[Path]) -> Iterator[str]:
    """Every text in the source, with gaps for values."""
    for path in paths:
        yield from (
            text_of(node) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.expr)
        )


def text_of(node: ast.expr) -> str:
    """The text of a string, an f-string or a sum of both, with gaps for values."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text_of(node.left) + text_of(node.right)
    return GAP


def _escaped(text: str) -> str:
    """The text as Markdown shows it unchanged."""
    for sign in "\\`*_[]<>#":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
