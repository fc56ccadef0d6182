"""Panel *Train*: learn from the corrected frames in seconds, or train the whole decoder on them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from surgicalsam_napari.errors import SurgicalSAMError
from surgicalsam_napari.inference.estimation import known_speed
from surgicalsam_napari.session import Session
from surgicalsam_napari.store.corrections import untouched_frames
from surgicalsam_napari.widgets.parts.collapsible import Collapsible
from surgicalsam_napari.widgets.parts.message import show_failure
from surgicalsam_napari.widgets.parts.parts import SPACING, Panel, TaskPanel, note
from surgicalsam_napari.widgets.runs.training_run import Train, TrainingRun, train_in_process
from surgicalsam_napari.widgets.source.checkpoint_picker import TRAINING_FOLDER, run_title
from surgicalsam_napari.widgets.source.model_panel import ModelPanel
from surgicalsam_napari.widgets.train.correction_counts import CorrectionCounts
from surgicalsam_napari.widgets.train.data_table import TrainingDataTable
from surgicalsam_napari.widgets.train.failure import TrainingFailure
from surgicalsam_napari.widgets.train.form import TrainingForm
from surgicalsam_napari.widgets.train.learn_card import LearnCard
from surgicalsam_napari.widgets.train.parts import theme_colors
from surgicalsam_napari.widgets.train.progress import TrainingProgress
from surgicalsam_napari.widgets.train.result import TrainingResult
from surgicalsam_napari.widgets.train.time_needed import time_needed
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers
from surgicalsam_napari.widgets.viewer.session_signals import SessionSignals
from surgicalsam_training.run.run_folder import RunFolder

WAIT_FOR_LEARNING = "The model is learning. Wait until this is done."
RUN_NAME = "%Y-%m-%d_%H-%M-%S"
MORE = "More: a longer training"
WHEN_TO_TRAIN = "Tunes the whole decoder. For many corrected frames, of several videos; compares before and after."


class TrainPanel(TaskPanel):
    """Shows one of four views: *Learn* with the training form under *More*, a running training, its result, its failure.

    Parameters
    ----------
    train : trains in a run folder and yields its reports; by default in a separate process
    """

    running_changed = Signal(bool)
    segment_untouched_requested = Signal(object)  # list of frame indices

    def __init__(
        self, session: Session, layers: ViewerLayers, model_panel: ModelPanel, train: Train = train_in_process
    ) -> None:
        super().__init__("Train")
        self.session, self.layers, self.model_panel = session, layers, model_panel
        self.run = TrainingRun(train, self)
        self.data = CorrectionCounts(self)
        self._loading: Path | None = None  # the checkpoint that Use it asked for
        self._build()
        self._connect()
        self._use_theme()
        self._show(self.setup)
        self.refresh()

    def subscribe(self, signals: SessionSignals) -> None:
        """Refresh with the session from now on."""
        signals.project_changed.connect(self.learn.forget)
        for changed in (signals.project_changed, signals.model_changed, signals.contents_replaced):
            changed.connect(self.refresh)

    @property
    def is_running(self) -> bool:
        """Whether a training is running; *Learn* has its own run."""
        return self.run.is_running

    def set_waiting(self, reason: str | None) -> None:
        """Show why *Learn* is not possible now; None if it is possible. A training reads only saved labels."""
        self.learn.set_waiting(reason)

    def refresh(self) -> None:
        """Update after a change of the project or the model, or of labels without painting."""
        self.data.show_project(self.session.project)
        self._show_start()
        self.update_state()

    def update_state(self) -> None:
        """Enable the controls that can be used now."""
        has_data = self.data.has_news and self.session.project is not None
        has_model = self.session.model is not None and not self.model_panel.is_loading
        is_free = not self.is_running and not self.learn.run.is_running
        self._show_time()
        self.start_button.setEnabled(has_data and has_model and self.form.problem is None and is_free)
        self.start_button.setToolTip(WAIT_FOR_LEARNING if self.learn.run.is_running else "")
        self.form.setVisible(self.session.project is not None)
        self.result.set_enabled(not self.model_panel.is_loading)
        self.learn.update_state()

    def _show_time(self) -> None:
        """How long a training with these settings will take."""
        model = self.session.model
        is_known = self.session.project is not None and model is not None and self.form.problem is None
        speed = None if model is None else known_speed(model)
        text = time_needed(self.form.config(self.data.folders), self.data.corrections, speed) if is_known else ""
        self.time.setText(text)
        self.time.setVisible(bool(text))

    def start(self) -> None:
        """What the Start button does."""
        project = self.session.project
        if project is None or not self.start_button.isEnabled():
            return
        folder = project.folder / TRAINING_FOLDER / datetime.now().strftime(RUN_NAME)
        try:
            project.labels.check_writable("The training")
            self.run.train(RunFolder.create(folder, self.form.config(self.data.folders)))
        except SurgicalSAMError as error:
            show_failure(error, self)

    def cancel(self) -> None:
        """Ask the run to stop; it keeps the best so far."""
        if self.is_running:
            self.progress.show_stopping()
            self.run.cancel()

    def _build(self) -> None:
        self.data_table, self.form = TrainingDataTable(self.data), TrainingForm()
        self.start_button, self.time = QPushButton("Start"), note()
        self.time.setToolTip("Estimated from the speed of the model in use on this machine. It may take twice as long.")
        self.heading.hide()  # each view has its own
        self.learn = LearnCard(self.session, self.layers, self.model_panel, self.data)
        whole = Panel(MORE)
        whole.column.setSpacing(2 * SPACING)
        for widget in (note(WHEN_TO_TRAIN), self.data_table, self.form, self.time, self.start_button):
            whole.column.addWidget(widget)
        self.more = Collapsible(whole)
        self.setup = QWidget()
        column = QVBoxLayout(self.setup)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(3 * SPACING)
        for widget in (self.learn, self.more):
            column.addWidget(widget)
        self.progress, self.result, self.failure = TrainingProgress(), TrainingResult(), TrainingFailure()
        for view in self._views:
            self.column.addWidget(view)

    @property
    def _views(self) -> tuple[QWidget, ...]:
        return self.setup, self.progress, self.result, self.failure

    def _show(self, view: QWidget) -> None:
        for each in self._views:
            each.setVisible(each is view)

    def _connect(self) -> None:
        self.data.counted.connect(self.update_state)
        self.more.toggled.connect(self.update_state)  # the speed of the model is known by now
        self.learn.running_changed.connect(lambda _is_running: self.update_state())
        self.form.changed.connect(self._on_form_changed)
        self.start_button.clicked.connect(self.start)
        self.progress.cancelled.connect(self.cancel)
        self.run.started.connect(self._on_started)
        self.run.reported.connect(self.progress.show_report)
        self.run.finished.connect(self._on_finished)
        self.result.use_requested.connect(self._use)
        self.result.discard_requested.connect(self._discard)
        self.result.segment_requested.connect(self._segment_untouched)
        self.result.closed.connect(self._back)
        self.failure.resume_requested.connect(self._resume)
        self.failure.use_requested.connect(self._use)
        self.failure.closed.connect(self._back)
        self.model_panel.loading_changed.connect(self._on_loading_changed)
        self.layers.viewer.events.theme.connect(self._use_theme)

    def _use_theme(self, _event: Any = None) -> None:
        self.progress.use_colors(theme_colors(self.layers.viewer))

    def _show_start(self) -> None:
        in_use = self.model_panel.in_use
        self.form.show_start(in_use, self.model_panel.checkpoint.title(in_use.checkpoint))

    def _on_form_changed(self) -> None:
        self.data.set_trust(self.form.trust)
        self.update_state()

    # A run --------------------------------------------------------------------------------------------------------------

    def _on_started(self) -> None:
        self.progress.show_start()
        self._show(self.progress)
        self.update_state()
        self.running_changed.emit(True)

    def _on_finished(self, _is_complete: bool) -> None:
        folder, result, error = self.run.folder, self.run.result, self.run.error
        assert folder is not None
        if result is not None:
            self.result.show_result(result, self.session.classes)
            self._show(self.result)
        elif error is not None and not isinstance(error, SurgicalSAMError):
            show_failure(error, self)  # a bug: with its traceback
            self._show_failure(error)
        elif error is not None:
            self._show_failure(error)
        else:
            self._back()
        self.update_state()
        self.running_changed.emit(False)

    def _show_failure(self, error: Exception) -> None:
        folder = self.run.folder
        assert folder is not None
        self.failure.show_error(
            error,
            is_cancelled=self.run.is_stop_requested,
            folder=folder.path,
            best=folder.best_checkpoint if folder.best_checkpoint.exists() else None,
            can_resume=folder.record != {},
        )
        self._show(self.failure)

    def _resume(self) -> None:
        folder = self.run.folder
        assert folder is not None
        try:
            self.run.train(RunFolder.create(folder.path, folder.config))
        except SurgicalSAMError as error:
            show_failure(error, self)

    # After a run --------------------------------------------------------------------------------------------------------

    def _use(self) -> None:
        folder = self.run.folder
        assert folder is not None
        self._loading = folder.best_checkpoint.absolute()
        self.result.show_loading()
        self.model_panel.load(self._loading, folder.config.encoder_weights)

    def _on_loading_changed(self, is_loading: bool) -> None:
        self._show_start()
        self.update_state()
        if is_loading or self._loading is None:
            return
        wanted, self._loading = self._loading, None
        if self.model_panel.in_use.checkpoint != wanted:
            self.result.ask_again()
            return
        title = run_title(wanted.parent, wanted.stat().st_mtime) or wanted.parent.name
        self.model_panel.add_checkpoint(wanted, title)
        self._show_start()
        if self.failure.isVisibleTo(self):
            self._back()
        else:
            self.result.show_in_use(title, len(self._untouched()))

    def _untouched(self) -> list[int]:
        return [] if self.session.project is None else untouched_frames(self.session.project)

    def _segment_untouched(self) -> None:
        self._back()
        self.segment_untouched_requested.emit(self._untouched())

    def _discard(self) -> None:
        assert self.run.folder is not None
        try:
            self.run.folder.discarded = True
        except SurgicalSAMError as error:
            show_failure(error, self)
        self._back()

    def _back(self) -> None:
        self._show(self.setup)
        self.refresh()
