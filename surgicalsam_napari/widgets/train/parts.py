"""Small Qt widgets of the panel *Train*: coloured notes, and the theme's colours for pictures."""

from __future__ import annotations

from typing import Any, NamedTuple

from napari.utils.theme import get_theme
from qtpy.QtWidgets import QLabel

from surgicalsam_napari.widgets.parts.parts import note
from surgicalsam_napari.widgets.parts.theme import BAD, GOOD, WARNING, set_look

WARNING_COLOR, GOOD_COLOR, BAD_COLOR = "#c98a1b", "#3fa35b", "#d9534f"  # of bars and borders
TONES = {WARNING_COLOR: WARNING, GOOD_COLOR: GOOD, BAD_COLOR: BAD}  # of text with the same meaning


class ThemeColors(NamedTuple):
    """Colours of napari's theme as "#rrggbb"."""

    background: str
    text: str
    line: str


def theme_colors(viewer: Any) -> ThemeColors:
    """The theme colours of this viewer."""
    theme = get_theme(viewer.theme)
    return ThemeColors(*(color.as_hex("long") for color in (theme.background, theme.text, theme.primary)))


def colored_note(color: str) -> QLabel:
    """A wrapped line of small text with the meaning of this colour."""
    label = note()
    set_look(label, tone=TONES[color])
    return label
