"""Panel *Segment*: choose classes and frames, then segment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QButtonGroup, QComboBox, QHBoxLayout, QRadioButton

from surgicalsam_napari.errors import SurgicalSAMError
from surgicalsam_napari.formatting import counted, in_bytes, in_time
from surgicalsam_napari.inference import Estimate
from surgicalsam_napari.instruments import CLASS_SETS, ClassSet
from surgicalsam_napari.session import Session
from surgicalsam_napari.widgets.parts.class_picker import ClassPicker, ClassRow
from surgicalsam_napari.widgets.parts.file_dialogs import FileKind, ask_for_file
from surgicalsam_napari.widgets.parts.frame_scope import THIS_FRAME, FrameScope
from surgicalsam_napari.widgets.parts.message import show_failure
from surgicalsam_napari.widgets.parts.parts import SPACING, TaskPanel, caption, let_shrink, note, primary_button
from surgicalsam_napari.widgets.parts.progress_strip import ProgressStrip, Question
from surgicalsam_napari.widgets.parts.run_outcome import RunOutcome
from surgicalsam_napari.widgets.parts.vote_switch import TIP as VOTE_TIP
from surgicalsam_napari.widgets.parts.vote_switch import VoteSwitch
from surgicalsam_napari.widgets.runs.segmentation_run import SegmentationRun
from surgicalsam_napari.widgets.runs.speed_trial import measure_speed
from surgicalsam_napari.widgets.source.model_limits import ModelLimits
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers
from surgicalsam_napari.widgets.viewer.session_signals import SessionSignals

FROM_YAML = "From a YAML file…"
VOTE_STOPPED = "The vote over time was stopped; some classes may be wrong in single frames."
ESTIMATE_DELAY_MS = 150  # several quick changes cause one estimate


class SegmentPanel(TaskPanel):
    """The class dropdown, the scope, the primary button, progress."""

    running_changed = Signal(bool)
    tab_wanted = Signal(str)  # see `ModelLimits`

    def __init__(self, session: Session, layers: ViewerLayers) -> None:
        super().__init__("Segment")
        self.session, self.layers = session, layers
        self.run = SegmentationRun(session, self)
        self.is_model_loading = False
        self._waits_for: str | None = None
        self._action: int | None = None  # the last run, in the history of the project
        self._can_undo = False  # nothing was done after it
        self._is_speed_due = False  # the model changed during another run
        self._estimate_timer = QTimer(self, singleShot=True, interval=ESTIMATE_DELAY_MS)
        self._build()
        self._connect()
        self.refresh()

    def subscribe(self, signals: SessionSignals) -> None:
        """Refresh with the session and the frame in view from now on."""
        signals.project_changed.connect(self._on_project_changed)
        signals.model_changed.connect(self._on_model_changed)
        signals.contents_replaced.connect(self.refresh)
        signals.class_selected.connect(self.show_class)
        self.layers.viewer.dims.events.current_step.connect(self._on_frame)

    def refresh(self) -> None:
        """Show the session's classes, the enabled controls, and the cost of a run."""
        self.picker.show_classes(self.session.classes, self._is_trained)
        self._show_class_set()
        if self.session.selected_class_id is None and self.picker.class_id is not None:
            self.session.select_class(self.picker.class_id)
        self.picker.show_class(self.session.selected_class_id)
        self.limits.refresh()
        self.update_state()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.limits.refresh()  # frames may have been corrected meanwhile

    def update_state(self) -> None:
        """Enable the controls that can be used now, and show what is missing."""
        is_running = self.run.is_running
        missing = self._what_is_missing()
        self.segment.setEnabled(not is_running and missing is None)
        self.outcome.button.setEnabled(self._can_write and self.session.model is not None)
        self.progress.setVisible(is_running)
        self.class_set.setEnabled(not is_running)
        if missing is not None or is_running:
            self.cost.setText(missing or "")
        self.cost.setVisible(bool(self.cost.text()))
        self._estimate_timer.start()

    def set_waiting(self, reason: str | None) -> None:
        """Show why segmenting is not possible now; None if it is possible."""
        if reason != self._waits_for:
            self._waits_for = reason
            self.update_state()
            if reason is None and self._is_speed_due:
                self._measure_speed()

    def show_class(self, class_id: int) -> None:
        """Select this class in the dropdown."""
        self.picker.show_class(class_id)
        self.update_state()

    def class_ids(self) -> list[int]:
        """The classes that Segment will predict."""
        if self.all_classes.isChecked():
            return self.session.trained_class_ids()
        chosen = self.session.selected_class_id
        return [chosen] if chosen is not None and self._is_trained(chosen) else []

    def frame_indices(self) -> range:
        """The frames that Segment will work on."""
        project = self.session.project
        return self.scope.frame_indices(self.layers.current_frame, project.video.info.frame_count) if project else range(0)

    def start(self) -> None:
        """What the Segment button does."""
        if self.segment.isEnabled():
            self.message.clear()
            self.layers.ensure_labels()
            frames, center = self.frame_indices(), self.layers.current_frame
            self.run.request(self.class_ids(), frames, center, with_vote=self._with_vote)

    def resume(self) -> None:
        """What the Resume button does: segment the frames that the last run did not come to."""
        if self._can_write and self.session.model is not None:
            self.message.clear()
            self.layers.ensure_labels()
            self.run.resume(self.layers.current_frame)

    def segment_frames(self, frame_indices: Sequence[int]) -> None:
        """Predict all classes of the model in these frames, as the button does; a long run asks first."""
        class_ids = self.session.trained_class_ids()
        if class_ids and frame_indices and self._can_write:
            self.layers.ensure_labels()
            center = self.layers.current_frame
            self.run.request(class_ids, frame_indices, center, with_vote=self._with_vote)

    def _build(self) -> None:
        self.picker, self.scope, self.class_set = ClassPicker(), FrameScope(), QComboBox()
        self.this_class, self.all_classes = QRadioButton("this class"), QRadioButton("all classes")
        self.this_class.setChecked(True)
        self._which = QButtonGroup(self)
        which = QHBoxLayout()
        which.setSpacing(SPACING)
        for button in (self.this_class, self.all_classes):
            self._which.addButton(button)
            which.addWidget(button)
        which.addStretch(1)
        let_shrink(self.class_set)
        self.class_set.setToolTip("The instruments to choose from; a custom set is a YAML file of id, name, color")
        self.class_row = ClassRow(self.picker)
        self.head.addLayout(self.class_row)
        grid = self.add_grid()
        self._class_set_caption = caption("Class set")
        grid.addWidget(self._class_set_caption, 0, 0)
        grid.addWidget(caption("Look for"), 1, 0)
        frames_caption = caption("Frames")
        frames_caption.setContentsMargins(0, 5, 0, 0)  # level with the dropdown, not with the fields below it
        grid.addWidget(frames_caption, 2, 0, Qt.AlignmentFlag.AlignTop)
        grid.addWidget(self.class_set, 0, 1)
        grid.addLayout(which, 1, 1)
        grid.addWidget(self.scope, 2, 1)
        self.vote = VoteSwitch()
        grid.addWidget(self.vote, 3, 1)
        self.cost = note()
        self.segment = primary_button("Segment")
        self.progress, self.question, self.limits = ProgressStrip(), Question(), ModelLimits(self.session)
        self.outcome = RunOutcome()
        for widget in (self.limits, self.cost, self.segment, self.question, self.progress, self.message, self.outcome):
            self.column.addWidget(widget)
        self.question.hide()
        self.progress.hide()

    def _connect(self) -> None:
        self.picker.picked.connect(self.session.select_class)
        self.class_set.activated.connect(self._on_class_set)
        self.scope.changed.connect(self.update_state)
        self.all_classes.toggled.connect(self.update_state)
        self.vote.toggled.connect(self.update_state)
        self.segment.clicked.connect(self.start)
        self.progress.cancelled.connect(self._on_cancel)
        self.question.confirmed.connect(self._on_confirmed)
        self.question.declined.connect(self._on_declined)
        self.run.started.connect(self._on_started)
        self.run.reported.connect(self._on_report)
        self.run.confirmation_wanted.connect(self._on_confirmation_wanted)
        self.run.failed.connect(lambda error: show_failure(error, self))
        self.outcome.next_requested.connect(self.resume)
        self.limits.tab_wanted.connect(self.tab_wanted)
        self.run.finished.connect(self._on_finished)
        self._estimate_timer.timeout.connect(self._estimate)

    def _on_project_changed(self) -> None:
        self.run.forget()
        self._action = None
        self._show_outcome()
        if self.session.project is not None:
            self.scope.set_frame_count(self.session.project.video.info.frame_count)
        self.refresh()
        self._measure_speed()

    def _on_model_changed(self) -> None:
        self.refresh()
        self._measure_speed()

    def _on_frame(self, _event: Any = None) -> None:
        if self.scope.choice.currentText() == THIS_FRAME:
            self.update_state()

    def _is_trained(self, class_id: int) -> bool:
        # before the first checkpoint is loaded, no class counts as untrained
        return self.session.model is None or self.session.is_trained(class_id)

    @property
    def _with_vote(self) -> bool:
        return self.vote.isChecked() and not self.session.shows_parts  # parts touch each other

    @property
    def _can_write(self) -> bool:
        project = self.session.project
        return project is not None and project.writable and self._waits_for is None

    def _what_is_missing(self) -> str | None:
        if self.session.project is None:
            return "Open a video first."
        if not self.session.project.writable:
            return "Read-only: nothing can be segmented in this window."
        if self._waits_for is not None:
            return self._waits_for
        if self.session.model is None:
            return "The model is being loaded…" if self.is_model_loading else "Choose a model first (Model, above)."
        if self.class_ids():
            return None
        model = f'The model "{self.session.model.name}"'
        if self.session.shows_parts and not self.session.trained_class_ids():
            return f"{model} knows no parts yet."  # the banner says what to do
        if self.all_classes.isChecked():
            return f"{model} knows none of these classes. Choose another one, or correct a frame and Learn."
        return f"{model} is not yet trained on this class. Paint it in a frame and Learn, or choose another class."

    # What a run costs ---------------------------------------------------------------------------------------------------

    def _estimate(self) -> None:
        if self._what_is_missing() is not None or self.run.is_running:
            return
        try:
            estimate = self.run.estimate(self.class_ids(), self.frame_indices(), with_vote=self._with_vote)
        except SurgicalSAMError as error:
            self.cost.setText(str(error))
            return
        cost = [counted(estimate.frame_count, "frame")]
        if estimate.seconds is not None:
            cost.append(f"about {in_time(estimate.seconds)}" + ("" if estimate.is_measured else " (a guess)"))
        if estimate.disk_bytes:
            cost.append(f"{in_bytes(estimate.disk_bytes)} of disk ({in_bytes(estimate.free_bytes)} free)")
        self.cost.setText(" · ".join(cost))
        self.cost.show()

    def _measure_speed(self) -> None:
        """Run the model on one frame in the background, to know the time of a run before it starts."""
        self._is_speed_due = self._waits_for is not None
        if not self._is_speed_due and not self.run.is_running:
            measure_speed(self.session, self.layers.current_frame, self._on_speed_measured)

    def _on_speed_measured(self, _nothing: object) -> None:
        self._estimate_timer.start()

    # A run --------------------------------------------------------------------------------------------------------------

    def _on_started(self) -> None:
        self.progress.show_start()
        self.outcome.show_text("")
        self.running_changed.emit(True)
        self.update_state()

    def _on_report(self, report: object) -> None:
        self.layers.refresh_frame(report.frame_index)  # type: ignore[attr-defined]
        show = self.progress.show_vote if self.run.is_voting else self.progress.show_progress
        show(report.done, report.total, self.run.seconds_left)  # type: ignore[attr-defined]

    def _on_confirmation_wanted(self, estimate: Estimate) -> None:
        self.outcome.show_text("")
        self.question.ask(estimate)
        self.question.show()
        self.segment.hide()
        self.update_state()

    def _on_confirmed(self) -> None:
        self._close_question()
        self.run.confirm()
        self.update_state()

    def _on_declined(self) -> None:
        self._close_question()
        self.run.cancel()
        self._show_outcome()
        self.update_state()

    def _close_question(self) -> None:
        self.question.hide()
        self.segment.show()

    def _on_cancel(self) -> None:
        self.progress.show_stopping()
        self.run.cancel()

    def _on_finished(self) -> None:
        self._close_question()
        done = None if self.session.project is None else self.session.project.history.to_undo
        self._action, self._can_undo = None if done is None else done.number, True
        self.running_changed.emit(False)
        self._show_outcome()
        self.limits.refresh()
        self.update_state()

    def follow_history(self) -> None:
        """What an undo took back is not shown any more; after another action, Undo is no longer about the run."""
        done = None if self.session.project is None else self.session.project.history.to_undo
        undone = None if self.session.project is None else self.session.project.history.to_redo
        if self.run.is_running or self._action is None:
            return
        if undone is not None and undone.number <= self._action:
            self.run.forget()
            self._show_outcome()
        elif self._can_undo and (done is None or done.number != self._action):
            self._can_undo = False
            self._show_outcome()

    def _show_outcome(self) -> None:
        """What the last run found, and what is left of it."""
        findings, rest = self.run.findings, self.run.rest
        if findings is None:
            self.outcome.show_text("")
            return
        text = findings.summary(is_cancelled=self.run.is_cancelled)
        if self.run.vote is not None and self.run.vote.changed:
            text += f" {self.run.vote}"
            undone = "the vote" if self.run.is_vote_alone else "the run and its vote"
            text += f" Undo (U) takes back {undone}." if self._can_undo else ""
        if self.run.is_vote_left:
            self.outcome.show_text(f"{text} {VOTE_STOPPED}", "Resume: vote over time", VOTE_TIP)
            return
        resume = f"Resume: {counted(len(rest), 'frame')}" if rest else ""
        self.outcome.show_text(text, resume, "Segment the frames that the run did not come to")

    # Class sets ---------------------------------------------------------------------------------------------------------

    def _show_class_set(self) -> None:
        shown = self.session.classes
        for widget in (self._class_set_caption, self.class_set):
            widget.setVisible(not self.session.shows_parts)  # the parts belong to the classes of the instruments
        self.vote.setVisible(not self.session.shows_parts)
        self.class_row.show_parts(self.session.shows_parts)
        self.this_class.setText("this part" if self.session.shows_parts else "this class")
        self.all_classes.setText("all parts" if self.session.shows_parts else "all classes")
        self.class_set.blockSignals(True)
        self.class_set.clear()
        # a project keeps the colours that it was made with, also of an EndoVis set
        sets = [shown if known.has_classes_of(shown) else known for known in CLASS_SETS.values()]
        if shown not in sets:
            sets.insert(0, shown)
        for class_set in sets:
            is_changed = class_set is shown and shown.name in {known.name for known in sets if known is not shown}
            self.class_set.addItem(f"{class_set.name}, changed" if is_changed else class_set.name, class_set)
        self.class_set.addItem(FROM_YAML, None)
        self.class_set.setCurrentIndex(sets.index(shown))
        self.class_set.blockSignals(False)

    def _on_class_set(self, index: int) -> None:
        chosen = self.class_set.itemData(index)
        if chosen is None:
            path = ask_for_file(self, FileKind.CLASS_SETS, "Choose a class set", "Class sets (*.yaml *.yml);;All files (*)")
            self.use_class_set(self.session.classes if path is None else path)
        else:
            self.use_class_set(chosen)

    def use_class_set(self, source: ClassSet | Path) -> None:
        """Use these classes, or those of a YAML file; on an error, show it and keep the old ones."""
        self.message.clear()
        try:
            classes = ClassSet.from_yaml(source) if isinstance(source, Path) else source
            if classes != self.session.classes:
                self.session.use_class_set(classes)
        except SurgicalSAMError as error:
            show_failure(error, self)
        self._show_class_set()  # also if the chosen one was refused
