"""The look of text in the dock, in every napari theme: one style sheet, with a contrast of 4.5:1 or more (WCAG 2.2, AA).

A widget says what it is with `set_look`; the sheet of the dock gives it its font and colour. A theme change sets one sheet.
"""

from __future__ import annotations

from typing import NamedTuple

from qtpy.QtGui import QColor
from qtpy.QtWidgets import QWidget

NOTE, CAPTION, HEADING, PRIMARY, PLAIN, FOLD = "note", "caption", "heading", "primary", "plain", "fold"  # roles
DIM, LINK, GOOD, WARNING, BAD = "dim", "link", "good", "warning", "bad"  # tones
ACCENT = "#2f6fde"  # behind white text
MIDDLE = 0.18  # relative luminance: white and black text have the same contrast on it


class Tones(NamedTuple):
    """Colours of text as "#rrggbb"."""

    dim: str
    link: str
    good: str
    warning: str
    bad: str


ON_DARK = Tones(dim="#a3abb8", link="#82aefc", good="#5cc47a", warning="#e0a33e", bad="#f07b77")
ON_LIGHT = Tones(dim="#565b65", link="#1f56b8", good="#1a6b33", warning="#7d5200", bad="#a92c28")
SHEET = """
QLabel[role="note"] {{ font-size: 9pt; padding: 0px; margin: 0px; }}
QLabel[role="caption"] {{ padding: 0px; margin: 0px; }}
QLabel[role="heading"] {{ font-weight: bold; font-size: 11pt; padding: 0px; margin: 0px; }}
*[tone="dim"] {{ color: {dim}; }}
*[tone="good"] {{ color: {good}; }}
*[tone="warning"] {{ color: {warning}; }}
*[tone="bad"] {{ color: {bad}; }}
QPushButton[role="primary"] {{
    background-color: {accent}; color: white; font-weight: bold; padding: 7px; border-radius: 3px;
}}
QPushButton[role="primary"]:hover {{ background-color: #2b66cf; }}
QPushButton[role="primary"]:pressed {{ background-color: #2559b4; }}
QPushButton[role="primary"]:disabled {{ background-color: rgba(127, 127, 127, 60); color: rgba(160, 160, 160, 160); }}
QPushButton[role="plain"] {{ padding: 7px; }}
QToolButton[role="fold"] {{
    background: transparent; border: none; font-weight: bold; padding: 3px 0px; margin: 0px; text-align: left;
}}
QToolButton[role="fold"]:hover {{ color: {link}; }}
"""


def tones_on(background: QColor) -> Tones:
    """The colours of text that can be read on this background."""
    return ON_DARK if relative_luminance(background) < MIDDLE else ON_LIGHT


def link(text: str, target: str, widget: QWidget) -> str:
    """HTML of a link that can be read on this widget."""
    color = tones_on(widget.palette().window().color()).link
    return f'<a style="color: {color}" href="{target}">{text}</a>'


def style_sheet(background: QColor) -> str:
    """The style sheet of a window of the plugin with this background."""
    return SHEET.format(accent=ACCENT, **tones_on(background)._asdict())


def set_look(widget: QWidget, *, role: str | None = None, tone: str | None = None) -> None:
    """Give a widget a role and a tone; None leaves the role, and makes the tone that of the theme's text."""
    before = widget.property("role"), widget.property("tone")
    if role is not None:
        widget.setProperty("role", role)
    widget.setProperty("tone", tone)
    style = widget.style()
    if style is not None and (widget.property("role"), tone) != before:
        style.unpolish(widget)
        style.polish(widget)


def relative_luminance(color: QColor) -> float:
    """Relative luminance from 0 to 1, as WCAG 2.2 defines it."""
    red, green, blue = (_linear(channel) for channel in (color.redF(), color.greenF(), color.blueF()))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: QColor, second: QColor) -> float:
    """The contrast of two colours, from 1 to 21, as WCAG 2.2 defines it."""
    lighter, darker = sorted((relative_luminance(first), relative_luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4
