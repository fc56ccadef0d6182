"""The messages of the program as Markdown, from the source: each says what was expected, what was found, and what to do."""

from __future__ import annotations

import ast
from collections import defaultdict
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
            lines += [f"### {error}", "", meaning, "", *(f"- {_escaped(text)}" for text in texts), ""]
    return "\n".join(lines)


def error_classes() -> dict[str, str]:
    """The classes of errors.py, with the first line of their docstrings."""
    nodes = [node for node in tree_of(ERRORS).body if isinstance(node, ast.ClassDef)]
    return {node.name: (ast.get_docstring(node) or "").split("\n")[0] for node in nodes}


def messages() -> Iterator[Message]:
    """Every message of an error: written where it is raised, or in a function that returns it."""
    classes = error_classes()
    trees = [tree_of(path) for package in PACKAGES for path in sorted((TOP / package).rglob("*.py"))]
    returned = defaultdict(list)
    for function in (function for tree in trees for function in functions(tree)):
        returned[function.name] += returned_texts(function)
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in classes and node.args:
            for text in possible_texts(node.args[0], returned):
                if text.replace(GAP, "").strip(" .:;,()"):
                    yield Message(node.func.id, text)


def possible_texts(node: ast.expr, returned: dict[str, list[str]]) -> list[str]:
    """The texts that an expression may be, with gaps for values."""
    if isinstance(node, ast.BoolOp):
        return [text for value in node.values for text in possible_texts(value, returned)]
    if isinstance(node, ast.IfExp):
        return possible_texts(node.body, returned) + possible_texts(node.orelse, returned)
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        return returned.get(name, [])
    return [text_of(node)]


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """The functions and methods that return a text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and isinstance(node.returns, ast.Name) and node.returns.id == "str":
            yield node


def returned_texts(function: ast.FunctionDef) -> list[str]:
    """The texts that a function returns."""
    values = [node.value for node in ast.walk(function) if isinstance(node, ast.Return) and node.value is not None]
    return [text for value in values for text in possible_texts(value, {})]


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


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
    for sign in "\\`*_[]#":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.replace("<", "&lt;").split())
