"""The preview of a class's new mask, in temporary layers over the frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from napari.layers import Labels, Layer, Points
from napari.utils.colormaps import DirectLabelColormap
from qtpy.QtCore import QObject, Signal

from surgicalsam_napari.editing.regions import window_of
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers

PREVIEW_NAME, CLICKS_NAME = "Preview", "Clicks"
INSIDE, OUTLINE, REMOVED, BOX = 1, 2, 3, 4  # values of the preview layer
INSIDE_OPACITY, REMOVED_OPACITY = 0.55, 0.6
POSITIVE_COLOR, NEGATIVE_COLOR, BOX_COLOR = "#2ecc40", "#ff4136", "#ffdc00"
CLICK_SIZE = 18  # screen pixels at any zoom
LINES_PER_FRAME = 540  # an outline is one pixel wide per this many rows of a frame

Rectangle = tuple[float, float, float, float]  # row, column, row, column of two opposite corners


class PreviewLayer(QObject):
    """A mask in the colour of its class with a white outline, the removed pixels darkened, a box, and the clicks."""

    removed = Signal()  # the user deleted one of the layers

    def __init__(self, layers: ViewerLayers, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.layers = layers
        self._preview: Labels | None = None
        self._clicks: Points | None = None
        self._values = np.zeros((1, 1), np.uint8)
        self._color = ""
        self._is_own_change = False
        layers.viewer.layers.events.removed.connect(self._on_removed)

    @property
    def is_shown(self) -> bool:
        return self._preview is not None

    def show(
        self,
        mask: np.ndarray,
        before: np.ndarray,
        color: str,
        clicks: Sequence[tuple[float, float, bool]] = (),
        box: Rectangle | None = None,
    ) -> None:
        """Draw a new mask over the current one.

        Parameters
        ----------
        mask, before : (H, W) bool, the new and the current mask
        color : of the class, "#rrggbb"
        clicks : row, column, whether positive
        box : in pixels of the frame
        """
        self._values = preview_values(mask, before)
        self._draw(color, box)
        self._show_clicks(clicks)

    def show_box(self, shape: tuple[int, int], color: str, box: Rectangle) -> None:
        """Draw a box that is being dragged over the current preview.

        Parameters
        ----------
        shape : (H, W) of the frame
        """
        if self._values.shape != shape:
            self._values = np.zeros(shape, np.uint8)
        self._draw(color, box)

    def clear(self) -> None:
        """Draw nothing but keep the layers; faster than `hide` if a preview follows soon."""
        if self._preview is not None:
            self._values = np.zeros_like(self._values)
            self._redraw(self._values)

    def hide(self) -> None:
        """Remove the layers from the viewer."""
        self._is_own_change = True
        try:
            for layer in (self._preview, self._clicks):
                if layer is not None and layer in self.layers.viewer.layers:
                    self.layers.viewer.layers.remove(layer)
        finally:
            self._is_own_change = False
        self._preview = self._clicks = None
        self._values = np.zeros((1, 1), np.uint8)

    def _draw(self, color: str, box: Rectangle | None) -> None:
        drawn = self._values if box is None else with_box(self._values, box)
        if self._preview is None or self._preview.data.shape != drawn.shape:
            self._hide_preview()
            self._preview = self._add(Labels(drawn.copy(), name=PREVIEW_NAME, opacity=1.0, colormap=_colormap(color)))
        else:
            if color != self._color:
                self._preview.colormap = _colormap(color)
            self._redraw(drawn)
        self._color = color

    def _redraw(self, values: np.ndarray) -> None:
        # in place, without the thumbnail: setting the layer's data takes several times as long
        assert self._preview is not None
        self._preview.data[...] = values
        self._preview.refresh(thumbnail=False, extent=False)

    def _hide_preview(self) -> None:
        if self._preview is not None:
            self._is_own_change = True
            self.layers.viewer.layers.remove(self._preview)
            self._is_own_change = False
            self._preview = None

    def _show_clicks(self, clicks: Sequence[tuple[float, float, bool]]) -> None:
        if self._clicks is None:
            if not clicks:
                return
            points = Points(np.zeros((0, 2)), name=CLICKS_NAME, size=CLICK_SIZE)
            points.canvas_size_limits = (CLICK_SIZE, CLICK_SIZE)
            self._clicks = self._add(points)
        if not clicks and not len(self._clicks.data):
            return
        with self._clicks.events.blocker_all():  # drawn once at the end, not after each line
            self._clicks.data = np.array([click[:2] for click in clicks], float).reshape(-1, 2)
            if clicks:
                colors = [POSITIVE_COLOR if is_positive else NEGATIVE_COLOR for *_, is_positive in clicks]
                self._clicks.symbol = ["cross" if is_positive else "hbar" for *_, is_positive in clicks]
                self._clicks.face_color = self._clicks.border_color = colors  # napari draws only the border of a cross
            self._clicks.selected_data = set()
        self._clicks.refresh(thumbnail=False)

    def _add(self, layer: Any) -> Any:
        """Add a layer on the grid of the project's labels; the labels stay selected."""
        viewer, labels = self.layers.viewer, self.layers.labels
        if labels is not None:
            layer.scale, layer.translate = labels.scale[-2:], labels.translate[-2:]
        self._is_own_change = True
        try:
            viewer.add_layer(layer)
        finally:
            self._is_own_change = False
        if labels is not None:
            viewer.layers.selection.active = labels
        return layer

    def _on_removed(self, event: Any) -> None:
        layer: Layer = event.value
        if not self._is_own_change and layer in (self._preview, self._clicks):
            self.hide()
            self.removed.emit()


