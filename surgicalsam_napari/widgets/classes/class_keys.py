"""The keys Ctrl+1 to Ctrl+9, which choose a class by its place in the list."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import napari

from surgicalsam_napari.session import Session

COUNT = 9


def key_of(position: int) -> str:
    """The key of the class at this position of the list, from 0; empty if it has none."""
    return f"Ctrl+{position + 1}" if position < COUNT else ""


class ClassKeys:
    """Binds the keys to a viewer until `unbind`; a key that is already bound keeps its function."""

    def __init__(self, viewer: napari.viewer.Viewer, session: Session) -> None:
        self._viewer = viewer
        self._bound: list[str] = []
        for position in range(COUNT):
            with suppress(ValueError):  # already bound
                viewer.bind_key(key_of(position), _choosing(session, position))
                self._bound.append(key_of(position))

    def unbind(self) -> None:
        """Remove the bindings."""
        for key in self._bound:
            self._viewer.bind_key(key, None)
        self._bound = []


def _choosing(session: Session, position: int) -> Callable[[object], None]:
    def choose(_viewer: object) -> None:
        if position < len(session.classes):
            session.select_class(session.classes.ids[position])

    return choose
