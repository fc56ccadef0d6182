"""The result of a training: scores before and after, examples, *Use it* or *Discard*."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton

from surgicalsam_napari.formatting import counted, in_time
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.widgets.parts.parts import SPACING, Panel, note, primary_button
from surgicalsam_napari.widgets.parts.theme import BAD, GOOD, PLAIN, PRIMARY, set_look
from surgicalsam_napari.widgets.train.examples import TrainingExamples
from surgicalsam_napari.widgets.train.parts import WARNING_COLOR, colored_note
from surgicalsam_napari.widgets.train.scores import SMALLEST_CHANGE, TrainingScores
from surgicalsam_training.reports import FEWEST_TO_JUDGE, ResultReport, weakness

REASONS = {
    "all epochs": "All epochs are done",
    "time is up": "The time limit was reached",
    "no longer better": "Stopped without further improvement",
    "cancelled": "Cancelled",
}
TRY_LEARN = "Correct more frames, or go back and press Learn: with few frames it is more exact."
NEW_CLASSES = "Trained"
BETTER, WORSE, NO_BETTER, UNKNOWN = "Better", "Worse than before", "No better than before", "Trained, not checked"
MORE_FRAMES = f"A verdict needs at least {FEWEST_TO_JUDGE} frames kept aside."
TOO_FEW = "Trained: too few frames to judge"


class TrainingResult(Panel):
    """Verdict, table, examples; *Use it* or *Discard*, then *Segment again*."""

    use_requested = Signal()
    discard_requested = Signal()
    segment_requested = Signal()
    closed = Signal()

    def __init__(self) -> None:
        super().__init__(UNKNOWN)
        self.weak = colored_note(WARNING_COLOR)
        self.why, self.scores, self.examples, self.state = note(), TrainingScores(), TrainingExamples(), note()
        self.use, self.discard = QPushButton("Use it"), QPushButton("Discard")
        self.use.setToolTip("Load this model (checkpoint); the previous one stays listed under Model")
        self.discard.setToolTip("Keep the model in use; the files of this training stay")
        self.segment, self.close_it = primary_button(""), QPushButton("Done")
        buttons = QHBoxLayout()
        buttons.setSpacing(SPACING)
        for button in (self.use, self.discard):
            buttons.addWidget(button, 1)
        for widget in (self.why, self.weak, self.scores, self.examples, self.state):
            self.column.addWidget(widget)
        self.column.addLayout(buttons)
        for widget in (self.segment, self.close_it):
            self.column.addWidget(widget)
        self.use.clicked.connect(self.use_requested)
        self.discard.clicked.connect(self.discard_requested)
        self.segment.clicked.connect(self.segment_requested)
        self.close_it.clicked.connect(self.closed)

    def show_result(self, result: ResultReport, classes: ClassSet) -> None:
        """Show a result and ask; the scores decide which button is the primary one."""
        outcome = verdict(result)
        self.heading.setText(headline(result))
        set_look(self.heading, tone={BETTER: GOOD, WORSE: BAD}.get(outcome))
        self.why.setText(explanation(result))
        weak = MORE_FRAMES if outcome == TOO_FEW else weakness(result)
        self.weak.setText("" if weak is None else f"{weak} {TRY_LEARN}")
        self.weak.setVisible(weak is not None)
        self.scores.show_result(result, classes)
        self.examples.show_examples([Path(path) for path in result.examples])
        wants_use = outcome in (BETTER, UNKNOWN, TOO_FEW)
        for button, is_primary in ((self.use, wants_use), (self.discard, not wants_use)):
            set_look(button, role=PRIMARY if is_primary else PLAIN)
        self._show_buttons(is_asking=True)

    def show_loading(self) -> None:
        """Show that the checkpoint is being loaded."""
        self._show_state("Loading the new model…")
        for button in (self.use, self.discard):
            button.setEnabled(False)

    def ask_again(self) -> None:
        """Ask again after the checkpoint could not be loaded."""
        self._show_buttons(is_asking=True)

    def show_in_use(self, title: str, uncorrected: int) -> None:
        """Show that it is loaded; `uncorrected` is the number of frames of the open video that no person corrected."""
        self._show_buttons(is_asking=False)
        self._show_state(f"In use as “{title}”. Earlier models stay listed under Model.")
        self.segment.setText(f"Segment again:\n{counted(uncorrected, 'uncorrected frame')}")
        self.segment.setVisible(uncorrected > 0)

    def set_enabled(self, enabled: bool) -> None:
        """Enable *Use it* if a model can be loaded now."""
        self.use.setEnabled(enabled)

    def _show_buttons(self, *, is_asking: bool) -> None:
        self.state.hide()
        for button in (self.use, self.discard):
            button.setVisible(is_asking)
            button.setEnabled(True)
        self.segment.hide()
        self.close_it.setVisible(not is_asking)

    def _show_state(self, text: str) -> None:
        self.state.setText(text)
        self.state.show()


def verdict(result: ResultReport) -> str:
    """BETTER, WORSE, NO_BETTER, by Challenge IoU; UNKNOWN or TOO_FEW without enough validation frames."""
    if result.after is not None and not result.is_judged:
        return TOO_FEW
    before = None if result.before is None else result.before.challenge_iou
    after = None if result.after is None else result.after.challenge_iou
    if before is None or after is None:
        return UNKNOWN
    if abs(after - before) < SMALLEST_CHANGE:
        return NO_BETTER
    return BETTER if after > before else WORSE


def headline(result: ResultReport) -> str:
    """The verdict with its scores."""
    outcome = verdict(result)
    if outcome == TOO_FEW:
        return outcome
    if result.before is None and result.after is not None and result.after.challenge_iou is not None:
        return f"{NEW_CLASSES}: overlap {result.after.challenge_iou:.1f} %"
    if outcome == UNKNOWN or result.before is None or result.after is None:
        return outcome
    return f"{outcome}: overlap {result.before.challenge_iou:.1f} → {result.after.challenge_iou:.1f} %"


def explanation(result: ResultReport) -> str:
    """Why it ended, how long it took, and what follows from the verdict."""
    ended = f"{REASONS.get(result.reason, result.reason)}, after {in_time(result.seconds)}."
    outcome = verdict(result)
    tested = "the frames kept aside for the test"
    if result.validation_frames:
        tested = f"{counted(result.validation_frames, 'corrected frame')} kept aside for the test"
    if outcome == TOO_FEW:
        return f"{ended} Tested on {tested}: too few to call it better or worse. Look at its masks."
    if outcome == WORSE:
        return f"{ended} On {tested} it is worse than the model in use. Discard it."
    if outcome == NO_BETTER:
        return f"{ended} No round was better on {tested} than the model in use."
    best = f" The best was round {result.best_epoch:,}." if result.best_epoch else ""
    if outcome == UNKNOWN and result.after is not None:
        return f"{ended}{best} Tested on {tested}. The model in use does not know these classes."
    if outcome == UNKNOWN:
        return (
            f"{ended} No frames were kept aside for a test, so it is not compared with the model in use: look at its masks."
        )
    return f"{ended}{best} Tested on {tested}."
