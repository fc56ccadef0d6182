"""One run of Segment: estimate, ask before a long one, then run."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing

from qtpy.QtCore import QObject, Signal

from surgicalsam_napari.errors import DiskSpaceError, SurgicalSAMError
from surgicalsam_napari.formatting import in_bytes
from surgicalsam_napari.inference import Estimate, SegmentReport, outward_order
from surgicalsam_napari.session import Session
from surgicalsam_napari.widgets.parts.message import show_failure
from surgicalsam_napari.widgets.runs.run import Run

LONG_RUN_SECONDS = 60
LARGE_RUN_BYTES = 1_000_000_000
SPEED_KNOWN_AFTER = 3  # reports; the first ones include warming up


class SegmentationRun(Run):
    """A run that asks for confirmation if it is long or large; it starts at the frame in view and works outward.

    `is_running` is also True while a run is paused for confirmation.
    """

    confirmation_wanted = Signal(int, object, object)  # frames left, seconds or None, new bytes or None

    def __init__(self, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self._waiting: tuple[list[int], list[int]] | None = None  # class ids and frame indices
        self._confirmed = threading.Event()  # cleared while a run waits for confirmation
        self._asked_at = 0.0

    def request(self, class_ids: Sequence[int], frame_indices: Sequence[int], center: int) -> None:
        """Start, or ask first if the run is long or large; on an error, show it and do not start."""
        if self.is_running:
            return
        frames = outward_order(frame_indices, center)
        try:
            estimate = self.session.estimate(class_ids, frames, trial=False)
            check_space(estimate)
        except SurgicalSAMError as error:
            show_failure(error, self)
            return
        self._waiting = (list(class_ids), frames)
        is_long = estimate.seconds is not None and estimate.seconds > LONG_RUN_SECONDS
        if is_long or estimate.disk_bytes > LARGE_RUN_BYTES:
            self.confirmation_wanted.emit(len(frames), estimate.seconds, estimate.disk_bytes)
        else:
            self._start_waiting(is_confirmed=False)

    def confirm(self) -> None:
        """Start or continue the run after the question."""
        if self.is_running:
            self._started_at += time.monotonic() - self._asked_at
            self._confirmed.set()
        elif self._waiting is not None:
            self._start_waiting(is_confirmed=True)

    def cancel(self) -> None:
        """Stop after the current frame and keep the finished ones; drop a run that waits for confirmation."""
        self._waiting = None
        super().cancel()

    def _start_waiting(self, *, is_confirmed: bool) -> None:
        assert self._waiting is not None
        (class_ids, frames), self._waiting = self._waiting, None
        self._confirmed.set()
        self.start(lambda: self._segment(class_ids, frames, is_confirmed))

    def _segment(self, class_ids: list[int], frames: list[int], is_confirmed: bool) -> Iterator[SegmentReport]:
        """Run in the worker thread; pause when the speed shows that the run will be long."""
        with closing(self.session.segment(class_ids, frames)) as reports:
            for report in reports:
                if report.done == SPEED_KNOWN_AFTER and not is_confirmed and self._is_long(report):
                    self._confirmed.clear()
                yield report
                while not self._confirmed.wait(0.1):
                    if self._is_stopping:
                        return

    def _is_long(self, report: SegmentReport) -> bool:
        seconds = self._time_left(report)
        return seconds is not None and seconds > LONG_RUN_SECONDS

    def _on_report(self, report: SegmentReport) -> None:
        super()._on_report(report)
        if report.done == SPEED_KNOWN_AFTER and not self._confirmed.is_set():
            self._asked_at = time.monotonic()
            self.confirmation_wanted.emit(report.total - report.done, self.seconds_left, None)


def check_space(estimate: Estimate) -> None:
    """Raise a DiskSpaceError if the embeddings do not fit on the disk."""
    if not estimate.fits:
        raise DiskSpaceError(
            f"This run needs {in_bytes(estimate.disk_bytes)} on disk, and {in_bytes(estimate.free_bytes)} are free. "
            "Choose fewer frames, or free some space."
        )
