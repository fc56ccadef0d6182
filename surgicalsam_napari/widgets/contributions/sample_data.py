"""napari's File > Open Sample > SurgicalSAM: the surgical phantom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pooch


def phantom_clip() -> Path:
    """The phantom clip in the user's cache folder; created at the first call, with its exact masks next to it."""
    from surgicalsam_napari.phantom import write_phantom_clip

    return write_phantom_clip(Path(pooch.os_cache("surgicalsam-napari")) / "demo")


def open_phantom() -> list[tuple[Any, dict[str, Any], str]]:
    """The clip as one Image layer, without the exact masks: the Labels layer is for the masks that the model predicts."""
    from surgicalsam_napari.widgets.contributions.reader import read_video

    return read_video(str(phantom_clip()))
