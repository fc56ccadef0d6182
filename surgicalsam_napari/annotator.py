"""The name of the person who corrects labels, remembered on this computer."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from platformdirs import user_config_path

from surgicalsam_napari.files import write_file

_FILE = "annotator.txt"


def remembered_annotator() -> str | None:
    """The name; empty if the person gave none, None if nobody was asked yet."""
    try:
        return _file().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None


def remember_annotator(name: str) -> None:
    """Remember a name for the next start; an empty one remembers that the person gave none."""
    file = _file()
    with suppress(OSError):  # a name that cannot be stored is asked again
        file.parent.mkdir(parents=True, exist_ok=True)
        write_file(file, name.strip().encode("utf-8"), staging=file.parent / ".partial")


def _file() -> Path:
    preferences = os.environ.get("SURGICALSAM_PREFERENCES")  # the tests set it
    folder = Path(preferences).parent if preferences else user_config_path("surgicalsam-napari", appauthor=False)
    return folder / _FILE
