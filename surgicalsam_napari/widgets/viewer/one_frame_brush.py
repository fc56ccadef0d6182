"""The brush of the project's labels paints in the frame in view and in no other."""

from __future__ import annotations

from typing import Any

import napari
from napari.layers import Labels
from napari.utils.notifications import show_info
from qtpy.QtCore import QObject

PICTURE_AXES = 2
PAINTING_MODES = ("paint", "fill", "erase", "polygon")
ONE_FRAME = "Instruments are painted in one frame at a time, so “n edit dim” stays at 2."
TURNED = "Painting works in the picture of one frame only. Turn the picture back (Ctrl+E), or leave 3D (Ctrl+Y), to paint."


class OneFrameBrush(QObject):
    """Keeps *n edit dim* of the labels at 2, and painting tools off while the viewer shows other axes than the picture's.

    With three dimensions, or with the axis of time in the picture, one stroke of napari changes many frames.
    """

    def __init__(self, viewer: napari.viewer.Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self._labels: Labels | None = None
        viewer.dims.events.order.connect(self._on_axes)
        viewer.dims.events.ndisplay.connect(self._on_axes)

    def follow(self, labels: Labels) -> None:
        """Keep watch over this layer from now on."""
        if labels is not self._labels:
            self._labels = labels
            labels.events.n_edit_dimensions.connect(self._on_dimensions)
            labels.events.mode.connect(self._on_axes)
        self._on_dimensions()
        self._on_axes()

    def _on_dimensions(self, _event: Any = None) -> None:
        if self._labels is not None and self._labels.n_edit_dimensions != PICTURE_AXES:
            self._labels.n_edit_dimensions = PICTURE_AXES
            show_info(ONE_FRAME)

    def _on_axes(self, _event: Any = None) -> None:
        labels, dims = self._labels, self.viewer.dims
        is_turned = dims.ndisplay != PICTURE_AXES or set(dims.order[-PICTURE_AXES:]) != set(
            range(dims.ndim - PICTURE_AXES, dims.ndim)
        )
        if labels is not None and is_turned and str(labels.mode) in PAINTING_MODES:
            labels.mode = "pan_zoom"
            show_info(TURNED)
