"""One run of Segment: estimate, ask before a long one, work in the background, stop when told."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

from qtpy.QtCore import QObject, Signal

from surgicalsam_napari.errors import DiskSpaceError, SurgicalSAMError
from surgicalsam_napari.inference import Estimate, SegmentReport, outward_order
from surgicalsam_napari.session import Session
from surgicalsam_napari.widgets.runs.background import run_reports_in_background, show_failure
from surgicalsam_napari.formatting import in_bytes

LONG_RUN_SECONDS = 60
LARGE_RUN_BYTES = 1_000_000_000
SPEED_KNOWN_AFTER = 3  # reports; the first ones include warming up


class SegmentationRun(QObject):
    """At most one run at a time; the first frame is the one in view, the others follow outward from it."""

    started = Signal()
    reported = Signal(object)  # SegmentReport
    confirmation_wanted = Signal(int, object, object)  # frames left, seconds or None, new bytes or None
    finished = Signal(bool)  # whether every frame was done

    def __init__(self, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self.seconds_left: float | None = None
        self._worker: Any = None
        self._waiting: tuple[list[int], list[int]] | None = None
        self._go_on = threading.Event()  # cleared while a run waits for confirmation
        self._is_complete = False
        self._started_at = self._asked_at = 0.0

    @property
    def is_running(self) -> bool:
        """Whether frames are being worked on, or a run is paused for confirmation."""
        return self._worker is not None

    def request(self, class_ids: Sequence[int], frame_indices: Sequence[int], center: int) -> None:
        """Start, or ask first where the run is long or large; an error is shown and nothing starts."""
        if self.is_running:
            return
        frames = outward_order(frame_indices, center)
        try:
            estimate = self.session.estimate(class_ids, frames, trial=False)
            check_space(estimate)
        except SurgicalSAMError as error:
            show_failure(error)
            return
        self._waiting = (list(class_ids), frames)
        is_long = estimate.seconds is not None and estimate.seconds > LONG_RUN_SECONDS
        if is_long or estimate.disk_bytes > LARGE_RUN_BYTES:
            self.confirmation_wanted.emit(len(frames), estimate.seconds, estimate.disk_bytes)
        else:
            self._start(is_confirmed=False)

    def confirm(self) -> None:
        """Go ahead with the run that was asked about."""
        if self.is_running:
            self._started_at += time.monotonic() - self._asked_at
            self._go_on.set()
        elif self._waiting is not None:
            self._start(is_confirmed=True)

    def cancel(self) -> None:
        """Stop after the frame in work; what is done is kept. Drops a run that waits for confirmation."""
        self._waiting = None
        if self._worker is not None:
            self._worker.quit()

    def _start(self, *, is_confirmed: bool) -> None:
        assert self._waiting is not None
        (class_ids, frames), self._waiting = self._waiting, None

        def start() -> Iterator[SegmentReport]:
            return self._reports(class_ids, frames, is_confirmed)

        self._go_on.set()
        self._is_complete, self.seconds_left, self._started_at = False, None, time.monotonic()
        self._worker = run_reports_in_background(start, self._on_report, show_failure, self._on_finished)
        self.started.emit()

    def _reports(self, class_ids: list[int], frames: list[int], is_confirmed: bool) -> Iterator[SegmentReport]:
        """In the worker thread: the run, which halts once its speed shows that it will be long."""
        with closing(self.session.segment(class_ids, frames)) as reports:
            for report in reports:
                if report.done == SPEED_KNOWN_AFTER and not is_confirmed and self._time_left(report) > LONG_RUN_SECONDS:
                    self._go_on.clear()
                yield report
                while not self._go_on.wait(0.1):
                    if self._worker is not None and self._worker.abort_requested:
                        return

    def _time_left(self, report: SegmentReport) -> float:
        return (time.monotonic() - self._started_at) / report.done * (report.total - report.done)

    def _on_report(self, report: SegmentReport) -> None:
        self.seconds_left = self._time_left(report)
        self._is_complete = report.done == report.total
        self.reported.emit(report)
        if report.done == SPEED_KNOWN_AFTER and not self._go_on.is_set():
            self._asked_at = time.monotonic()
            self.confirmation_wanted.emit(report.total - report.done, self.seconds_left, None)

    def _on_finished(self) -> None:
        self._worker = None
        self.finished.emit(self._is_complete)


def check_space(estimate: Estimate) -> None:
    """A DiskSpaceError where the embeddings would not fit on the disk."""
    if not estimate.fits:
        raise DiskSpaceError(
            f"This run needs {in_bytes(estimate.disk_bytes)} on disk, and {in_bytes(estimate.free_bytes)} are free. "
            "Choose fewer frames, or free some space."
        )
