"""napari's File > Open Sample > SurgicalSAM: the surgical phantom."""

from __future__ import annotations

from typing import Any


def open_phantom() -> list[tuple[Any, dict[str, Any], str]]:
    """The clip as one Image layer, without the exact masks: the Labels layer is for the masks that the model predicts."""
    from surgicalsam_napari.phantom.clip import sample_clip
    from surgicalsam_napari.widgets.contributions.reader import read_video

    return read_video(str(sample_clip()))