def preview_values(mask: np.ndarray, before: np.ndarray) -> np.ndarray:
    """(H, W) uint8: INSIDE the mask, its inner OUTLINE, and REMOVED pixels of the old mask."""
    values = np.zeros(mask.shape, np.uint8)
    window = window_of(mask | before, margin=1)
    if window is None:
        return values
    mask_part, part = mask[window], values[window]
    part[before[window]] = REMOVED
    part[mask_part] = OUTLINE
    part[_eroded(mask_part, max(round(mask.shape[0] / LINES_PER_FRAME), 1))] = INSIDE
    return values


def with_box(values: np.ndarray, box: Rectangle) -> np.ndarray:
    """A copy with the outline of a box."""
    height, width = values.shape
    top, bottom = sorted(int(np.clip(round(row), 0, height - 1)) for row in (box[0], box[2]))
    left, right = sorted(int(np.clip(round(column), 0, width - 1)) for column in (box[1], box[3]))
    line = max(round(height / LINES_PER_FRAME), 1)
    drawn = values.copy()
    rows, columns = slice(top, bottom + 1), slice(left, right + 1)
    drawn[top : top + line, columns] = drawn[max(bottom + 1 - line, 0) : bottom + 1, columns] = BOX
    drawn[rows, left : left + line] = drawn[rows, max(right + 1 - line, 0) : right + 1] = BOX
    return drawn


def _eroded(mask: np.ndarray, steps: int) -> np.ndarray:
    """The mask without its outermost pixels; the border of the frame does not count as outline."""
    inner = mask.copy()
    for _ in range(steps):
        wide = np.pad(inner, 1, mode="edge")
        inner = inner & wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    return inner


def _colormap(color: str) -> DirectLabelColormap:
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    colors = {
        None: "transparent",
        0: "transparent",
        INSIDE: (red, green, blue, INSIDE_OPACITY),
        OUTLINE: (1.0, 1.0, 1.0, 1.0),
        REMOVED: (0.0, 0.0, 0.0, REMOVED_OPACITY),
        BOX: BOX_COLOR,
    }
    return DirectLabelColormap(color_dict=cast(Any, colors))
