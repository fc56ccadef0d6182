"""The dialog that lists why a dataset cannot be imported, file by file."""

from __future__ import annotations

from qtpy.QtGui import QTextBlockFormat, QTextCursor
from qtpy.QtWidgets import QApplication, QDialog, QHBoxLayout, QLabel, QPushButton, QTextEdit, QVBoxLayout, QWidget

from surgicalsam_napari.errors import ExchangeError

LINES_SHOWN = 200


class ProblemsDialog(QDialog):
    """The error's message, and a list of its problems that the user can select and copy.

    Parameters
    ----------
    error : with one problem per file
    """

    def __init__(self, error: ExchangeError, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Nothing was imported")
        self.resize(680, 380)
        self._everything = "\n".join((str(error), *error.problems))
        message = QLabel(str(error))
        message.setWordWrap(True)
        self.lines = QTextEdit()
        self.lines.setPlainText(readable(error))
        self.lines.setReadOnly(True)
        _add_gaps(self.lines)
        self.copy, close = QPushButton("Copy all"), QPushButton("Close")
        self.copy.setToolTip("Copy the message and every line to the clipboard")
        self.copy.clicked.connect(self._copy)
        close.clicked.connect(self.accept)
        close.setDefault(True)
        buttons = QHBoxLayout()
        buttons.addWidget(self.copy)
        buttons.addStretch(1)
        buttons.addWidget(close)
        column = QVBoxLayout(self)
        column.setSpacing(12)
        column.addWidget(message)
        column.addWidget(self.lines)
        column.addLayout(buttons)

    def _copy(self) -> None:
        clipboard = QApplication.clipboard()
        if clipboard is not None:
            clipboard.setText(self._everything)


def _add_gaps(lines: QTextEdit) -> None:
    """Add a gap after each problem, because most take more than one line."""
    gap = QTextBlockFormat()
    gap.setBottomMargin(6)
    cursor = QTextCursor(lines.document())
    cursor.select(QTextCursor.SelectionType.Document)
    cursor.mergeBlockFormat(gap)


def readable(error: ExchangeError) -> str:
    """The first problems, one per line, and the number of the others."""
    shown, more = error.problems[:LINES_SHOWN], len(error.problems) - LINES_SHOWN
    return "\n".join(shown) + (f"\n… and {more:,} more. Copy all copies the whole list." if more > 0 else "")
