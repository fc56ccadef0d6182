"""Whether this machine alone would embed frames faster than a worker over a slow line."""

from __future__ import annotations

from surgicalsam_napari.inference.encoder_speed import guessed_seconds
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.remote.encoder import RemoteEncoder

FEWEST_FRAMES = 8  # before anything is said
CLEARLY_FASTER = 1.5  # this machine's speed is only a guess


def faster_here(model: SurgicalSAM) -> tuple[float, float] | None:
    """Frames a second by the worker, and about how many here, if that is clearly more; None before enough frames.

    This machine's speed is known after `inference.encoder_speed.probe`.
    """
    if not isinstance(model.embedder, RemoteEncoder) or not model.embedder.is_elsewhere:
        return None
    state, seconds = model.embedder.state, guessed_seconds(model.encoder_id, model.device)
    if seconds is None or state.frames < FEWEST_FRAMES or state.frames_per_second is None:
        return None
    there, here = state.frames_per_second, 1 / seconds
    return (there, here) if here > CLEARLY_FASTER * there else None
