"""Binds the keys of the actions to the viewer, and writes them into the tooltips of the buttons.

napari 0.9 does not list them in its preferences: it ignores the `keybindings` of a manifest, and it warns at every start
about a stored key whose action is not registered yet, which is so until the plugin's dock is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import napari

from surgicalsam_napari.widgets.actions.action import Action, reveal


class BoundKeys:
    """Binds the keys to a viewer until `unbind`; a key that is already bound keeps its function.

    Parameters
    ----------
    dock : the `MainWidget` in which the keys act
    """

    def __init__(self, viewer: napari.viewer.Viewer, actions: Sequence[Action], dock: Any) -> None:
        self._viewer = viewer
        self._bound: list[str] = []
        for action in actions:
            if action.key is None:
                continue
            with suppress(ValueError):  # already bound
                viewer.bind_key(action.key, _pressing(action, dock))
                self._bound.append(action.key)
                button = action.button_in(dock)
                if button is not None:
                    button.setToolTip(action.tooltip(button.toolTip()))

    @property
    def keys(self) -> tuple[str, ...]:
        """The bound keys."""
        return tuple(self._bound)

    def unbind(self) -> None:
        """Remove the bindings."""
        for key in self._bound:
            self._viewer.bind_key(key, None)
        self._bound = []


def _pressing(action: Action, dock: Any) -> Callable[[object], None]:
    def press(_viewer: object) -> None:
        button = action.button_in(dock)
        if button is not None and dock.session.project is not None:
            reveal(dock, button)
            if button.isEnabled():
                button.click()

    return press
