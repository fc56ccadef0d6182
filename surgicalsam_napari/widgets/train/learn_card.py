"""The card *Learn from my corrected frames*, with which the Train tab opens."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QPushButton

from surgicalsam_napari.errors import SurgicalSAMError
from surgicalsam_napari.formatting import counted, in_time
from surgicalsam_napari.session import Session
from surgicalsam_napari.store.corrections import Corrections, predicted_frames
from surgicalsam_napari.widgets.parts.message import show_failure
from surgicalsam_napari.widgets.parts.parts import Panel, caption, note, primary_button
from surgicalsam_napari.widgets.parts.progress_strip import ProgressStrip, Question
from surgicalsam_napari.widgets.parts.vote_switch import VoteSwitch
from surgicalsam_napari.widgets.runs.learning_run import LearningRun
from surgicalsam_napari.widgets.runs.segmentation_run import LONG_RUN_SECONDS, VOTE_SECONDS
from surgicalsam_napari.widgets.source.model_panel import LoadedFrom, ModelPanel
from surgicalsam_napari.widgets.train import learn_texts
from surgicalsam_napari.widgets.train.correction_counts import CorrectionCounts
from surgicalsam_napari.widgets.train.expected_iou import ExpectedIou
from surgicalsam_napari.widgets.train.parts import WARNING_COLOR, colored_note
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers
from surgicalsam_training.learn import Learned

STOPPING = "Stopping…"
MODEL_IS_LOADING = "The model is being loaded…"
NO_MODEL = "Choose a model first (Model, above)."
NOTHING_LOST = "Nothing was lost: your corrections did not change."
READ_ONLY = "Read-only: nothing can be learned in this window."


class LearnCard(Panel):
    """One button: learn, use the result, predict the other frames again; progress with Cancel; then what it changed."""

    running_changed = Signal(bool)

    def __init__(self, session: Session, layers: ViewerLayers, model_panel: ModelPanel, data: CorrectionCounts) -> None:
        super().__init__("Learn")
        self.session, self.layers, self.model_panel, self.data = session, layers, model_panel, data
        self.run = LearningRun(session, self)
        self._waits_for: str | None = None
        self._learned_from: Corrections | None = None  # as long as they have not changed
        self._source = LoadedFrom()  # what the run starts from
        self._build()
        self._connect()
        self.update_state()

    def set_waiting(self, reason: str | None) -> None:
        """Show why nothing can be learned now; None if it is possible."""
        if reason != self._waits_for:
            self._waits_for = reason
            self.update_state()

    def update_state(self) -> None:
        """Show what a press will take, or why it is not possible; enable the buttons that can be used now."""
        is_running = self.run.is_running
        missing = self._what_is_missing()
        self.learn_button.setText(learn_texts.button_text(self._corrections))
        self.learn_button.setEnabled(missing is None and not is_running)
        self.predict_button.setEnabled(self._what_hinders() is None and not is_running)
        if not is_running:
            self.cost.setText(self._cost() if missing is None else missing)
        self.vote.setVisible(self._may_vote)
        self.cost.setVisible(not is_running)
        self.progress.setVisible(is_running)

    def forget(self) -> None:
        """Forget the last run: another project is open."""
        self.run.learned = self._learned_from = None
        self.question.hide()
        self._hide_outcome()

    def _hide_outcome(self) -> None:
        self.message.clear()
        for widget in (self.outcome, self.expected, self.warnings, self.predict_button):
            widget.hide()

    def start(self) -> None:
        """What the Learn button does; above ten minutes, it asks first."""
        corrections = self._corrections
        if corrections is None or not self.learn_button.isEnabled():
            return
        seconds = self.run.seconds_to_learn(corrections.frame_count) + (self._seconds_to_predict() or 0.0)
        if seconds > LONG_RUN_SECONDS and not self.question.isVisibleTo(self):
            self.question.put(learn_texts.LONG.format(time=in_time(seconds)), "Learn")
            self.question.show()
            return
        self.question.hide()
        self.layers.ensure_labels()
        self._source = self.model_panel.in_use
        arguments = {**self._source._asdict()}
        self._learned_from = None
        self.run.learn(corrections.frame_count, arguments, self.layers.current_frame, with_vote=self.vote.isChecked())

    def predict_rest(self) -> None:
        """What the button *Predict the other frames* does."""
        if self.predict_button.isEnabled():
            self.layers.ensure_labels()
            self.run.predict_rest(self.layers.current_frame, with_vote=self.vote.isChecked())

    def cancel(self) -> None:
        """Stop after the current step; what is finished stays."""
        if self.run.is_running:
            self.progress.text.setText(STOPPING)
            self.progress.cancel.setEnabled(False)
            self.run.cancel()

    def _build(self) -> None:
        self.heading.hide()
        self.cost, self.learn_button, self.progress = note(), primary_button(""), ProgressStrip()
        self.learn_button.setToolTip(learn_texts.WHAT_IT_DOES)
        self.vote, self.question = VoteSwitch(), Question()
        self.question.hide()
        self.outcome, self.expected, self.warnings = caption(""), ExpectedIou(), colored_note(WARNING_COLOR)
        self.outcome.setWordWrap(True)
        self.outcome.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.predict_button = QPushButton("")
        for widget in (
            self.vote,
            self.cost,
            self.learn_button,
            self.question,
            self.progress,
            self.message,
            self.outcome,
            self.predict_button,
            self.expected,
            self.warnings,
        ):
            self.column.addWidget(widget)
        self._hide_outcome()

    def _connect(self) -> None:
        self.data.counted.connect(self.update_state)
        self.data.edited.connect(self._on_edited)
        self.vote.toggled.connect(self.update_state)
        self.learn_button.clicked.connect(self.start)
        self.predict_button.clicked.connect(self.predict_rest)
        self.question.confirmed.connect(self.start)
        self.question.declined.connect(self.question.hide)
        self.progress.cancelled.connect(self.cancel)
        self.run.started.connect(self._on_started)
        self.run.reported.connect(self._on_report)
        self.run.failed.connect(self._on_failed)
        self.run.finished.connect(self._on_finished)

    @property
    def _may_vote(self) -> bool:
        """Whether frames are predicted by the next press, and can vote: parts do not."""
        project = self.session.project
        if project is None or self.session.shows_parts:
            return False
        try:
            return not self.predict_button.isHidden() or bool(predicted_frames(project))
        except SurgicalSAMError:  # the folder is away
            return False

    @property
    def _corrections(self) -> Corrections | None:
        """Of the open project."""
        project = self.session.project
        if project is None:
            return None
        return next((each for each in self.data.corrections if each.folder == project.folder), None)

    def _what_hinders(self) -> str | None:
        """Why no model can work on the project now; None if one can."""
        if self.session.project is None:
            return learn_texts.NOTHING_OPEN
        if not self.session.project.writable:
            return READ_ONLY
        if self.model_panel.is_loading:
            return MODEL_IS_LOADING
        if self.session.model is None:
            return NO_MODEL
        return self._waits_for

    def _what_is_missing(self) -> str | None:
        if self.session.project is not None and self._corrections is None:
            return ""  # not yet counted
        return self._what_hinders() or learn_texts.why_not(self._corrections)

    def _cost(self) -> str:
        assert self._corrections is not None
        assert self.session.project is not None
        if self._corrections == self._learned_from:
            return learn_texts.ALL_LEARNED
        seconds = self.run.seconds_to_learn(self._corrections.frame_count)
        predicted = len(predicted_frames(self.session.project))
        return learn_texts.cost(self._corrections, seconds, predicted, self._seconds_to_predict())

    def _seconds_to_predict(self) -> float | None:
        """An estimate for the frames that Learn predicts again; None if the speed is not known yet."""
        frames, class_ids = predicted_frames(self.session.project), self.session.trained_class_ids()  # type: ignore[arg-type]
        if not frames or not class_ids:
            return None
        try:
            seconds = self.session.estimate(class_ids, frames, trial=False).seconds
        except SurgicalSAMError:  # a run would report it
            return None
        is_voted = self.vote.isChecked() and not self.session.shows_parts
        return None if seconds is None else seconds + VOTE_SECONDS * len(frames) * is_voted

    def _on_edited(self, _frame_index: int) -> None:
        self._learned_from = None

    # A run --------------------------------------------------------------------------------------------------------------

    def _on_started(self) -> None:
        self._hide_outcome()
        self.progress.show_start()
        self.update_state()
        self.running_changed.emit(True)

    def _on_report(self, report: Any) -> None:
        if isinstance(report, Learned):
            self._show_learned(report)
            return
        if hasattr(report, "frame_index"):
            self.layers.refresh_frame(report.frame_index)
        done, total = self.run.progress(report)
        self.progress.show_progress(done, total, None)
        if self.progress.cancel.isEnabled():
            self.progress.text.setText(learn_texts.progress_text(report, done, total, self.run.seconds_left))

    def _show_learned(self, learned: Learned) -> None:
        self._learned_from = self._corrections
        self.model_panel.adopt(self._source._replace(checkpoint=learned.checkpoint))
        self.expected.show_iou(learned.expected_iou, learned.frame_count, self.session.classes)
        self.warnings.setText("\n\n".join(learned.warnings))
        self.warnings.setVisible(bool(learned.warnings))

    def _on_failed(self, error: Exception) -> None:
        show_failure(error, self)
        self.message.add(NOTHING_LOST)

    def _on_finished(self, _is_complete: bool) -> None:
        run = self.run
        if run.error is None or run.learned is not None or run.predicted:
            text = learn_texts.outcome(run.learned, run.predicted, run.to_predict, run.filled)
            found = "" if run.findings is None else run.findings.what()
            voted = str(run.vote) if run.vote is not None and run.vote.changed else ""
            self.outcome.setText(" ".join(filter(None, (text, found, voted))))
            self.outcome.show()
        self._offer_the_rest()
        self.update_state()
        self.running_changed.emit(False)

    def _offer_the_rest(self) -> None:
        rest = len(self.run.rest())
        self.predict_button.setText(f"Predict the other {counted(rest, 'frame')}")
        self.predict_button.setVisible(rest > 0)
