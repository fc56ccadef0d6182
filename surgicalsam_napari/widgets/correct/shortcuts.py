"""The keys of the Correct tab: one table of all sections' keys, for binding and for the list of keys.

Shift reverses a key: N is next and Shift+N previous. napari does not use these keys for the viewer, an Image or a Labels
layer, so a key does the same for every selected layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import napari
from qtpy.QtWidgets import QAbstractButton

VERIFY_KEY, UNLOCK_KEY = "D", "Shift+D"
REVIEW, FIX, HISTORY, VIEW = "Review", "Fix", "History", "View"  # groups, in the order of the table


@dataclass(frozen=True)
class Shortcut:
    """
    Attributes
    ----------
    key : as napari writes it
    what : what it does, as text for the user
    group : the heading under which it is listed
    act : the function to call if the button is enabled
    button : the button for the same function
    """

    key: str
    what: str
    group: str
    act: Callable[[], None]
    button: QAbstractButton


class BoundKeys:
    """Binds the table's keys to a viewer until `unbind`; a key that is already bound keeps its function.

    Parameters
    ----------
    before : called with the shortcut before its function
    """

    def __init__(
        self, viewer: napari.viewer.Viewer, shortcuts: Sequence[Shortcut], before: Callable[[Shortcut], None]
    ) -> None:
        self._viewer = viewer
        self._bound: list[str] = []
        for shortcut in shortcuts:
            with suppress(ValueError):  # already bound
                viewer.bind_key(shortcut.key, _pressing(shortcut, before))
                self._bound.append(shortcut.key)
                tip = shortcut.button.toolTip() or shortcut.what
                shortcut.button.setToolTip(f"{tip} (key {shortcut.key})")

    @property
    def keys(self) -> tuple[str, ...]:
        """The bound keys."""
        return tuple(self._bound)

    def unbind(self) -> None:
        """Remove the bindings."""
        for key in self._bound:
            self._viewer.bind_key(key, None)
        self._bound = []


def _pressing(shortcut: Shortcut, before: Callable[[Shortcut], None]) -> Callable[[object], None]:
    def press(_viewer: object) -> None:
        before(shortcut)
        if shortcut.button.isEnabled():
            shortcut.act()

    return press
