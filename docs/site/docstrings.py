"""A griffe extension: in our docstrings the text behind "name :" is a description; the type is that of the signature."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from textwrap import indent
from typing import Any

import griffe

SECTION = re.compile(r"^(\w+)\n-{3,}\n(.*?)(?=^\w+\n-{3,}\n|\Z)", re.DOTALL | re.MULTILINE)
ITEM = re.compile(r"^([\w, .*]+?) : ", re.MULTILINE)


class Descriptions(griffe.Extension):
    """Rewrites docstrings before they are parsed."""

    def on_package(self, *, pkg: griffe.Module, **_options: Any) -> None:
        """Called when a whole package was read."""
        for item in _with_members(pkg):
            if item.docstring is not None:
                item.docstring.value = SECTION.sub(partial(_described, item), item.docstring.value)


def _with_members(item: Any) -> Iterator[Any]:
    yield item
    for member in item.members.values():
        if not member.is_alias:
            yield from _with_members(member)


def _described(item: Any, section: re.Match[str]) -> str:
    title, body = section[1], section[2]
    if title in ("Parameters", "Attributes"):
        body = ITEM.sub(r"\1\n    ", body)
    elif title == "Signals":
        body = ITEM.sub(r"- `\1`: ", body)
    elif title == "Returns" and "Generator" not in str(_returned(item)):
        body = f"{_returned(item)}\n{indent(body.strip(), '    ')}\n\n" if _returned(item) else body
    return f"{title}\n{'-' * len(title)}\n{body}"


def _returned(item: Any) -> object:
    """The annotation of what a function returns, or of a property."""
    return getattr(item, "returns", None) or getattr(item, "annotation", None)
