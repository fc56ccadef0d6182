"""The dialog that lists the damaged files of the open project, and restores what it can."""

from __future__ import annotations

import os
from pathlib import Path

from qtpy.QtWidgets import QApplication, QDialog, QHBoxLayout, QLabel, QPushButton, QTextEdit, QVBoxLayout, QWidget

from surgicalsam_napari.store.checking import Damage

LINES_SHOWN = 200


class DamageDialog(QDialog):
    """What was found, one paragraph for each file, which the user can select and copy."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Damaged files of the project")
        self.resize(760, 380)
        self._everything = ""
        self.message = QLabel()
        self.message.setWordWrap(True)
        self.lines = QTextEdit()
        self.lines.setReadOnly(True)
        self.repair_button = QPushButton("Restore what is possible")
        self.copy, close = QPushButton("Copy all"), QPushButton("Close")
        self.repair_button.setToolTip("From the history and the snapshots, where they hold exactly what was lost")
        self.copy.clicked.connect(self._copy)
        close.clicked.connect(self.close)
        close.setDefault(True)
        buttons = QHBoxLayout()
        buttons.addWidget(self.repair_button)
        buttons.addWidget(self.copy)
        buttons.addStretch(1)
        buttons.addWidget(close)
        column = QVBoxLayout(self)
        column.setSpacing(12)
        column.addWidget(self.message)
        column.addWidget(self.lines)
        column.addLayout(buttons)

    def show_damage(self, text: str, found: tuple[Damage, ...], root: Path) -> None:
        """List these, with paths relative to the project folder `root`; `text` is the summary."""
        lines = [str(damage).replace(f"{root}{os.sep}", "") for damage in found]
        self._everything = "\n".join((text, *lines))
        more = len(lines) - LINES_SHOWN
        if more > 0:
            lines = [*lines[:LINES_SHOWN], f"… and {more:,} more. Copy all copies the whole list."]
        is_left = any(not damage.restored_from for damage in found)
        waits = " Exports, trainings and overlays wait until the project is intact." if is_left else ""
        self.message.setText(text + waits)
        self.lines.setPlainText("\n\n".join(lines))
        self.repair_button.setVisible(is_left)
        self.show()
        self.raise_()

    def _copy(self) -> None:
        clipboard = QApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(self._everything)
