"""What a folder or file looks like that no dataset format recognizes, and what to do."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from surgicalsam_napari.exchange.files import folders_in
from surgicalsam_napari.video import is_video
from surgicalsam_napari.video.image_folder import IMAGE_SUFFIXES

FILES_LISTED = 5000
KINDS_SHOWN = 4
FOLDERS_TRIED = 30
LARGEST_JSON = 50_000_000  # bytes; larger files are not read for a message
_ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"}


def what_it_looks_like(path: Path, title_of: Callable[[Path], str | None]) -> str:
    """One or two sentences about a path that is not a dataset, for the user.

    Parameters
    ----------
    title_of : the title of the format that recognizes a path; None if no format does
    """
    if path.is_file():
        return _about_file(path)
    if path.suffix == ".surgicalsam":
        return "It is a project of this program: export its labels first (`surgicalsam export`)."
    for near in (path.parent, *folders_in(path)[:FOLDERS_TRIED]):
        if (title := title_of(near)) is not None:
            return f"The folder {near} looks like {title}: choose that one."
    kinds = Counter(file.suffix.lower() or "no suffix" for file in islice(_files(path), FILES_LISTED))
    if not kinds:
        return "The folder is empty. Choose the folder that contains the labels."
    listed = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(KINDS_SHOWN))
    if set(kinds) & _ARCHIVES:
        return f"It contains {listed}. Unpack the archive, and choose the unpacked folder."
    if set(kinds) <= set(IMAGE_SUFFIXES):
        return (
            f"It contains only colour pictures ({listed}), but no labels. Choose the folder that also contains the labels, "
            "or open this one as a video."
        )
    return f"It contains {listed}."


def _about_file(path: Path) -> str:
    if path.suffix.lower() in _ARCHIVES:
        return "It is an archive: unpack it, and choose the unpacked folder."
    if is_video(path):
        return "It is a video: choose the file or the folder of the labels."
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return f"It is a single picture: choose its folder, {path.parent}."
    if path.suffix.lower() == ".json":
        return _about_json(path)
    return f"It is a file of the kind {path.suffix or path.name}."


def _about_json(path: Path) -> str:
    if path.stat().st_size > LARGEST_JSON:
        return "It is a JSON file of another kind."
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError:
        return "It is damaged: it is not valid JSON. Restore it, or export it again."
    if isinstance(content, dict):
        return f"It is a JSON file with {', '.join(list(content)[:6]) or 'nothing'}."
    return f"It is a JSON file with {f'a list of {len(content):,} entries' if isinstance(content, list) else 'one value'}."


def _files(folder: Path) -> Iterator[Path]:
    for place, _folders, names in os.walk(folder):
        yield from (Path(place, name) for name in names if not name.startswith("."))
