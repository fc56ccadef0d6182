"""The keys of the Correct tab: one table, from which they are bound to the viewer and listed for the person.

Shift turns a key round: N is next and Shift+N previous. None of them is a key of napari's for the viewer, an Image or a
Labels layer, so that a key does the same whichever layer is chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import napari
from qtpy.QtWidgets import QAbstractButton

if TYPE_CHECKING:
    from surgicalsam_napari.widgets.correct.correct_panel import CorrectPanel

VERIFY_KEY, UNLOCK_KEY = "D", "Shift+D"


@dataclass(frozen=True)
class Shortcut:
    """
    Attributes
    ----------
    key : as napari writes it
    what : what it does, in a user's words
    group : what it has to do with
    act : does it, if its button could be pressed now
    button : does the same
    """

    key: str
    what: str
    group: str
    act: Callable[[], None]
    button: QAbstractButton


def shortcuts_of(panel: CorrectPanel) -> tuple[Shortcut, ...]:
    """The table."""
    review, refine, wrong = panel.review, panel.refine, panel.wrong_class
    frames, propagate, history = panel.frames, panel.propagate, panel.history
    return (
        Shortcut("N", "Next frame worth a look", "Review", review.next, review.next_button),
        Shortcut("Shift+N", "Previous frame worth a look", "Review", review.previous, review.previous_button),
        Shortcut(VERIFY_KEY, "Done: verify this frame", "Review", review.verify, review.verify_button),
        Shortcut(UNLOCK_KEY, "Unlock this frame", "Review", review.unlock, review.unlock_button),
        Shortcut("R", "Click to refine, on or off", "Fix", refine.toggle, refine.switch),
        Shortcut("A", "Accept what the clicks show", "Fix", refine.accept, refine.accept_button),
        Shortcut("Shift+A", "Discard it", "Fix", refine.discard, refine.discard_button),
        Shortcut("W", "Change the class of a region, on or off", "Fix", wrong.toggle, wrong.switch),
        Shortcut("T", "Take the class on into later frames", "Fix", propagate.forward, propagate.forward_button),
        Shortcut("Shift+T", "Take it back into earlier frames", "Fix", propagate.backward, propagate.backward_button),
        Shortcut("G", "Get the class from the frame before", "Fix", frames.fill_from_previous, frames.fill_button),
        Shortcut("K", "Keep the largest region of the class", "Fix", frames.keep_largest, frames.largest_button),
        Shortcut("H", "Fill the holes of the class", "Fix", frames.fill_holes, frames.holes_button),
        Shortcut("S", "Smooth the class", "Fix", frames.smooth, frames.smooth_button),
        Shortcut("Shift+C", "Clear the class", "Fix", frames.clear_class, frames.clear_button),
        Shortcut("U", "Undo the last action", "Take back", history.undo, history.undo_button),
        Shortcut("Shift+U", "Redo it", "Take back", history.redo, history.redo_button),
        Shortcut("J", "Similarity map, on or off", "See", panel.toggle_similarity, panel.similarity_button),
    )


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
