"""napari's File > Open Sample > SurgicalSAM: the surgical phantom, in two domains."""

from __future__ import annotations

from typing import Any

LayerData = list[tuple[Any, dict[str, Any], str]]


def open_phantom() -> LayerData:
    """The clip as one Image layer, without the exact masks: the Labels layer is for the masks that the model predicts."""
    return _open("first")


def open_unknown_phantom() -> LayerData:
    """The same in the domain that the bundled weights do not know, for a try of Correct and Learn."""
    return _open("second")


def _open(look: str) -> LayerData:
    from surgicalsam_napari.phantom.clip import sample_clip
    from surgicalsam_napari.widgets.contributions.reader import read_video

    return read_video(str(sample_clip(look)))
