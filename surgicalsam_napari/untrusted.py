"""Reading files that anybody may have written: a wrong text is a ValueError, and nothing in it grows or waits forever."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import yaml


def plain_file(path: Path) -> Path:
    """The path of a file; an OSError also for a pipe or a device, from which a reader may wait forever."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return path


def without_waiting(path: str, flags: int) -> int:
    """An `opener` for `open`, which does not wait for the writer of a pipe; an OSError for a pipe or a device."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no file", path)
    return descriptor


def read_plain(path: Path) -> bytes:
    """The bytes of a file; an OSError also for a pipe or a device."""
    with open(path, "rb", buffering=0, opener=without_waiting) as file:
        return file.read()


def read_json(path: Path) -> Any:
    """The content of a JSON file in UTF-8, with or without a mark at its start; OSError, ValueError."""
    return json_from(read_plain(path).decode("utf-8-sig"))


def read_yaml(path: Path) -> Any:
    """The content of a YAML file in UTF-8; OSError, ValueError."""
    return yaml_from(read_plain(path).decode("utf-8-sig"))


def json_from(text: str | bytes) -> Any:
    """The value that the text describes; a ValueError if it is no JSON, or is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def yaml_from(text: str) -> Any:
    """The value that the text describes, of plain types; a ValueError if it is no YAML, is too deep, or has aliases."""
    try:
        return yaml.load(text, _Loader)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


class _Loader(yaml.SafeLoader):
    """Without aliases, with which a few lines describe a value of gigabytes, or one that contains itself."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias (*name); write the value itself in its place")
        return super().compose_node(parent, index)
