"""The import part of the panel *Export / Import*: choose a dataset for the import dialog, and see the result."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton

from surgicalsam_napari.exchange.import_plan import ImportPlan
from surgicalsam_napari.exchange.importing import ImportCounts, result_in_words
from surgicalsam_napari.exchange.registry import FORMATS
from surgicalsam_napari.session import Session
from surgicalsam_napari.widgets.exchange.import_dialog import WHAT_IT_DOES, ImportDialog
from surgicalsam_napari.widgets.parts.file_dialogs import FileKind, ask_for_file, ask_for_folder
from surgicalsam_napari.widgets.parts.parts import SPACING, Panel, note
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers

READ_ONLY = "Read-only: you cannot import labels in this window."


class ImportForm(Panel):
    """Two buttons that choose a dataset; the dialog does the rest."""

    busy_changed = Signal(bool)

    def __init__(self, session: Session, layers: ViewerLayers) -> None:
        super().__init__("Import")
        self.session, self.layers = session, layers
        self.dialog: ImportDialog | None = None
        self._is_locked = False
        self._build()
        self.refresh()

    @property
    def is_busy(self) -> bool:
        """Whether a dataset is being read, checked or imported."""
        return self.dialog is not None and self.dialog.is_busy

    def choose(self, path: Path) -> None:
        """Read a dataset's folder or file, and show in a dialog what an import would do; nothing is written yet."""
        project = self.session.project
        if project is None or not project.writable or self.is_busy or self._is_locked:
            return
        self._close_dialog()
        self.message.clear()
        self.result.setText("")
        self.dialog = dialog = ImportDialog(project, path, self)
        dialog.busy_changed.connect(self._changed)
        dialog.run.started.connect(self.layers.ensure_labels)
        dialog.frame_written.connect(self.layers.refresh_frame)
        dialog.imported.connect(self._on_imported)
        dialog.run.finished.connect(self._on_run_finished)
        dialog.show()
        self._changed()

    def refresh(self) -> None:
        """Another project is open: close the dialog for the project before."""
        self._close_dialog()
        project = self.session.project
        self.result.setText(WHAT_IT_DOES if project is None or project.writable else READ_ONLY)
        self.update_state()

    def set_locked(self, is_locked: bool) -> None:
        """Locked while another run works on the project."""
        self._is_locked = is_locked
        self.update_state()

    def update_state(self) -> None:
        """Enable the buttons if they can be used now."""
        project = self.session.project
        is_ready = project is not None and project.writable and not self._is_locked and not self.is_busy
        for widget in (self.from_folder, self.from_file):
            widget.setEnabled(is_ready)
        if self.dialog is not None and not self.is_busy:
            self.dialog.setEnabled(not self._is_locked)

    def cancel(self) -> None:
        """Stop: an import is rolled back, a check is discarded."""
        if self.dialog is not None:
            self.dialog.cancel()

    def _build(self) -> None:
        self.from_folder, self.from_file = QPushButton("From a folder…"), QPushButton("From a file…")
        titles = ", ".join(format.title for format in FORMATS.values())
        self.from_folder.setToolTip(f"A dataset's folder: {titles}")
        self.from_file.setToolTip("A dataset in one file, such as COCO JSON, CVAT XML or TIFF")
        self.result = note()
        buttons = QHBoxLayout()
        buttons.setSpacing(SPACING)
        buttons.addWidget(self.from_folder, 1)
        buttons.addWidget(self.from_file, 1)
        self.column.addLayout(buttons)
        self.column.addWidget(self.result)
        self.from_folder.clicked.connect(self._choose_folder)
        self.from_file.clicked.connect(self._choose_file)

    def _close_dialog(self) -> None:
        dialog, self.dialog = self.dialog, None
        if dialog is not None:
            dialog.busy_changed.disconnect(self._changed)
            dialog.finished.connect(dialog.deleteLater)
            dialog.close_when_idle()

    def _changed(self) -> None:
        self.update_state()
        self.busy_changed.emit(self.is_busy)

    def _choose_folder(self) -> None:
        path = ask_for_folder(self, FileKind.LABELS, "Choose a folder of labels")
        if path is not None:
            self.choose(path)

    def _choose_file(self) -> None:
        filters = "Labels (*.json *.xml *.yaml *.yml *.tif *.tiff);;All files (*)"
        path = ask_for_file(self, FileKind.LABELS, "Choose a file of labels", filters)
        if path is not None:
            self.choose(path)

    def _on_imported(self, plan: ImportPlan, counts: ImportCounts) -> None:
        self.result.setText(result_in_words(plan, counts))

    def _on_run_finished(self, is_complete: bool) -> None:
        if not is_complete:
            self.result.setText("Nothing was imported.")
        self.layers.refresh_frame(self.layers.current_frame)
        self.session.contents_replaced.emit()
