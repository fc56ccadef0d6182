"""The import dialog: what was recognised, what each class becomes, what is left alone, and a frame before and after."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QCloseEvent
from qtpy.QtWidgets import (
    QDialog,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from surgicalsam_napari.errors import ExchangeError, SurgicalSAMError
from surgicalsam_napari.exchange.dataset import Dataset
from surgicalsam_napari.exchange.import_plan import ImportPlan, plan_import
from surgicalsam_napari.exchange.importing import ImportCounts, import_frames
from surgicalsam_napari.exchange.registry import FORMATS, open_dataset
from surgicalsam_napari.exchange.survey import ImportSurvey, survey_frames
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.store import Project
from surgicalsam_napari.widgets.exchange.frame_comparison import FrameComparison
from surgicalsam_napari.widgets.exchange.import_options import ImportOptions
from surgicalsam_napari.widgets.exchange.problems_dialog import ProblemsDialog
from surgicalsam_napari.widgets.exchange.reading_fields import ReadingFields
from surgicalsam_napari.widgets.parts.message import show_failure
from surgicalsam_napari.widgets.parts.parts import SPACING, ElidedLabel, caption, note, primary_button
from surgicalsam_napari.widgets.parts.progress_strip import ProgressStrip
from surgicalsam_napari.widgets.parts.theme import CAPTION, HEADING, PLAIN, WARNING, link, set_look
from surgicalsam_napari.widgets.runs.background import run_in_background
from surgicalsam_napari.widgets.runs.run import Run

_COMMAND_LINE = re.compile(r" \([^()]*on the command line\)")
WHAT_IT_DOES = "Imported labels count as corrected by you. Pixels that you painted or verified stay."


class ImportDialog(QDialog):
    """Reads a dataset, shows what an import would do, and imports it.

    Signals
    -------
    busy_changed : it has started or ended to read, check or import
    frame_written : the frame index, while it imports
    imported : the plan, and the `ImportCounts`
    """

    busy_changed = Signal()
    frame_written = Signal(int)
    imported = Signal(object, object)

    def __init__(self, project: Project, path: Path, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.project, self.path = project, path
        self.check, self.run = Run(self), Run(self)
        self.plan: ImportPlan | None = None
        self.problems: ProblemsDialog | None = None
        self._opening: object | None = None  # identifies the latest reading; results of earlier ones are ignored
        self._dataset: Dataset | None = None
        self._survey: ImportSurvey | None = None
        self._counts = ImportCounts()
        self._must_close = False
        self._build()
        self._connect()
        self.read()

    @property
    def is_busy(self) -> bool:
        """Whether a dataset is being read, checked or imported."""
        return self._opening is not None or self.check.is_running or self.run.is_running

    def read(self) -> None:
        """Read the dataset with the class names and the pattern of the fields, and check it."""
        if self.check.is_running or self.run.is_running:
            return
        self._forget()
        self._dataset = None
        classes, pattern = self.fields.names.currentData(), self.fields.pattern.text().strip() or None
        opening = self._opening = object()
        run_in_background(
            lambda: open_dataset(self.path, classes=classes, frame_pattern=pattern),
            lambda dataset: self._on_opened(opening, dataset),
            lambda error: self._on_open_failed(opening, error),
        )
        self._show_work("Reading…")

    def cancel(self) -> None:
        """Stop what is running: an import is rolled back. Otherwise close."""
        if self._opening is not None:
            self._opening = None
            self._changed()
        for run in (self.check, self.run):
            if run.is_running:
                self.progress.show_stopping()
                run.cancel()

    def close_when_idle(self) -> None:
        """Close now, or as soon as the running step has stopped."""
        self._must_close = True
        self.reject()

    def reject(self) -> None:
        """Close; an import that is running is cancelled first, and the dialog stays and says so."""
        self._must_close |= not self.run.is_running
        self.cancel()
        if not self.is_busy:
            self.comparison.clear()
            super().reject()

    def closeEvent(self, event: QCloseEvent) -> None:
        self.close_when_idle()
        event.setAccepted(not self.is_busy)

    # The window ---------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.setWindowTitle("Import labels")
        self.resize(1060, 700)
        self.recognised, place = QLabel("…"), ElidedLabel(str(self.path))
        set_look(self.recognised, role=HEADING)
        place.setToolTip(str(self.path))
        self.fields = ReadingFields(self.project.classes)
        self.options, self.comparison = ImportOptions(), FrameComparison()
        self.message, self.what, self.progress = caption(""), note(WHAT_IT_DOES), ProgressStrip()
        self.message.setWordWrap(True)
        set_look(self.message, role=CAPTION, tone=WARNING)
        self.progress.cancel.hide()  # the button of the dialog cancels
        self.stop, self.import_button = QPushButton("Cancel"), primary_button("Import")
        set_look(self.stop, role=PLAIN)  # as high as the other one
        for button in (self.stop, self.import_button):
            button.setAutoDefault(False)  # Enter in a field reads the names again
        columns = QHBoxLayout()
        columns.setSpacing(3 * SPACING)
        columns.addWidget(self._scrolled(), 4)
        columns.addWidget(self.comparison, 3)
        buttons = QHBoxLayout()
        buttons.addWidget(self.what, 1)
        buttons.addWidget(self.stop)
        buttons.addWidget(self.import_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 12, 12, 12)
        column.setSpacing(SPACING)
        for widget in (self.recognised, place, self.message):
            column.addWidget(widget)
        column.addSpacing(SPACING)
        column.addLayout(columns, 1)
        column.addWidget(self.progress)
        column.addLayout(buttons)

    def _scrolled(self) -> QScrollArea:
        """How to read the dataset, and the choices."""
        inside = QWidget()
        column = QVBoxLayout(inside)
        column.setContentsMargins(0, 0, SPACING, 0)
        column.setSpacing(2 * SPACING)
        column.addWidget(self.fields)
        column.addWidget(self.options)
        column.addStretch(1)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(inside)
        return area

    def _connect(self) -> None:
        self.fields.changed.connect(self.read)
        self.fields.sequence_chosen.connect(self._start_check)
        self.options.changed.connect(self._replan)
        self.message.linkActivated.connect(lambda _link: self._show_problems())
        self.stop.clicked.connect(self.reject)
        self.import_button.clicked.connect(self._start_import)
        self.check.reported.connect(lambda report: self._show_progress(self.check, report))
        self.check.failed.connect(self._on_check_failed)
        self.check.finished.connect(self._on_checked)
        self.run.reported.connect(self._on_report)
        self.run.failed.connect(self._on_import_failed)
        self.run.finished.connect(self._on_finished)

    def _changed(self) -> None:
        """Enable what can be used now."""
        is_idle = not self.is_busy
        for field in (self.fields, self.options):
            field.setEnabled(is_idle)
        self.import_button.setEnabled(is_idle and self.plan is not None and self.plan.is_ready)
        self.progress.setVisible(self.is_busy)
        self.busy_changed.emit()
        if self._must_close and is_idle:
            self.reject()

    def _say(self, text: str) -> None:
        self.message.setText(text)
        self.message.setVisible(bool(text))

    def _show_work(self, text: str) -> None:
        self._say("")
        self.progress.show_start(text)
        self._changed()

    def _show_progress(self, run: Run, report: Any) -> None:
        self.progress.show_progress(report.done, report.total, run.seconds_left)

    def _forget(self) -> None:
        self.plan = self._survey = None
        self.options.setVisible(False)
        self.comparison.clear()
        self.import_button.setText("Import")

    # Reading and checking -----------------------------------------------------------------------------------------------

    def _on_opened(self, opening: object, dataset: Dataset) -> None:
        if self._opening is not opening:
            return
        self._dataset, self._opening = dataset, None
        title = FORMATS[dataset.format].title if dataset.format in FORMATS else dataset.format
        self.recognised.setText(f"{title}: {counted(len(dataset.frames), 'frame')}")
        self.fields.show_sequences(dataset)
        self._start_check()

    def _on_open_failed(self, opening: object, error: Exception) -> None:
        if self._opening is not opening:
            return
        self._opening = None
        self.recognised.setText("Not imported yet")
        self.fields.offer_class_names()
        self._fail(error)

    def _start_check(self) -> None:
        project, dataset, sequence = self.project, self._dataset, self.fields.sequence.currentData()
        if dataset is None or self.is_busy:
            return
        self._forget()
        self.check.start(lambda: survey_frames(project, dataset, sequence))
        self._show_work("Checking…")

    def _on_checked(self, is_complete: bool) -> None:
        if is_complete:
            self._survey = self.check.result
            self._guarded(lambda: self._show_plan(self.options.show_survey(self.check.result)))
        self._changed()

    def _on_check_failed(self, error: Exception) -> None:
        self._forget()
        self._fail(error)

    def _replan(self) -> None:
        """The user changed a choice."""
        survey = self._survey
        if survey is not None:
            self._guarded(lambda: self._show_plan(plan_import(survey, self.options.choices())))
            self._changed()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except SurgicalSAMError as error:
            self.plan = None
            self._fail(error)

    def _show_plan(self, plan: ImportPlan) -> None:
        self.plan = plan
        self.options.setVisible(True)
        self.options.show_plan(plan, self.project)
        self.import_button.setText(f"Import {counted(len(plan.frames), 'frame')}")
        self._say("")
        if plan.problems:
            count = counted(len(plan.problems), "frame")
            self._say(
                f"Nothing can be imported: {link(count, '#', self)} of the dataset cannot be read or do not fit the video."
            )
        elif plan.questions:
            self._say("Choose which of two overlapping masks is on top.")
        elif not plan.frames:
            self._say("Nobody annotated a frame of this video. Choose below if these frames show no instrument.")
        self.comparison.show_plan(self.project, plan)

    def _fail(self, error: Exception) -> None:
        """Show a user's error in the dialog; a bug as a notification."""
        problems = error.problems if isinstance(error, ExchangeError) else ()
        all_of_them = f" {link('All of them', '#', self)}" if problems else ""
        self.problems = ProblemsDialog(error, self) if isinstance(error, ExchangeError) and problems else None
        self._say(f"{in_window(error)}{all_of_them}")
        if not isinstance(error, SurgicalSAMError):
            show_failure(error, self)
        self._changed()

    def _show_problems(self) -> None:
        """The list of all problems, in its own window."""
        if self.plan is not None and self.plan.problems:
            try:
                self.plan.check_ready()
            except ExchangeError as error:
                self.problems = ProblemsDialog(error, self)
        if self.problems is not None:
            self.problems.show()
            self.problems.raise_()

    # Importing ----------------------------------------------------------------------------------------------------------

    def _start_import(self) -> None:
        project, plan = self.project, self.plan
        if plan is None or not plan.is_ready or self.is_busy:
            return
        self._counts = ImportCounts()
        self.run.start(lambda: import_frames(project, plan))
        self._show_work("Starting…")

    def _on_report(self, report: Any) -> None:
        self._counts = self._counts.including(report)
        self._show_progress(self.run, report)
        self.frame_written.emit(report.frame_index)

    def _on_import_failed(self, error: Exception) -> None:
        self._fail(error)

    def _on_finished(self, is_complete: bool) -> None:
        if is_complete:
            self.imported.emit(self.plan, self._counts)
            self._must_close = True
        elif self.run.is_cancelled:
            self._say("Cancelled: nothing was imported.")
        self._changed()


def in_window(error: Exception) -> str:
    """The message of an error, without what it says about options of the command line."""
    return _COMMAND_LINE.sub("", str(error))
