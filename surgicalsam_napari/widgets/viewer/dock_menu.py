"""Entries of napari's View menu that show and hide docks; the x of such a dock hides it, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import napari
from qtpy.compat import isalive
from qtpy.QtCore import QObject
from qtpy.QtGui import QAction
from qtpy.QtWidgets import QDockWidget, QWidget


def dock_around(widget: QWidget) -> QDockWidget | None:
    """The dock that holds this widget; None if it is not docked."""
    parent = widget.parentWidget()
    while parent is not None and not isinstance(parent, QDockWidget):
        parent = parent.parentWidget()
    return parent


class DockMenu(QObject):
    """Lists docks in the View menu of a viewer, with a check mark for those in view."""

    def __init__(self, viewer: napari.viewer.Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.menu = viewer.window.view_menu
        self._actions: list[QAction] = []
        self.menu.aboutToShow.connect(self._fill)  # napari fills its menus again when a plugin is added or removed

    def add(self, dock: QDockWidget, title: str, closed: Callable[[], None] | None = None) -> None:
        """List a dock; its x hides it from now on, where napari would remove it, and then calls `closed`."""

        def hide() -> None:
            dock.hide()
            if closed is not None:
                closed()

        dock.destroyOnClose = hide  # type: ignore[attr-defined]  # what the title bar's x calls
        action = dock.toggleViewAction()
        action.setText(title)
        self.add_action(action)

    def add_action(self, action: QAction) -> None:
        """List any action."""
        self._actions.append(action)
        self._fill()

    def release(self) -> None:
        """Remove the entries."""
        self.menu.aboutToShow.disconnect(self._fill)
        with suppress(RuntimeError):  # the window is being closed
            for action in filter(isalive, self._actions):
                self.menu.removeAction(action)

    def _fill(self) -> None:
        self._actions = [action for action in self._actions if isalive(action)]
        listed = self.menu.actions()
        for action in self._actions:
            if action not in listed:
                self.menu.addAction(action)
