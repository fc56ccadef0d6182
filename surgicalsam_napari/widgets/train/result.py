"""What a training brought: before and after, examples, and whether to use it."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton

from surgicalsam_napari.formatting import counted, in_time
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.widgets.parts.parts import PRIMARY_STYLE, SPACING, Panel, note, primary_button
from surgicalsam_napari.widgets.train.examples import TrainingExamples
from surgicalsam_napari.widgets.train.failure import heading_style
from surgicalsam_napari.widgets.train.parts import BAD_COLOR, GOOD_COLOR
from surgicalsam_napari.widgets.train.scores import SMALLEST_CHANGE, TrainingScores
from surgicalsam_training.reports import ResultReport

REASONS = {
    "all epochs": "All epochs are done",
    "time is up": "The time was up",
    "no longer better": "Stopped, for it no longer got better",
    "cancelled": "Cancelled",
}
BETTER, WORSE, NO_BETTER, UNKNOWN = "Better", "Worse than before", "No better than before", "Trained, not checked"


class TrainingResult(Panel):
    """Verdict, table, examples; *Use it* or *Discard*, then *Segment the frames nobody has touched again*."""

    use_requested = Signal()
    discard_requested = Signal()
    segment_requested = Signal()
    closed = Signal()

    def __init__(self) -> None:
        super().__init__(UNKNOWN)
        self.why, self.scores, self.examples, self.state = note(), TrainingScores(), TrainingExamples(), note()
        self.use, self.discard = QPushButton("Use it"), QPushButton("Discard")
        self.use.setToolTip("Load this checkpoint; the one before stays listed under Model")
        self.discard.setToolTip("Go on with the checkpoint in use; the files of this training are kept")
        self.segment, self.close_it = primary_button(""), QPushButton("Done")
        buttons = QHBoxLayout()
        buttons.setSpacing(SPACING)
        for button in (self.use, self.discard):
            buttons.addWidget(button, 1)
        for widget in (self.why, self.scores, self.examples, self.state):
            self.column.addWidget(widget)
        self.column.addLayout(buttons)
        for widget in (self.segment, self.close_it):
            self.column.addWidget(widget)
        self.use.clicked.connect(self.use_requested)
        self.discard.clicked.connect(self.discard_requested)
        self.segment.clicked.connect(self.segment_requested)
        self.close_it.clicked.connect(self.closed)

    def show_result(self, result: ResultReport, classes: ClassSet) -> None:
        """Show a result and ask; the primary button is the one that the figures speak for."""
        outcome = verdict(result)
        self.heading.setText(headline(result))
        self.heading.setStyleSheet(heading_style({BETTER: GOOD_COLOR, WORSE: BAD_COLOR}.get(outcome)))
        self.why.setText(explanation(result))
        self.scores.show_result(result, classes)
        self.examples.show_examples([Path(path) for path in result.examples])
        wants_use = outcome in (BETTER, UNKNOWN)
        for button, is_primary in ((self.use, wants_use), (self.discard, not wants_use)):
            button.setStyleSheet(PRIMARY_STYLE if is_primary else "padding: 7px;")
        self._show_buttons(is_asking=True)

    def show_loading(self) -> None:
        """The checkpoint is being loaded."""
        self._show_state("Loading the new checkpoint…")
        for button in (self.use, self.discard):
            button.setEnabled(False)

    def ask_again(self) -> None:
        """It could not be loaded, and an error was shown."""
        self._show_buttons(is_asking=True)

    def show_in_use(self, title: str, untouched: int) -> None:
        """It is loaded; so many frames of the open video were never touched by a person."""
        self._show_buttons(is_asking=False)
        self._show_state(f"In use as “{title}”. Earlier checkpoints stay listed under Model.")
        self.segment.setText(f"Segment the {counted(untouched, 'frame')}\nnobody has touched again")
        self.segment.setVisible(untouched > 0)

    def set_enabled(self, enabled: bool) -> None:
        """Whether a model can be loaded now."""
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
    """BETTER, WORSE, NO_BETTER, or UNKNOWN where there was nothing to check on; by Challenge IoU."""
    before = None if result.before is None else result.before.challenge_iou
    after = None if result.after is None else result.after.challenge_iou
    if before is None or after is None:
        return UNKNOWN
    if abs(after - before) < SMALLEST_CHANGE:
        return NO_BETTER
    return BETTER if after > before else WORSE


def headline(result: ResultReport) -> str:
    """The verdict with its figures."""
    outcome = verdict(result)
    if outcome == UNKNOWN or result.before is None or result.after is None:
        return outcome
    return f"{outcome}: IoU {result.before.challenge_iou:.1f} → {result.after.challenge_iou:.1f}"


def explanation(result: ResultReport) -> str:
    """Why it ended, how long it took, and what follows from the verdict."""
    ended = f"{REASONS.get(result.reason, result.reason)}, after {in_time(result.seconds)}."
    outcome = verdict(result)
    if outcome == WORSE:
        return f"{ended} On the validation frames it does worse than the checkpoint in use. Better discard it."
    if outcome == NO_BETTER:
        return f"{ended} No epoch did better on the validation frames than the checkpoint in use."
    best = f" The best was epoch {result.best_epoch:,}." if result.best_epoch else ""
    if outcome == UNKNOWN:
        return f"{ended} There were no validation frames to compare it on with the checkpoint in use: look at its masks."
    return ended + best
