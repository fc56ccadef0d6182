"""Why a dataset cannot be imported, file by file."""

from __future__ import annotations

from qtpy.QtGui import QTextBlockFormat, QTextCursor
from qtpy.QtWidgets import QApplication, QDialog, QHBoxLayout, QLabel, QPushButton, QTextEdit, QVBoxLayout, QWidget

from surgicalsam_napari.errors import ExchangeError

LINES_SHOWN = 200


class ProblemsDialog(QDialog):
    """The error's message, and its problems as a list that can be read, selected and copied.

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
        _set_apart(self.lines)
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


def _set_apart(lines: QTextEdit) -> None:
    """A gap between one problem and the next, for most take more than one line."""
    gap = QTextBlockFormat()
    gap.setBottomMargin(6)
    cursor = QTextCursor(lines.document())
    cursor.select(QTextCursor.SelectionType.Document)
    cursor.mergeBlockFormat(gap)


def readable(error: ExchangeError) -> str:
    """The first problems, one a line, and how many more there are."""
    shown, more = error.problems[:LINES_SHOWN], len(error.problems) - LINES_SHOWN
    return "\n".join(shown) + (f"\n… and {more:,} more; Copy all has every one of them." if more > 0 else "")
