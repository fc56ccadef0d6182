"""The import form of the panel *Export / Import*: checks the labels of a dataset, then imports them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QPushButton

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.dataset import Dataset
from surgicalsam_napari.exchange.import_plan import ImportChoices, ImportPlan, plan_import
from surgicalsam_napari.exchange.importing import import_frames
from surgicalsam_napari.exchange.registry import FORMATS, open_dataset
from surgicalsam_napari.exchange.survey import survey_frames
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.instruments import CLASS_SETS
from surgicalsam_napari.session import Session
from surgicalsam_napari.widgets.exchange.problems_dialog import ProblemsDialog
from surgicalsam_napari.widgets.parts.parts import LINK_COLOR, SPACING, Panel, caption, note
from surgicalsam_napari.widgets.parts.progress_strip import ProgressStrip, Question
from surgicalsam_napari.widgets.runs.background import run_in_background, show_failure
from surgicalsam_napari.widgets.runs.run import Run
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers

WHAT_IT_DOES = "Imported labels count as corrected by you. Pixels that you painted or verified stay."
READ_ONLY = "Read-only: you cannot import labels in this window."
AS_IN_DATASET, AS_IN_PROJECT, BY_FILE_NAMES = "As in the dataset", "As in this project", "Find it by the file names"
NUMBERS_ONLY = "If the dataset has class numbers but no class names, choose its class set under Classes and try again."


class ImportForm(Panel):
    """Two buttons that choose a dataset; then the check, a question, the progress and the result."""

    busy_changed = Signal(bool)

    def __init__(self, session: Session, layers: ViewerLayers) -> None:
        super().__init__("Import")
        self.session, self.layers = session, layers
        self.check, self.run = Run(self), Run(self)
        self.problems: ProblemsDialog | None = None
        self._is_locked = False
        self._opening: object | None = None  # identifies the dataset being opened; any other one is ignored
        self._dataset: Dataset | None = None
        self._plan: ImportPlan | None = None
        self._kept_pixels = 0
        self._build()
        self._connect()
        self.update_state()

    @property
    def is_busy(self) -> bool:
        """Whether a dataset is being read, checked or imported."""
        return self._opening is not None or self.check.is_running or self.run.is_running

    def choose(self, path: Path) -> None:
        """Read a dataset's folder or file, check it, and ask whether to import it; nothing is written yet."""
        project = self.session.project
        if project is None or not project.writable or self.is_busy or self._is_locked:
            return
        self._forget()
        classes = project.classes if self.names.currentText() == AS_IN_PROJECT else self.names.currentData()
        opening = self._opening = object()
        run_in_background(
            lambda: open_dataset(path, classes=classes),
            lambda dataset: self._on_opened(opening, dataset),
            lambda error: self._on_open_failed(opening, error),
        )
        self._show_work(f"Reading {path.name}…")

    def refresh(self) -> None:
        """Another project is open: discard the dataset chosen for the project before."""
        self._forget()
        self.update_state()

    def set_locked(self, is_locked: bool) -> None:
        """Locked while another run works on the project."""
        self._is_locked = is_locked
        self.update_state()

    def update_state(self) -> None:
        """Enable the controls that can be used now."""
        project = self.session.project
        is_ready = project is not None and project.writable and not self._is_locked and not self.is_busy
        for widget in (self.from_folder, self.from_file, self.names, self.sequence, self.question.go_on):
            widget.setEnabled(is_ready)
        self.progress.setVisible(self.is_busy)

    def cancel(self) -> None:
        """Stop: an import is rolled back, a check is discarded."""
        if self._opening is not None:
            self._forget()
            self._changed()
        for run in (self.check, self.run):
            if run.is_running:
                self.progress.show_stopping()
                run.cancel()

    def _build(self) -> None:
        self.from_folder, self.from_file = QPushButton("From a folder…"), QPushButton("From a COCO file…")
        self.from_folder.setToolTip(f"A dataset's folder: {', '.join(format.title for format in FORMATS.values())}")
        self.from_file.setToolTip("A COCO JSON file")
        self.names, self.sequence = QComboBox(), QComboBox()
        self.names.addItem(AS_IN_DATASET, None)
        self.names.addItem(AS_IN_PROJECT, None)
        for class_set in CLASS_SETS.values():
            self.names.addItem(f"As in {class_set.name}", class_set)
        self.names.setToolTip("The class names of a dataset that has only class numbers")
        self.question, self.progress, self.result = Question(), ProgressStrip(), note()
        self._sequence_caption = caption("Sequence")
        grid = self.add_grid()
        grid.addWidget(caption("Classes"), 0, 0)
        grid.addWidget(self.names, 0, 1)
        buttons = QHBoxLayout()
        buttons.setSpacing(SPACING)
        buttons.addWidget(self.from_folder, 1)
        buttons.addWidget(self.from_file, 1)
        self.column.addLayout(buttons)
        below = self.add_grid()
        below.addWidget(self._sequence_caption, 0, 0)
        below.addWidget(self.sequence, 0, 1)
        for widget in (self.result, self.question, self.progress):
            self.column.addWidget(widget)
        self._forget()

    def _connect(self) -> None:
        self.from_folder.clicked.connect(self._choose_folder)
        self.from_file.clicked.connect(self._choose_file)
        self.question.confirmed.connect(self._on_confirmed)
        self.question.declined.connect(self._forget)
        self.progress.cancelled.connect(self.cancel)
        self.result.linkActivated.connect(self._show_problems)
        self.check.reported.connect(lambda report: self._show_progress(self.check, report))
        self.check.failed.connect(self._on_check_failed)
        self.check.finished.connect(self._on_checked)
        self.run.reported.connect(self._on_report)
        self.run.failed.connect(show_failure)
        self.run.finished.connect(self._on_finished)

    def _forget(self) -> None:
        self._dataset = self._plan = self._opening = None
        self.question.hide()
        self._show_sequences(())
        project = self.session.project
        self._say(WHAT_IT_DOES if project is None or project.writable else READ_ONLY)

    def _say(self, text: str) -> None:
        self.result.setText(text)
        self.result.setVisible(bool(text))

    def _ask(self, text: str, yes: str) -> None:
        self._say("")
        self.question.put(text, yes)
        self.question.show()
        self._changed()

    def _changed(self) -> None:
        self.update_state()
        self.busy_changed.emit(self.is_busy)

    def _show_work(self, text: str) -> None:
        self._say("")
        self.question.hide()
        self.progress.show_start(text)
        self._changed()

    def _show_progress(self, run: Run, report: Any) -> None:
        self.progress.show_progress(report.done, report.total, run.seconds_left)

    def _choose_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Choose a folder of labels")
        if path:
            self.choose(Path(path))

    def _choose_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Choose a COCO file", "", "COCO (*.json);;All files (*)")
        if path:
            self.choose(Path(path))

    # Checking -----------------------------------------------------------------------------------------------------------

    def _on_opened(self, opening: object, dataset: Dataset) -> None:
        if self._opening is not opening:
            return
        self._dataset, self._opening = dataset, None
        if len(dataset.sequences) > 1:
            self._show_sequences(dataset.sequences)
            count = len(dataset.sequences)
            self._ask(f"{dataset.path.name} contains {count} sequences. Which one shows this video?", "Check it")
        else:
            self._start_check()

    def _on_open_failed(self, opening: object, error: Exception) -> None:
        if self._opening is not opening:
            return
        self._forget()
        if self.names.currentText() == AS_IN_DATASET:
            self._say(NUMBERS_ONLY)
        self._changed()
        show_failure(error)

    def _show_sequences(self, sequences: tuple[str, ...]) -> None:
        self.sequence.clear()
        self.sequence.addItem(BY_FILE_NAMES, None)
        for name in sequences:
            self.sequence.addItem(name, name)
        for widget in (self._sequence_caption, self.sequence):
            widget.setVisible(bool(sequences))

    def _start_check(self) -> None:
        project, dataset, sequence = self.session.project, self._dataset, self.sequence.currentData()
        if project is not None and dataset is not None:
            # new classes are no problem here: the question names them before they are added
            self.check.start(lambda: survey_frames(project, dataset, sequence))
            self._show_work("Checking…")

    def _on_checked(self, is_complete: bool) -> None:
        if is_complete:
            plan = plan_import(self.check.result, ImportChoices(accept_similar=True, add_classes=True))
            try:
                plan.check_ready()
            except ExchangeError as error:
                self._on_check_failed(error)
                self._changed()
                return
            self._plan = plan
            self._ask(summary(plan), "Import them")
            return
        if self.check.is_cancelled:
            self._forget()
        self._changed()

    def _on_check_failed(self, error: Exception) -> None:
        self._forget()
        if not isinstance(error, ExchangeError) or not error.problems:
            show_failure(error)
            return
        count = counted(len(error.problems), "problem")
        self._say(f'Nothing was imported: <a style="color: {LINK_COLOR}" href="#">{count}</a>.')
        self.problems = ProblemsDialog(error, self)
        self.problems.show()

    def _show_problems(self, _link: str) -> None:
        if self.problems is not None:
            self.problems.show()
            self.problems.raise_()

    # Importing ----------------------------------------------------------------------------------------------------------

    def _on_confirmed(self) -> None:
        plan, project = self._plan, self.session.project
        if plan is None:
            self._start_check()
        elif project is not None:
            self.layers.ensure_labels()
            self._kept_pixels = 0
            self.run.start(lambda: import_frames(project, plan))
            self._show_work("Starting…")

    def _on_report(self, report: Any) -> None:
        self._kept_pixels += report.kept_pixels
        self._show_progress(self.run, report)
        self.layers.refresh_frame(report.frame_index)

    def _on_finished(self, is_complete: bool) -> None:
        frame_count = 0 if self._plan is None else len(self._plan.frames)
        self._forget()
        if is_complete:
            kept = f" {counted(self._kept_pixels, 'pixel')} of yours did not change." if self._kept_pixels else ""
            self._say(f"Imported {counted(frame_count, 'frame')}.{kept}")
        elif self.run.is_cancelled:
            self._say("Cancelled: nothing was imported.")
        self.layers.refresh_frame(self.layers.current_frame)
        self.session.contents_replaced.emit()
        self._changed()


def summary(plan: ImportPlan) -> str:
    """What an import will do, for the question before it."""
    dataset = plan.dataset
    class_ids = {class_id for frame, _ in plan.frames for class_id in dataset.annotated_class_ids(frame)}
    names = [dataset.classes.by_id(class_id).name for class_id in class_ids]
    new = [instrument.name for instrument in plan.new_classes]
    classes_text = names[0] if len(names) == 1 else f"{len(names)} classes"
    text = f"{counted(len(plan.frames), 'frame')} with {classes_text}"
    if new:
        text += f"; new classes, added to this project: {', '.join(new)}"
    return f"{text}. They will count as corrected by you. Pixels that you painted or verified stay."
