"""Progress of a run with the time left, and the question before one; both inline, under the button that starts it."""

from __future__ import annotations

from qtpy.QtCore import QTimer, Signal
from qtpy.QtGui import QHideEvent
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from surgicalsam_napari.formatting import counted, in_bytes, in_time
from surgicalsam_napari.inference import Estimate
from surgicalsam_napari.widgets.parts.parts import SPACING, caption, note, primary_button, thin_bar

BUSY_AFTER_MS = 400  # each step of a busy bar redraws the whole window and would slow down short work


class ProgressStrip(QWidget):
    """A bar, a line of text, and Cancel; the bar moves back and forth if the first step takes long."""

    cancelled = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.bar = thin_bar()
        self.text = caption("")
        self.cancel = QPushButton("Cancel")
        self.cancel.clicked.connect(self.cancelled)
        self._busy_timer = QTimer(self, singleShot=True, interval=BUSY_AFTER_MS)
        self._busy_timer.timeout.connect(lambda: self.bar.setRange(0, 0))
        row = QHBoxLayout()
        row.setSpacing(SPACING)
        row.addWidget(self.text, 1)
        row.addWidget(self.cancel)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACING)
        column.addWidget(self.bar)
        column.addLayout(row)

    def show_start(self, text: str = "Starting…") -> None:
        """Show that work has started."""
        self.bar.setRange(0, 1)
        self.bar.setValue(0)
        self._busy_timer.start()
        self.text.setText(text)
        self.cancel.setEnabled(True)

    def show_stopping(self) -> None:
        """Show that Cancel was pressed and the current frame is being finished."""
        self.text.setText("Stopping after this frame…")
        self.cancel.setEnabled(False)

    def show_progress(self, done: int, total: int, seconds_left: float | None) -> None:
        """Show the number of finished frames and the time left."""
        self._show(f"{done:,} of {counted(total, 'frame')}", done, total, seconds_left)

    def show_vote(self, done: int, total: int, seconds_left: float | None) -> None:
        """Show how far the vote over time is, which follows when all frames are done."""
        self._show(f"Vote over time: {done / total:.0%}", done, total, seconds_left)

    def _show(self, text: str, done: int, total: int, seconds_left: float | None) -> None:
        self._busy_timer.stop()
        self.bar.setRange(0, total)
        self.bar.setValue(done)
        left = f" · {in_time(seconds_left)} left" if seconds_left and done < total else ""
        if self.cancel.isEnabled():
            self.text.setText(f"{text}{left}")

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._busy_timer.stop()


class Question(QWidget):
    """A question before a run: what it does or costs, and whether to start it."""

    confirmed = Signal()
    declined = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.text = note()
        self.go_on = primary_button("Segment them")
        self.stop = QPushButton("Don't")
        self.go_on.clicked.connect(self.confirmed)
        self.stop.clicked.connect(self.declined)
        row = QHBoxLayout()
        row.setSpacing(SPACING)
        row.addWidget(self.go_on, 1)
        row.addWidget(self.stop, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SPACING)
        column.addWidget(self.text)
        column.addLayout(row)

    def ask(self, estimate: Estimate) -> None:
        """Ask before a run of Segment that is long or needs much of the disk."""
        cost = [f"about {in_time(estimate.seconds)}"] if estimate.seconds is not None else []
        if estimate.disk_bytes:
            cost.append(f"{in_bytes(estimate.disk_bytes)} of disk ({in_bytes(estimate.free_bytes)} free)")
        frames = counted(estimate.frame_count, "frame")
        self.put(f"{frames}: {' and '.join(cost)}. You can cancel at any time, and resume later.", "Segment them")

    def put(self, text: str, yes: str, no: str = "Not now") -> None:
        """Show any question, with the texts of its two buttons."""
        self.text.setText(text)
        self.go_on.setText(yes)
        self.stop.setText(no)
