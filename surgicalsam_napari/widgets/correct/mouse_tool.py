"""Clicks and boxes in the canvas, in pixels of the frame in view; the brush is off while a tool is on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from napari.layers import Labels
from qtpy.QtCore import QObject, Signal

from surgicalsam_napari.widgets.viewer.layers import ViewerLayers

PAN_ZOOM = "pan_zoom"
CLICK_TOLERANCE = 4.0  # canvas pixels that the mouse may move between press and release of a click
LEFT, RIGHT = 1, 2  # vispy's numbers of the mouse buttons


class MouseTool(QObject):
    """Reads the mouse while it is on. At most one tool is on in a viewer; choosing the brush switches it off.

    A click is a press and a release at one place. Dragging and the wheel still move and zoom the canvas. A quick second
    click counts as a click and does not zoom. Ctrl and drag draws a box.
    """

    clicked = Signal(float, float, bool)  # row, column; True for the left button without Shift
    box_dragged = Signal(float, float, float, float, bool)  # row, column, row, column; True when the button is released
    hovered = Signal(float, float)  # row, column
    switched = Signal(bool)

    def __init__(self, layers: ViewerLayers, parent: QObject | None = None, *, draws_boxes: bool = False) -> None:
        super().__init__(parent)
        self.layers = layers
        self.draws_boxes = draws_boxes
        self._labels: Labels | None = None  # the layer whose brush is off
        self._mode_before = PAN_ZOOM
        self._double_click_before: list[Callable] = []
        layers.layer_removed.connect(self._on_layer_removed)

    @property
    def is_on(self) -> bool:
        return self._labels is not None

    def switch(self, is_on: bool) -> None:
        """On: switch off other tools and the brush. Off: restore the layer's mode."""
        if is_on and not self.is_on and self.layers.labels is not None:
            self._switch_on(self.layers.labels)
        elif not is_on and self.is_on:
            self._switch_off(restore_mode=True)

    def _switch_on(self, labels: Labels) -> None:
        viewer = self.layers.viewer
        for callback in list(viewer.mouse_drag_callbacks):
            other = getattr(callback, "__self__", None)
            if isinstance(other, MouseTool):
                other.switch(False)
        self._labels, self._mode_before = labels, str(labels.mode)
        viewer.layers.selection.active = labels
        labels.mode = PAN_ZOOM
        labels.cursor = "cross"
        labels.events.mode.connect(self._on_mode)
        self._double_click_before = list(viewer.mouse_double_click_callbacks)
        viewer.mouse_double_click_callbacks[:] = [self._on_double_click]
        viewer.mouse_drag_callbacks.append(self._on_drag)
        viewer.mouse_move_callbacks.append(self._on_move)
        self.switched.emit(True)

    def _switch_off(self, *, restore_mode: bool) -> None:
        labels, self._labels = self._labels, None
        assert labels is not None
        viewer = self.layers.viewer
        viewer.mouse_double_click_callbacks[:] = self._double_click_before
        viewer.mouse_drag_callbacks.remove(self._on_drag)
        viewer.mouse_move_callbacks.remove(self._on_move)
        labels.events.mode.disconnect(self._on_mode)
        if restore_mode:
            labels.cursor = "standard"
            labels.mode = self._mode_before
        self.switched.emit(False)

    def _on_mode(self) -> None:
        if self._labels is not None and str(self._labels.mode) != PAN_ZOOM:
            self._switch_off(restore_mode=False)  # the user has chosen the brush

    def _on_layer_removed(self, layer: object) -> None:
        if layer is self._labels:
            self._switch_off(restore_mode=False)

    # The mouse ----------------------------------------------------------------------------------------------------------

    def _on_drag(self, _viewer: Any, event: Any) -> Iterator[None]:
        """Handle one press up to its release: a click, a box, or a drag for napari."""
        if not self._is_for_tool(event):
            return
        pressed_at, row_column = event.pos, self._row_column(event)
        is_positive, is_box = self._is_positive(event), self.draws_boxes and "Control" in event.modifiers
        has_moved = False
        yield
        while event.type == "mouse_move":
            has_moved = has_moved or _distance(pressed_at, event.pos) > CLICK_TOLERANCE
            if is_box and has_moved:
                event.handled = True
                self.box_dragged.emit(*row_column, *self._row_column(event), False)
            yield
        if is_box and has_moved:
            self.box_dragged.emit(*row_column, *self._row_column(event), True)
        elif not has_moved and not is_box and self._is_inside(row_column):
            self.clicked.emit(*row_column, is_positive)

    def _on_double_click(self, _viewer: Any, event: Any) -> None:
        # Qt sends the second of two quick clicks as a double click instead of a press
        if self._is_for_tool(event) and "Control" not in event.modifiers and self._is_inside(self._row_column(event)):
            self.clicked.emit(*self._row_column(event), self._is_positive(event))

    def _on_move(self, _viewer: Any, event: Any) -> None:
        if self._is_2d(event):
            self.hovered.emit(*self._row_column(event))

    def _is_for_tool(self, event: Any) -> bool:
        """Whether this press is for the tool: 2D view, no layer tool in use, no Alt (which zooms)."""
        active = self.layers.viewer.layers.selection.active
        is_idle = active is None or str(active.mode) == PAN_ZOOM
        return event.button in (LEFT, RIGHT) and is_idle and "Alt" not in event.modifiers and self._is_2d(event)

    def _is_2d(self, event: Any) -> bool:
        last_two = [len(event.position) - 2, len(event.position) - 1]
        return self._labels is not None and list(event.dims_displayed) == last_two

    @staticmethod
    def _is_positive(event: Any) -> bool:
        return event.button == LEFT and "Shift" not in event.modifiers

    def _row_column(self, event: Any) -> tuple[float, float]:
        assert self._labels is not None
        _, row, column = self._labels.world_to_data(event.position)
        return float(row), float(column)

    def _is_inside(self, row_column: tuple[float, float]) -> bool:
        assert self._labels is not None
        height, width = self._labels.data.shape[-2:]
        row, column = row_column
        return -0.5 <= row < height - 0.5 and -0.5 <= column < width - 0.5


def _distance(first: Any, second: Any) -> float:
    return max(abs(float(a) - float(b)) for a, b in zip(first[:2], second[:2], strict=True))
