"""The dialog that lists the keys."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDialog, QGridLayout, QLabel, QVBoxLayout, QWidget

from surgicalsam_napari.widgets.actions.action import Action
from surgicalsam_napari.widgets.parts.parts import SPACING, caption, note

KEY_STYLE = """
QLabel { border: 1px solid rgba(127, 127, 127, 150); border-radius: 3px; padding: 1px 6px; font-family: monospace; }
"""
NAPARI_KEYS = (
    "Ctrl+Z undoes the last click, stroke or correction of one frame, Ctrl+Shift+Z redoes it, Esc leaves a tool. Ctrl+1 to "
    "Ctrl+9 choose a class, Shift+G goes to a frame, I writes a note. The keys work in the canvas: click on it first. "
    "napari's own keys still work, for example P brush, E eraser, F fill, Z move, [ and ] brush size, Left and Right "
    "previous and next frame."
)


class KeysDialog(QDialog):
    """Shows what each key does; it can stay open."""

    def __init__(self, actions: Sequence[Action], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Keys")
        column = QVBoxLayout(self)
        column.setSpacing(2 * SPACING)
        grid = QGridLayout()
        grid.setHorizontalSpacing(2 * SPACING)
        grid.setVerticalSpacing(SPACING - 2)
        grid.setColumnStretch(1, 1)
        self.listed: list[tuple[str, str]] = []
        group = None
        for action in actions:
            if action.key is None:
                continue
            if action.group != group:
                group = action.group
                heading = QLabel(group)
                heading.setStyleSheet("font-weight: bold; padding-top: 6px;")
                grid.addWidget(heading, grid.rowCount(), 0, 1, 2)
            key = QLabel(action.key)
            key.setStyleSheet(KEY_STYLE)
            key.setAlignment(Qt.AlignmentFlag.AlignCenter)
            row = grid.rowCount()
            grid.addWidget(key, row, 0)
            grid.addWidget(caption(action.title), row, 1)
            self.listed.append((action.key, action.title))
        column.addLayout(grid)
        column.addWidget(note(NAPARI_KEYS))
