"""The bar that is always in view: undo the last action, a run or a correction, and redo it."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtGui import QPaintEvent
from qtpy.QtWidgets import (
    QHBoxLayout,
    QPushButton,
    QSizePolicy,
    QStyle,
    QStyleOptionButton,
    QStylePainter,
    QVBoxLayout,
    QWidget,
)

from surgicalsam_napari.formatting import counted
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project
from surgicalsam_napari.store.history import HistoryEntry, Undone
from surgicalsam_napari.widgets.actions.registry import action_by_id
from surgicalsam_napari.widgets.correct.section_parts import ActionStrip, show_text
from surgicalsam_napari.widgets.parts.parts import SPACING, note
from surgicalsam_napari.widgets.runs.run import Run
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers


class UndoBar(QWidget):
    """Two buttons with the names of the actions, and what an undo did. napari undoes brush strokes (Ctrl+Z)."""

    def __init__(self, session: Session, layers: ViewerLayers, run: Run) -> None:
        super().__init__()
        self.session, self.run = session, run
        self._project: Project | None = None
        self._to_undo: HistoryEntry | None = None
        self._to_redo: HistoryEntry | None = None
        self._waits_for: str | None = None
        self._is_redoing = False
        self._build(layers)
        self._connect()
        self.refresh()

    def refresh(self) -> None:
        """Enable what is possible now."""
        if self.session.project is not self._project:
            self.reread()
            return
        is_free = self._project is not None and self._project.writable and not self.run.is_running and not self._waits_for
        self._show_button(self.undo_button, "undo", self._to_undo, is_free)
        self._show_button(self.redo_button, "redo", self._to_redo, is_free)
        self.redo_button.setVisible(self._to_redo is not None)
        self.undo_button.setVisible(self._to_undo is not None or self._to_redo is None)  # room for the name of the other

    def reread(self) -> None:
        """Read the history again after it changed or another project was opened."""
        if self.session.project is not self._project:
            show_text(self.outcome, "")
        self._project = self.session.project
        history = None if self._project is None else self._project.history
        before = self._to_undo, self._to_redo
        self._to_undo = None if history is None else history.to_undo
        self._to_redo = None if history is None else history.to_redo
        if (self._to_undo, self._to_redo) != before:
            show_text(self.outcome, "")  # it is about an earlier step
        self.refresh()

    def set_waiting(self, reason: str | None) -> None:
        """Disable the buttons while another run works on the project, and say why in their tooltips; None if none does."""
        self._waits_for = reason
        self.refresh()

    def undo(self) -> None:
        """Undo the last action."""
        if self.undo_button.isEnabled() and self._project is not None:
            self._is_redoing = False
            self.strip.start(self.undo_button.text(), self._project.history.undoing)

    def redo(self) -> None:
        """Redo the action that was undone last."""
        if self.redo_button.isEnabled() and self._project is not None and self._to_redo is not None:
            self._is_redoing = True
            self.strip.start(self.redo_button.text(), self._project.history.redoing)

    def _build(self, layers: ViewerLayers) -> None:
        self.undo_button, self.redo_button = ElidedButton(), ElidedButton()
        self.strip, self.outcome = ActionStrip(self.run, layers), note()
        buttons = QHBoxLayout()
        buttons.setSpacing(SPACING)
        buttons.addWidget(self.undo_button, 1)
        buttons.addWidget(self.redo_button, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACING)
        column.addWidget(self.outcome)
        column.addWidget(self.strip)
        column.addLayout(buttons)
        self.outcome.hide()

    def _connect(self) -> None:
        self.undo_button.clicked.connect(self.undo)
        self.redo_button.clicked.connect(self.redo)
        self.strip.finished.connect(self._on_finished)
        self.run.started.connect(self._on_started)
        self.run.finished.connect(lambda _is_complete: self.reread())

    def _on_started(self) -> None:
        show_text(self.outcome, "")
        self.refresh()

    def _show_button(self, button: QPushButton, verb: str, entry: HistoryEntry | None, is_free: bool) -> None:
        action, title = action_by_id(verb), verb.capitalize()
        button.setText(title if entry is None else f"{title}: {entry.name}")
        tip = f"There is no action to {verb}" if entry is None else entry.name
        if entry is not None and entry.frame_count:
            tip += f", {counted(entry.frame_count, 'frame')}"
        how = "" if entry is None or not entry.note else "\n" + entry.note.replace("; ", "\n")
        button.setToolTip(self._waits_for or action.tooltip(tip) + how)
        button.setEnabled(is_free and entry is not None)

    def _on_finished(self, undone: Undone | None) -> None:
        self.reread()
        show_text(self.outcome, "" if undone is None else outcome_of(undone, is_redone=self._is_redoing))


class ElidedButton(QPushButton):
    """A button that shortens its text with an ellipsis if it does not fit."""

    def __init__(self) -> None:
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def paintEvent(self, _event: QPaintEvent) -> None:
        option = QStyleOptionButton()
        self.initStyleOption(option)
        room = self.style().subElementRect(QStyle.SubElement.SE_PushButtonContents, option, self).width()
        option.text = self.fontMetrics().elidedText(self.text(), Qt.TextElideMode.ElideRight, room)
        QStylePainter(self).drawControl(QStyle.ControlElement.CE_PushButton, option)


def outcome_of(undone: Undone, *, is_redone: bool = False) -> str:
    """ "58 frames restored; 2 changed later and were kept." Or what it was, if it changed only who is who."""
    did = "redone" if is_redone else "restored"
    if undone.has_tracks and not undone.frame_indices and not undone.kept:
        return f"{'Redone' if is_redone else 'Undone'}: {undone.entry.name}."
    if not undone.frame_indices and not undone.kept:
        return f"{undone.entry.name}: changed since, so it stays."
    text = f"{counted(len(undone.frame_indices), 'frame')} {did}"
    if undone.kept:
        were = "was" if len(undone.kept) == 1 else "were"
        text += f"; {len(undone.kept):,} changed later and {were} kept"
    return text + "."
