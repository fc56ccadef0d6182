"""Check the open project for damage, back it up into one file, and restore a backup as a new project."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from surgicalsam_napari.formatting import counted
from surgicalsam_napari.store import Project
from surgicalsam_napari.store.backup import SUFFIX, backing_up, restoring
from surgicalsam_napari.store.checking import Damage, checking
from surgicalsam_napari.widgets.correct.damage_dialog import DamageDialog
from surgicalsam_napari.widgets.correct.section_parts import ActionStrip, show_text
from surgicalsam_napari.widgets.parts.file_dialogs import FileKind, ask_for_file, ask_where_to_save
from surgicalsam_napari.widgets.parts.parts import SPACING, caption, note
from surgicalsam_napari.widgets.runs.run import Run
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers

FILTER = "Backups (*.zip)"


class ProjectSafety(QWidget):
    """Three buttons: Check, Back up, Restore; one line says what came of it, and a dialog lists damage."""

    def __init__(self, run: Run, layers: ViewerLayers) -> None:
        super().__init__()
        self._project: Project | None = None
        self._what = ""
        self._target: Path | None = None
        self.run = run
        self.strip = ActionStrip(run, layers)
        self.dialog = DamageDialog(self)
        self.outcome = note()
        self.check_button, self.back_up_button, self.restore_button = (
            QPushButton(text) for text in ("Check", "Back up…", "Restore…")
        )
        self.check_button.setToolTip("Compare every file of the project with its checksum, and list what is damaged")
        self.back_up_button.setToolTip(
            "Write labels, history, snapshots, notes and learned models to one file; not the video"
        )
        self.restore_button.setToolTip("Make a new project from a backup; the open project stays as it is")
        self._build()
        self.check_button.clicked.connect(self.check)
        self.back_up_button.clicked.connect(self.back_up)
        self.restore_button.clicked.connect(self.restore)
        self.dialog.repair_button.clicked.connect(self.repair)
        self.strip.finished.connect(self._on_finished)
        self.outcome.hide()

    def show_project(self, project: Project | None) -> None:
        """Enable what is possible with this project now."""
        if project is not self._project:
            self.dialog.close()
            show_text(self.outcome, "")
        self._project = project
        is_free = not self.run.is_running
        self.check_button.setEnabled(is_free and project is not None)
        self.back_up_button.setEnabled(is_free and project is not None)
        self.restore_button.setEnabled(is_free)
        self.dialog.repair_button.setEnabled(is_free and project is not None and project.writable)

    def check(self) -> None:
        """Check every file."""
        self._start_check("Checking the project", repair=False)

    def repair(self) -> None:
        """Check every file, and restore what the history or a snapshot holds."""
        self._start_check("Restoring", repair=True)

    def back_up(self) -> None:
        """Ask for a file, and write the project to it."""
        project = self._project
        if project is None:
            return
        name = f"{project.top.folder.stem}_{date.today().isoformat()}{SUFFIX}"
        path = ask_where_to_save(self, FileKind.BACKUPS, "Back up the project", project.top.folder.with_name(name), FILTER)
        if path is not None:
            self._start("backup", f"Backing up to {path.name}", lambda: backing_up(project, path, overwrite=True))

    def restore(self) -> None:
        """Ask for a backup and a new folder, and make the project there."""
        file = ask_for_file(self, FileKind.BACKUPS, "Restore a backup", FILTER)
        if file is None:
            return
        proposed = file.with_name(file.name.removesuffix(".zip").removesuffix(".surgicalsam") + ".surgicalsam")
        folder = ask_where_to_save(
            self, FileKind.BACKUPS, "New folder for the project", proposed, "Projects (*.surgicalsam)"
        )
        if folder is not None:
            self._start("restore", f"Restoring {file.name}", lambda: restoring(file, folder))

    def _start_check(self, title: str, *, repair: bool) -> None:
        project = self._project
        if project is not None:
            self._start("check", title, lambda: checking(project.top, repair=repair))

    def _start(self, what: str, title: str, reports: Any) -> None:
        self._what = what
        show_text(self.outcome, "")
        self.strip.start(title, reports)

    def _on_finished(self, result: Any) -> None:
        if result is None:  # cancelled, or an error is shown
            return
        if self._what == "check":
            self._show_damage(result)
        elif self._what == "backup":
            show_text(self.outcome, f"Backed up to {result.name}.")
        else:
            show_text(self.outcome, f"Restored to {result}. Open it with Video > Open a folder.")

    def _show_damage(self, found: tuple[Damage, ...]) -> None:
        left = [damage for damage in found if not damage.restored_from]
        restored = len(found) - len(left)
        text = f"{counted(len(left), 'damaged file')}." if left else "Nothing is damaged."
        if restored:
            text = f"{counted(restored, 'file')} restored. {text}"
        show_text(self.outcome, text)
        if found and self._project is not None:
            self.dialog.show_damage(text, found, self._project.top.folder)

    def _build(self) -> None:
        row = QHBoxLayout()
        row.setSpacing(SPACING)
        for button in (self.check_button, self.back_up_button, self.restore_button):
            row.addWidget(button, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, SPACING, 0, 0)
        column.setSpacing(SPACING)
        column.addWidget(caption("Project files"))
        column.addLayout(row)
        column.addWidget(self.strip)
        column.addWidget(self.outcome)
