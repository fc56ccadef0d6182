"""An action: a button of the plugin's dock under a name, so that keys, menus and the command palette can press it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from qtpy.QtWidgets import QAbstractButton, QLabel, QWidget

from surgicalsam_napari.widgets.parts.collapsible import Collapsible

PLUGIN = "surgicalsam-napari"


@dataclass(frozen=True)
class Action:
    """
    Attributes
    ----------
    id : letters and underscores; the command in napari.yaml is `surgicalsam-napari.<id>`
    title : what it does, as text for menus, the command palette and the list of keys
    group : the submenu, and the heading in the list of keys
    button : where the dock (`MainWidget`) has its button, such as "correct_panel.review.next_button"; or, for an action
        without a button, a function of the dock that does it and returns whether there was anything to do
    key : as napari writes it; None for an action without a key
    """

    id: str
    title: str
    group: str
    button: str | Callable[[Any], bool]
    key: str | None = None

    @property
    def command(self) -> str:
        """The id of the command in napari.yaml."""
        return f"{PLUGIN}.{self.id}"

    @property
    def menu_title(self) -> str:
        """The title with the key, as napari's menus and command palette show it."""
        return self.title if self.key is None else f"{self.title} [{self.key}]"

    def tooltip(self, text: str = "") -> str:
        """A tooltip (by default the title) with the key."""
        text = text or self.title
        return text if self.key is None else f"{text} (key {self.key})"

    def button_in(self, dock: Any) -> QAbstractButton | None:
        """The button in this dock; None for an action without one."""
        button: QAbstractButton | None = attrgetter(self.button)(dock) if isinstance(self.button, str) else None
        return button

    def do(self, dock: Any) -> str | None:
        """Show the button in its tab, and press it; returns why this is not possible now, as text for the user."""
        if not isinstance(self.button, str):
            return None if self.button(dock) else f"{self.title}: nothing runs now."
        button: QAbstractButton = attrgetter(self.button)(dock)
        reveal(dock, button)
        if (missing := self.what_is_missing(dock)) is None:
            button.click()
        return missing

    def what_is_missing(self, dock: Any) -> str | None:
        """Why the button cannot be pressed now, as text for the user; None if it can."""
        button = self.button_in(dock)
        if button is None or button.isEnabled():
            return None
        if dock.session.project is None:
            return "Open a video first."
        if reason := _written_reason(button):
            return reason
        if dock.is_busy:
            return f"{self.title}: wait until the work that runs now is done, or cancel it."
        return f"{self.title}: this is not possible now."


def reveal(dock: Any, button: QWidget) -> None:
    """Show the tab and the section with this button, and scroll to it."""
    above: QWidget | None = button.parentWidget()
    sections = []
    while above is not None and above is not dock:
        if isinstance(above, Collapsible):
            sections.append(above)
        with suppress(ValueError):  # not a tab
            dock.tabs.show_panel(above)
        above = above.parentWidget()
    for section in sections:
        section.open()


def _written_reason(button: QWidget) -> str:
    """What the sections around a button say is missing."""
    above: QWidget | None = button
    while above is not None:
        for name in ("missing", "waiting", "cost"):
            label = getattr(above, name, None)
            if isinstance(label, QLabel) and not label.isHidden() and label.text():
                return label.text()
        above = above.parentWidget()
    return ""
