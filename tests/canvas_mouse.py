"""A real mouse in napari's canvas, at pixels of the frame in view."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent, QWheelEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget

LEFT, RIGHT = Qt.MouseButton.LeftButton, Qt.MouseButton.RightButton
NO_MODIFIER = Qt.KeyboardModifier.NoModifier
CTRL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier


class CanvasMouse:
    """Clicks, drags and keys in the canvas of a viewer, whose layers have a scale of 1."""

    def __init__(self, viewer: Any) -> None:
        self._canvas = viewer.window._qt_viewer.canvas

    def click(self, row: float, column: float, button: Qt.MouseButton = LEFT) -> None:
        QTest.mouseClick(self._canvas.native, button, NO_MODIFIER, self._point(row, column))

    def drag(self, start: tuple[float, float], end: tuple[float, float], button: Qt.MouseButton = LEFT) -> None:
        self.press(start, button)
        self.move(start, end, button)
        QTest.mouseRelease(self._canvas.native, button, NO_MODIFIER, self._point(*end))

    def press(self, place: tuple[float, float], button: Qt.MouseButton = LEFT) -> None:
        QTest.mousePress(self._canvas.native, button, NO_MODIFIER, self._point(*place))

    def move(self, start: tuple[float, float], end: tuple[float, float], button: Qt.MouseButton = LEFT) -> None:
        native = self._canvas.native
        for step in np.linspace(start, end, 5)[1:]:
            QTest.qWait(15)  # vispy ignores moves within 10 ms of the last one
            point = self._point(*step)
            position = QPointF(point), QPointF(native.mapToGlobal(point))
            event = QMouseEvent(QEvent.Type.MouseMove, *position, Qt.MouseButton.NoButton, button, NO_MODIFIER)
            QApplication.sendEvent(native, event)

    def key(self, key: Qt.Key, modifiers: Qt.KeyboardModifier = NO_MODIFIER) -> None:
        QTest.keyClick(self._canvas.native, key, modifiers)

    def _point(self, row: float, column: float) -> QPoint:
        view = self._canvas.view
        x, y = (view.transform * view.scene.transform).map([column, row])[:2]
        return QPoint(round(x), round(y))


def turn_wheel(widget: QWidget, notches: int = -1) -> bool:
    """Turn the wheel with the pointer over the middle of a widget; returns whether the widget used it.

    If not, Qt gives a real event to the widget around it. It does not do so for an event that a program sends.
    """
    middle = widget.rect().center()
    event = QWheelEvent(
        QPointF(middle),
        QPointF(widget.mapToGlobal(middle)),
        QPoint(0, 0),
        QPoint(0, 120 * notches),
        Qt.MouseButton.NoButton,
        NO_MODIFIER,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(widget, event)
    return event.isAccepted()
