"""The keys of the Correct tab: each section gives its own, and they are bound to the viewer and listed from one table.

Shift reverses a key: N is next and Shift+N previous. None of them is a key of napari's for the viewer, an Image or a
Labels layer, so that a key does the same whichever layer is chosen.
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
    what : what it does, in a user's words
    group : the heading under which it is listed
    act : does it, if its button could be pressed now
    button : does the same
    """

    key: str
    what: str
    group: str
    act: Callable[[], None]
    button: QAbstractButton


class BoundKeys:
    """The table's keys on a viewer, until `unbind`; a key that somebody else has bound there stays theirs.

    Parameters
    ----------
    before : called with the shortcut before a key acts
    """

    def __init__(
        self, viewer: napari.viewer.Viewer, shortcuts: Sequence[Shortcut], before: Callable[[Shortcut], None]
    ) -> None:
        self._viewer = viewer
        self._bound: list[str] = []
        for shortcut in shortcuts:
            with suppress(ValueError):  # taken
                viewer.bind_key(shortcut.key, _pressing(shortcut, before))
                self._bound.append(shortcut.key)
                tip = shortcut.button.toolTip() or shortcut.what
                shortcut.button.setToolTip(f"{tip} (key {shortcut.key})")

    @property
    def keys(self) -> tuple[str, ...]:
        """Those that are bound."""
        return tuple(self._bound)

    def unbind(self) -> None:
        """Give the keys back."""
        for key in self._bound:
            self._viewer.bind_key(key, None)
        self._bound = []


def _pressing(shortcut: Shortcut, before: Callable[[Shortcut], None]) -> Callable[[object], None]:
    def press(_viewer: object) -> None:
        before(shortcut)
        if shortcut.button.isEnabled():
            shortcut.act()

    return press
