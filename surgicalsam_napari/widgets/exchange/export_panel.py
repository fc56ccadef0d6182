"""Panel *Export / Import*: exports labels of the project as a dataset, and imports labels."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QPushButton

from surgicalsam_napari.exchange.exporting import about_instruments, export_frames
from surgicalsam_napari.exchange.format import POLYGONS
from surgicalsam_napari.exchange.registry import EXPORT_FORMATS
from surgicalsam_napari.exchange.sidecar import SIDECAR
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project
from surgicalsam_napari.store.corrections import corrected_frames
from surgicalsam_napari.widgets.exchange.class_checks import ClassChecks
from surgicalsam_napari.widgets.exchange.import_form import ImportForm
from surgicalsam_napari.widgets.exchange.results_section import ResultsSection
from surgicalsam_napari.widgets.parts.file_dialogs import FileKind, ask_for_folder
from surgicalsam_napari.widgets.parts.frame_scope import EVERY_NTH, RANGE, WHOLE_VIDEO, FrameScope
from surgicalsam_napari.widgets.parts.message import show_failure
from surgicalsam_napari.widgets.parts.parts import (
    SPACING,
    ElidedLabel,
    TaskPanel,
    caption,
    let_shrink,
    note,
    primary_button,
)
from surgicalsam_napari.widgets.parts.progress_strip import ProgressStrip, Question
from surgicalsam_napari.widgets.parts.theme import link
from surgicalsam_napari.widgets.runs.run import Run
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers
from surgicalsam_napari.widgets.viewer.session_signals import SessionSignals

CORRECTED = "Corrected frames"
NOTHING_CORRECTED = "No frame has been corrected yet. Paint on the labels, or choose other frames."
NO_CLASS = "No class is checked. Check at least one class."
COUNT_DELAY_MS = 150  # strokes that follow each other closely are counted once


class ExportPanel(TaskPanel):
    """Frames, format and folder of an export; below them statistics and overlays, and the import form."""

    running_changed = Signal(bool)
    _edited = Signal()

    def __init__(self, session: Session, layers: ViewerLayers) -> None:
        super().__init__("Export")
        self.session, self.layers = session, layers
        self.run = Run(self)
        self.import_form = ImportForm(session, layers)
        self.results = ResultsSection(session, layers)
        self._project: Project | None = None
        self._chosen_folder: Path | None = None  # None: next to the video
        self._written, self._written_format = Path(), ""  # the folder that the run writes, and its format
        self._is_locked = False
        self._count_timer = QTimer(self, singleShot=True, interval=COUNT_DELAY_MS)
        self._build()
        self._connect()
        self.refresh()

    def subscribe(self, signals: SessionSignals) -> None:
        """Refresh with the session from now on."""
        signals.project_changed.connect(self.refresh)
        signals.contents_replaced.connect(self.update_state)

    @property
    def is_running(self) -> bool:
        """Whether labels are being exported, checked, imported, counted or drawn."""
        return self.run.is_running or self.import_form.is_busy or self.results.is_busy

    def refresh(self) -> None:
        """Show the project that is open now, if any."""
        if self._project is not None:
            self._project.labels.edited.disconnect(self._relay_edit)
        self._project = project = self.session.project
        if project is not None:
            project.labels.edited.connect(self._relay_edit)
            self.scope.set_frame_count(project.video.info.frame_count)
        self._chosen_folder = None
        self.question.hide()
        self.result.hide()
        self.import_form.refresh()
        self.update_state()

    def update_state(self) -> None:
        """Enable the controls that can be used now, and count the frames."""
        if self.session.project is not None:
            self.classes.show_classes(self.session.project.classes)
        is_ready = self.session.project is not None and not self._is_locked and not self.is_running
        for widget in (self.scope, self.classes, self.format, self.images, self.choose_folder):
            widget.setEnabled(is_ready)
        self.shapes.setEnabled(is_ready and self.shapes.count() > 1)
        self.progress.setVisible(self.run.is_running)
        self.export.setVisible(not self.question.isVisibleTo(self))
        self.import_form.set_locked(self._is_locked or self.run.is_running or self.results.is_busy)
        self.results.refresh(is_locked=self._is_locked or self.run.is_running or self.import_form.is_busy)
        target = "" if self.session.project is None else str(self.target())
        self.folder.setText(target or "–")
        self.folder.setToolTip(target)
        self._count()

    def set_locked(self, is_locked: bool) -> None:
        """Locked while another run works on the project."""
        self._is_locked = is_locked
        self.update_state()

    def cancel(self) -> None:
        """Stop a running export or import."""
        self.run.cancel()
        self.import_form.cancel()
        self.results.cancel()

    def target(self) -> Path:
        """The folder that Export writes: the chosen folder if it is empty or an earlier export, else a new one in it."""
        assert self.session.project is not None
        video = self.session.project.manifest.video_path
        parts = "parts_" if self.session.shows_parts else ""
        chosen = self._chosen_folder
        if chosen is not None and (is_empty(chosen) or is_export(chosen)):
            return chosen
        return (chosen or video.parent) / f"{video.stem}_{parts}{self.format.currentData()}"

    def start(self) -> None:
        """Start the export, but ask first if it would replace an earlier one."""
        target = self.target()
        if is_export(target):
            self.question.put(f"{target.name} already contains an export. Replace it?", "Replace it")
            self.question.show()
            self.result.hide()
            self.update_state()
        else:
            self._start(overwrite=False)

    def _build(self) -> None:
        self.scope, self.classes = FrameScope((CORRECTED, WHOLE_VIDEO, RANGE, EVERY_NTH)), ClassChecks()
        self.format, self.shapes, self.format_note = QComboBox(), QComboBox(), note()
        self.folder = ElidedLabel(mode=Qt.TextElideMode.ElideLeft)
        for name, format in EXPORT_FORMATS.items():
            self.format.addItem(format.title, name)
        let_shrink(self.format)
        self.images = QCheckBox("with frame images")
        self.images.setChecked(True)
        self.images.setToolTip("Also write the frames as images. Training on the dataset needs them.")
        self.choose_folder = QPushButton("Choose…")
        grid = self.add_grid()
        frames_caption = caption("Frames")
        frames_caption.setContentsMargins(0, 5, 0, 0)  # level with the dropdown, not with the fields below it
        grid.addWidget(frames_caption, 0, 0, Qt.AlignmentFlag.AlignTop)
        grid.addWidget(self.scope, 0, 1, 1, 2)
        rows = ("Classes", self.classes), ("Format", self.format), ("Labels as", self.shapes), ("", self.images)
        for row, (title, widget) in enumerate((*rows, ("", self.format_note)), start=1):
            if title:
                grid.addWidget(caption(title), row, 0)
            grid.addWidget(widget, row, 1, 1, 2)
        grid.addWidget(caption("Folder"), 6, 0)
        grid.addWidget(self.folder, 6, 1)
        grid.addWidget(self.choose_folder, 6, 2)
        self._show_format()
        self.count, self.result = note(), note()
        self.result.setOpenExternalLinks(True)
        self.export = primary_button("Export")
        self.progress, self.question = ProgressStrip(), Question()
        for widget in (self.count, self.export, self.question, self.progress, self.result):
            self.column.addWidget(widget)
        self.column.addSpacing(2 * SPACING)
        self.column.addWidget(self.results)
        self.column.addSpacing(2 * SPACING)
        self.column.addWidget(self.import_form)

    def _connect(self) -> None:
        self._edited.connect(self._count_timer.start)
        self._count_timer.timeout.connect(self._count)
        self.scope.changed.connect(self.update_state)
        self.classes.changed.connect(self._count)
        self.format.currentIndexChanged.connect(lambda _index: self._on_format())
        self.choose_folder.clicked.connect(self._choose_folder)
        self.export.clicked.connect(self.start)
        self.question.confirmed.connect(lambda: self._start(overwrite=True))
        self.question.declined.connect(self._close_question)
        self.progress.cancelled.connect(self._on_cancel)
        self.run.reported.connect(self._on_report)
        self.run.failed.connect(lambda error: show_failure(error, self))
        self.run.finished.connect(self._on_finished)
        self.import_form.busy_changed.connect(self._on_import_changed)
        self.results.busy_changed.connect(self._on_import_changed)

    def _relay_edit(self, _frame_index: int) -> None:
        with suppress(RuntimeError):  # the dock may be closed while the layer is still edited
            self._edited.emit()  # an edit may come from any thread

    # Format -------------------------------------------------------------------------------------------------------------

    def _on_format(self) -> None:
        self._show_format()
        self.update_state()

    def _show_format(self) -> None:
        """Offer what the chosen format can hold, and its note."""
        format = EXPORT_FORMATS[self.format.currentData()]
        self.shapes.clear()
        for shape in format.shapes:
            self.shapes.addItem(shape.capitalize(), shape)
        self.format_note.setText(format.note)
        self.format_note.setVisible(bool(format.note))

    # Frames to export ---------------------------------------------------------------------------------------------------

    def frame_indices(self) -> Sequence[int]:
        """The frames that Export writes; empty without a project."""
        project = self.session.project
        if project is None:
            return []
        if self.scope.choice.currentText() == CORRECTED:
            return corrected_frames(project)
        return self.scope.frame_indices(self.layers.current_frame, project.video.info.frame_count)

    def _count(self) -> None:
        if self.session.project is None:
            self.count.setText("Open a video first.")
            self.export.setEnabled(False)
            return
        frame_count = len(self.frame_indices())
        text = counted(frame_count, "frame")
        if self.scope.choice.currentText() == CORRECTED:
            text = f"{text} edited or verified by a person" if frame_count else NOTHING_CORRECTED
        has_classes = bool(self.classes.class_ids)
        self.count.setText(text if has_classes else NO_CLASS)
        self.export.setEnabled(frame_count > 0 and has_classes and not self._is_locked and not self.is_running)

    def _choose_folder(self) -> None:
        path = ask_for_folder(self, FileKind.EXPORTS, "Choose a folder for the export", self.target().parent)
        if path is not None:
            self._chosen_folder = path
            self.update_state()

    # A run --------------------------------------------------------------------------------------------------------------

    def _start(self, *, overwrite: bool) -> None:
        self._close_question()
        project = self.session.project
        assert project is not None
        frames, target, kind = self.frame_indices(), self.target(), self.format.currentData()
        options: dict[str, Any] = {
            "class_ids": self.classes.class_ids if self.classes.is_some else None,
            "polygons": self.shapes.count() > 1 and self.shapes.currentData() == POLYGONS,
            "images": self.images.isChecked(),
        }
        self._written, self._written_format = target, kind
        self.result.hide()
        self.message.clear()
        self.run.start(lambda: export_frames(project, frames, target, kind, overwrite=overwrite, **options))
        self.progress.show_start()
        self._changed()

    def _on_report(self, report: Any) -> None:
        self.progress.show_progress(report.done, report.total, self.run.seconds_left)

    def _on_cancel(self) -> None:
        self.progress.show_stopping()
        self.run.cancel()

    def _on_finished(self, is_complete: bool) -> None:
        report = self.run.last_report
        if is_complete:
            folder = link(escape(self._written.name), self._written.as_uri(), self)
            project = self.session.project
            tracks = "" if project is None else about_instruments(project, self._written_format)
            self.result.setText(f"Exported {counted(report.total, 'frame')} to {folder}. {tracks}".strip())
        elif self.run.is_cancelled:
            done = 0 if report is None else report.done
            after = f" after {done:,} of {counted(report.total, 'frame')}" if done else ""
            self.result.setText(f"Cancelled{after}: nothing was written. Export starts again from the first frame.")
        self.result.setToolTip(str(self._written))
        self.result.setVisible(is_complete or self.run.is_cancelled)
        self._changed()

    def _close_question(self) -> None:
        self.question.hide()
        self.update_state()

    def _on_import_changed(self, _is_busy: bool) -> None:
        self._changed()

    def _changed(self) -> None:
        self.update_state()
        self.running_changed.emit(self.is_running)


def is_export(folder: Path) -> bool:
    """Whether this folder contains an earlier export."""
    return (folder / SIDECAR).is_file()


def is_empty(folder: Path) -> bool:
    """Whether this is an empty folder."""
    return folder.is_dir() and not any(folder.iterdir())
