"""Questions in a box of their own, for what cannot wait in a panel."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QMessageBox, QWidget


def question_box(parent: QWidget, text: str, details: str, yes: str, no: str) -> QMessageBox:
    """A box with a question and two buttons; Enter and Escape mean `no`. Its `accepted` is emitted for `yes`."""
    box = QMessageBox(QMessageBox.Icon.Question, "SurgicalSAM", text, parent=parent)
    box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    box.setInformativeText(details)
    box.addButton(yes, QMessageBox.ButtonRole.AcceptRole)
    refuse = box.addButton(no, QMessageBox.ButtonRole.RejectRole)
    box.setDefaultButton(refuse)
    box.setEscapeButton(refuse)
    return box
