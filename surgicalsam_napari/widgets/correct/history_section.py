"""Section *History*: undo whole actions, return to an earlier state, save the work log."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QPushButton, QSizePolicy

from surgicalsam_napari.errors import SurgicalSAMError
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project
from surgicalsam_napari.store.history import HistoryEntry, Undone
from surgicalsam_napari.widgets.correct.section_parts import ActionStrip, show_text
from surgicalsam_napari.widgets.correct.shortcuts import HISTORY, Shortcut
from surgicalsam_napari.widgets.correct.snapshot_list import SnapshotList
from surgicalsam_napari.widgets.parts.parts import Panel, note
from surgicalsam_napari.widgets.runs.background import show_failure
from surgicalsam_napari.widgets.runs.run import Run
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers

LONGEST_NAME = 34  # characters of an action's name on a button


class HistorySection(Panel):
    """Undo and redo with the action's name, snapshots, the work log. napari undoes brush strokes (Ctrl+Z)."""

    changed = Signal()

    def __init__(self, session: Session, layers: ViewerLayers, run: Run) -> None:
        super().__init__("History")
        self.session, self.layers, self.run = session, layers, run
        self._project: Project | None = None
        self._to_undo: HistoryEntry | None = None
        self._to_redo: HistoryEntry | None = None
        self._is_redoing = False
        self._build()
        self._connect()
        self.refresh()

    def refresh(self) -> None:
        """Enable the controls that can be used now, and show what is missing."""
        if self.session.project is not self._project:
            self.reread()
            return
        missing = why_not_written(self.session)
        is_free = missing is None and not self.run.is_running
        self._show_button(self.undo_button, "Undo", self._to_undo, is_free)
        self._show_button(self.redo_button, "Redo", self._to_redo, is_free)
        self.redo_button.setVisible(self._to_redo is not None)
        show_text(self.missing, missing or "")
        self.snapshots.set_enabled(is_free)
        self.save_log_button.setEnabled(self._project is not None)

    def reread(self) -> None:
        """Read history and snapshots again after they changed or another project was opened."""
        if self.session.project is not self._project:
            show_text(self.outcome, "")
        self._project = self.session.project
        history = None if self._project is None else self._project.history
        self._to_undo = None if history is None else history.to_undo
        self._to_redo = None if history is None else history.to_redo
        self.snapshots.show_project(self._project)
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

    def save_work_log(self) -> None:
        """Ask for a CSV file, and write the seconds, strokes and changed pixels of each frame to it."""
        if self._project is None:
            return
        proposed = self._project.folder.with_name(f"{self._project.folder.stem}_work.csv")
        path, _ = QFileDialog.getSaveFileName(self, "Save the work log", str(proposed), "CSV (*.csv)")
        if not path:
            return
        try:
            count = self._project.work_log.write_csv(path)
        except SurgicalSAMError as error:
            show_failure(error)
            return
        show_text(self.outcome, f"{Path(path).name} lists the work on {counted(count, 'frame')}.")

    def shortcuts(self) -> tuple[Shortcut, ...]:
        """The keys of this section."""
        return (
            Shortcut("U", "Undo the last action", HISTORY, self.undo, self.undo_button),
            Shortcut("Shift+U", "Redo it", HISTORY, self.redo, self.redo_button),
        )

    def _build(self) -> None:
        self.undo_button, self.redo_button = _wide_button(), _wide_button()
        self.missing, self.outcome = note(), note()
        self.strip = ActionStrip(self.run, self.layers)
        self.snapshots = SnapshotList(self.run, self.layers)
        self.save_log_button = QPushButton("Save work log…")
        self.save_log_button.setToolTip("Seconds, strokes and changed pixels of each frame, as CSV")
        for widget in (self.missing, self.undo_button, self.redo_button, self.strip, self.outcome):
            self.column.addWidget(widget)
        self.column.addWidget(self.snapshots)
        self.column.addWidget(self.save_log_button)
        self.outcome.hide()

    def _connect(self) -> None:
        self.undo_button.clicked.connect(self.undo)
        self.redo_button.clicked.connect(self.redo)
        self.save_log_button.clicked.connect(self.save_work_log)
        self.strip.finished.connect(self._on_finished)
        self.run.started.connect(self.refresh)
        self.run.finished.connect(lambda _is_complete: self.reread())

    def _show_button(self, button: QPushButton, verb: str, entry: HistoryEntry | None, is_free: bool) -> None:
        button.setText(verb if entry is None else f"{verb}: {shortened(entry.name)}")
        tip = f"There is no action to {verb.lower()}"
        button.setToolTip(tip if entry is None else described(entry))
        button.setEnabled(is_free and entry is not None)

    def _on_finished(self, undone: Undone | None) -> None:
        self.reread()
        show_text(self.outcome, "" if undone is None else outcome_of(undone, is_redone=self._is_redoing))
        self.changed.emit()


def outcome_of(undone: Undone, *, is_redone: bool = False) -> str:
    """ "58 frames restored; 2 changed later and were kept." """
    did = "redone" if is_redone else "restored"
    text = f"{counted(len(undone.frame_indices), 'frame')} {did}"
    if undone.kept:
        were = "was" if len(undone.kept) == 1 else "were"
        text += f"; {len(undone.kept):,} changed later and {were} kept"
    return text + "."


def why_not_written(session: Session) -> str | None:
    """Why the labels cannot be changed, as text for the user; None if they can."""
    if session.project is None:
        return "Open a video first."
    return None if session.project.writable else "Read-only: nothing can be changed in this window."


def described(entry: HistoryEntry) -> str:
    """An action for a tooltip: its name, its frames, and how it was done."""
    note = f"\n{entry.note}" if entry.note else ""
    return f"{entry.name}, {counted(entry.frame_count, 'frame')}{note}"


def shortened(name: str) -> str:
    """A name that fits on a button."""
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1].rstrip() + "…"


def _wide_button() -> QPushButton:
    button = QPushButton()
    button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    return button
