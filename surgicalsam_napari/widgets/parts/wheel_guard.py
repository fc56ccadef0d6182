"""The mouse wheel changes a dropdown, a number or a slider only after a click on it; else it scrolls the panel."""

from __future__ import annotations

from qtpy.QtCore import QChildEvent, QEvent, QObject, Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QLabel,
    QLineEdit,
    QProgressBar,
    QScrollBar,
    QTabBar,
    QWidget,
)

GUARDED = (QComboBox, QAbstractSpinBox, QAbstractSlider, QTabBar)
LEAVES = (QLabel, QAbstractButton, QLineEdit, QProgressBar)  # contain no fields; each watched widget costs time


class WheelGuard(QObject):
    """Ignores the wheel over fields without the keyboard focus, in some windows and in all that they contain.

    Fields, forms and dialogs that are made later are guarded, too: each widget reports its new children.

    Parameters
    ----------
    roots : the widgets to guard, with all widgets and dialogs in them
    """

    def __init__(self, *roots: QWidget) -> None:
        super().__init__(roots[0])
        for root in roots:
            self.watch(root)

    def watch(self, widget: QWidget) -> None:
        """Guard a widget and everything in it."""
        for each in (widget, *widget.findChildren(QWidget)):
            if isinstance(each, LEAVES):
                continue
            each.installEventFilter(self)  # installing it again has no effect
            if _is_guarded(each) and each.focusPolicy() == Qt.FocusPolicy.WheelFocus:
                each.setFocusPolicy(Qt.FocusPolicy.StrongFocus)  # else Qt gives it the focus when the wheel turns

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Wheel and isinstance(watched, QWidget) and _is_guarded(watched):
            if not watched.hasFocus():
                event.ignore()  # Qt gives it to the widget around it, which scrolls
                return True
        elif event.type() == QEvent.Type.ChildPolished and isinstance(event, QChildEvent):
            child = event.child()
            if isinstance(child, QWidget):
                self.watch(child)
        return False


def _is_guarded(widget: QWidget) -> bool:
    return isinstance(widget, GUARDED) and not isinstance(widget, QScrollBar)
