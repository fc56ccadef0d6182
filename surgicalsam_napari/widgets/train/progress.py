"""A running training: progress, curves, Cancel."""

from __future__ import annotations

from functools import cached_property

from surgicalsam_napari.formatting import counted, in_time
from surgicalsam_napari.widgets.parts.parts import Panel, note
from surgicalsam_napari.widgets.parts.progress_strip import ProgressStrip
from surgicalsam_napari.widgets.train.curves import TrainingCurves
from surgicalsam_napari.widgets.train.parts import WARNING_COLOR, ThemeColors, colored_note
from surgicalsam_training.reports import EpochReport, PreparationReport, Report, SplitReport

CANCEL_KEEPS = "In the background; Cancel keeps the best so far."
STOPPING = "Stopping…"


class TrainingProgress(Panel):
    """Bar, phase and time left; how the frames were split; the curves; the best so far."""

    def __init__(self) -> None:
        super().__init__("Training")
        self.strip = ProgressStrip()
        self._colors: ThemeColors | None = None
        self.strip.cancel.setToolTip("Stop after the current step, and keep the best model so far")
        self.cancelled = self.strip.cancelled
        self._tested = "the frames kept aside"
        self.strip.text.setToolTip("Rounds are epochs: each uses every corrected frame once")
        self.split, self.warning, self.best, self.hint = note(), colored_note(WARNING_COLOR), note(), note(CANCEL_KEEPS)
        for widget in (self.strip, self.hint, self.best, self.split, self.warning):
            self.column.addWidget(widget)

    @cached_property
    def curves(self) -> TrainingCurves:
        """Made when the first training starts, because matplotlib takes a moment."""
        curves = TrainingCurves()
        self.column.insertWidget(self.column.indexOf(self.best), curves)
        if self._colors is not None:
            curves.use_colors(self._colors)
        return curves

    def show_start(self) -> None:
        """Show that work has started."""
        self.strip.show_start()
        self.curves.clear()
        for widget in (self.curves, self.split, self.warning, self.best):
            widget.hide()

    def show_stopping(self) -> None:
        """Show that Cancel was pressed."""
        self.strip.text.setText(STOPPING)
        self.strip.cancel.setEnabled(False)

    def use_colors(self, colors: ThemeColors) -> None:
        """Use the colours of napari's theme."""
        self._colors = colors
        if "curves" in self.__dict__:
            self.curves.use_colors(colors)

    def show_report(self, report: Report) -> None:
        """Show a report of the run."""
        if isinstance(report, PreparationReport):
            self._show_preparation(report)
        elif isinstance(report, SplitReport):
            self._show_split(report)
        elif isinstance(report, EpochReport):
            self._show_epoch(report)

    def _show_preparation(self, report: PreparationReport) -> None:
        phase = report.phase[:1].upper() + report.phase[1:]
        is_counted = report.total > 1
        self._show_step(report.done, report.total if is_counted else 0)
        self._say(f"{phase}: {report.done:,} of {report.total:,}" if is_counted else f"{phase}…")

    def _show_split(self, report: SplitReport) -> None:
        frames = f"{counted(report.training_frames, 'frame')} to learn from"
        if report.validation_frames:
            self._tested = counted(report.validation_frames, "frame")
        validation = (
            f"{counted(report.validation_frames, 'frame')} kept aside for the test"
            if report.validation_frames
            else "no frame kept aside for a test"
        )
        self.split.setText(f"{frames}, {validation}. {report.how}")
        self.warning.setText("\n".join(report.warnings))
        self.split.show()
        self.warning.setVisible(bool(report.warnings))

    def _show_epoch(self, report: EpochReport) -> None:
        self._show_step(report.done, report.total)
        left = f" · {in_time(report.seconds_left)} left" if report.done < report.total else ""
        self._say(f"Round {report.done:,} of {report.total:,}{left}")
        self.curves.add(report)
        self.curves.show()
        if report.best_challenge_iou is not None:
            self.best.setText(f"Best overlap on {self._tested} so far: {report.best_challenge_iou:.1f} %")
            self.best.setToolTip("The Challenge IoU of the validation frames")
            self.best.show()

    def _show_step(self, done: int, total: int) -> None:
        self.strip.bar.setRange(0, total)
        self.strip.bar.setValue(done)

    def _say(self, text: str) -> None:
        if self.strip.cancel.isEnabled():  # otherwise it shows that it is stopping
            self.strip.text.setText(text)
