"""Pictures and videos with the masks over the frames: how they are drawn, and written to files."""

from __future__ import annotations

from surgicalsam_napari.overlay.drawing import OverlayStyle, draw_overlay
from surgicalsam_napari.overlay.writing import OverlayReport, overlay_frame, write_overlay_picture, write_overlay_video

__all__ = [
    "OverlayReport",
    "OverlayStyle",
    "draw_overlay",
    "overlay_frame",
    "write_overlay_picture",
    "write_overlay_video",
]
