"""Label maps as indexed PNG, one per frame, coloured by palette; classes.json beside them names the classes."""

from __future__ import annotations

import errno
import io
import json
import os
from pathlib import Path

import numpy as np
from PIL import Image

from surgicalsam_napari.errors import DiskSpaceError, ProjectError
from surgicalsam_napari.instruments import ClassSet


def write_classes(folder: Path, classes: ClassSet, video_name: str) -> Path:
    """Write `classes.json`: the video's name, and id, name and colour of each class; makes the folder if need be."""
    record = {"video": video_name, "background": 0, **classes.to_json()}
    return _write(folder / "classes.json", (json.dumps(record, indent=2) + "\n").encode())


def write_label_map(folder: Path, frame_index: int, label_map: np.ndarray, classes: ClassSet) -> Path:
    """Write `frame_00012.png`.

    Parameters
    ----------
    label_map : (H, W) uint8, class ids; these are the values in the file, too

    Raises
    ------
    ProjectError, DiskSpaceError
        the folder cannot be written; a file that was there before stays as it is
    """
    image = Image.fromarray(np.ascontiguousarray(label_map, np.uint8)).convert("P")
    image.putpalette(_palette(classes))
    buffer = io.BytesIO()
    image.save(buffer, "png", optimize=False)
    return _write(folder / f"frame_{frame_index:05d}.png", buffer.getvalue())


def _palette(classes: ClassSet) -> list[int]:
    colors = np.zeros((256, 3), np.uint8)
    for instrument in classes:
        colors[instrument.id] = instrument.rgb
    return colors.ravel().tolist()


def _write(path: Path, content: bytes) -> Path:
    """Whole or not at all."""
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        if path.parent.is_dir():
            partial.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskSpaceError(f"No space is left to write {path}. Free some, or choose another folder.") from error
        raise ProjectError(f"{path} cannot be written ({error.strerror}). Choose a folder you may write to.") from error
    return path
