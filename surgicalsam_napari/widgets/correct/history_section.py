"""Section *History*: return to an earlier state, check and back up the project, save the work log."""

from __future__ import annotations

from qtpy.QtWidgets import QPushButton

from surgicalsam_napari.errors import SurgicalSAMError
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project
from surgicalsam_napari.widgets.correct.project_safety import ProjectSafety
from surgicalsam_napari.widgets.correct.section_parts import show_text
from surgicalsam_napari.widgets.correct.snapshot_list import SnapshotList
from surgicalsam_napari.widgets.parts.file_dialogs import FileKind, ask_where_to_save
from surgicalsam_napari.widgets.parts.message import show_failure
from surgicalsam_napari.widgets.parts.parts import Panel, note
from surgicalsam_napari.widgets.runs.run import Run
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers


class HistorySection(Panel):
    """Snapshots, checks, backups and the work log; `UndoBar` undoes single actions, and `CanvasKeys` brush strokes."""

    def __init__(self, session: Session, layers: ViewerLayers, run: Run) -> None:
        super().__init__("History")
        self.session, self.layers, self.run = session, layers, run
        self._project: Project | None = None
        self._build()
        self._connect()
        self.refresh()

    def refresh(self) -> None:
        """Enable the controls that can be used now, and show what is missing."""
        if self.session.project is not self._project:
            self.reread()
            return
        missing = why_not_written(self.session)
        show_text(self.missing, missing or "")
        self.snapshots.set_enabled(missing is None and not self.run.is_running)
        self.safety.show_project(self._project)
        self.save_log_button.setEnabled(self._project is not None)

    def reread(self) -> None:
        """Read the snapshots again after they changed or another project was opened."""
        if self.session.project is not self._project:
            show_text(self.outcome, "")
        self._project = self.session.project
        self.snapshots.show_project(self._project)
        self.refresh()

    def save_work_log(self) -> None:
        """Ask for a CSV file, and write the seconds, strokes and changed pixels of each frame to it."""
        if self._project is None:
            return
        proposed = self._project.top.folder.with_name(f"{self._project.stem}_work.csv")
        path = ask_where_to_save(self, FileKind.TABLES, "Save the work log", proposed, "CSV (*.csv)")
        if path is None:
            return
        try:
            count = self._project.work_log.write_csv(path)
        except SurgicalSAMError as error:
            show_failure(error, self)
            return
        show_text(self.outcome, f"{path.name} lists the work on {counted(count, 'frame')}.")

    def _build(self) -> None:
        self.missing, self.outcome = note(), note()
        self.snapshots = SnapshotList(self.run, self.layers)
        self.safety = ProjectSafety(self.run, self.layers)
        self.save_log_button = QPushButton("Save work log…")
        self.save_log_button.setToolTip("Seconds, strokes and changed pixels of each frame, as CSV")
        for widget in (self.missing, self.outcome, self.snapshots, self.safety, self.save_log_button):
            self.column.addWidget(widget)
        self.outcome.hide()

    def _connect(self) -> None:
        self.save_log_button.clicked.connect(self.save_work_log)
        self.run.started.connect(self.refresh)
        self.run.finished.connect(lambda _is_complete: self.reread())


def why_not_written(session: Session) -> str | None:
    """Why the labels cannot be changed, as text for the user; None if they can."""
    if session.project is None:
        return "Open a video first."
    return None if session.project.writable else "Read-only: nothing can be changed in this window."
