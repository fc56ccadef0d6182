"""Keeps the review queue of the open project up to date; compares masks in the background."""

from __future__ import annotations

import threading
import time

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from surgicalsam_napari.review.jumps import MaskJumps
from surgicalsam_napari.review.queue import ReviewQueue
from surgicalsam_napari.store import Project
from surgicalsam_napari.widgets.viewer.label_changes import LabelChanges

REFRESH_MS = 250  # a run writes many frames; the queue refreshes them together
BATCH_SECONDS = 0.5
JOIN_SECONDS = 5.0
CHANGED_SHARE = 1 / 256  # share of changed frames from which all frames are ranked again
CHANGED_BY_AN_ACTION = 20  # changed frames from which an ended action ranks all frames again


class ReviewFeed(QObject):
    """Follows changes of the labels.

    Changed frames and their neighbours are ranked again at once. Statistics of the whole video, such as the presence
    threshold, are updated less often: they take longer in longer videos, and a stroke must stay fast.

    Attributes
    ----------
    queue : the queue of the open project; None without a project
    """

    changed = Signal()
    _compared = Signal(object, object)  # the thread, frame indices

    def __init__(self, changes: LabelChanges, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.queue: ReviewQueue | None = None
        self._changes = changes
        self._project: Project | None = None
        self._class_ids: tuple[int, ...] = ()
        self._jumps: MaskJumps | None = None
        self._comparison: _Comparison | None = None
        self._to_refresh: set[int] = set()
        self._changed_since = 0  # changed frames since all were ranked
        self._is_whole_due = False
        self._timer = QTimer(self, singleShot=True, interval=REFRESH_MS)
        self._timer.timeout.connect(self.catch_up)
        self._compared.connect(self._on_compared)
        changes.frames_changed.connect(self._on_frames_changed)
        changes.history_changed.connect(self._on_history_changed)

    def show_project(self, project: Project | None) -> None:
        """Rank the frames of this project from now on; no effect if project and classes are unchanged."""
        is_same = project is self._project
        if is_same and (project is None or self._class_ids == project.classes.ids):
            return
        self._stop_comparing()
        self._timer.stop()
        self._to_refresh = set()
        self._project, self.queue, self._jumps = project, None, None
        if project is not None:
            self._class_ids = project.classes.ids
            self._jumps = MaskJumps(project.labels, len(project.labels), project.classes.ids)
            self.queue = ReviewQueue.of(project, self._jumps)
            self._changed_since, self._is_whole_due = 0, True  # rank all after the masks are compared
            self._compare()
        self.changed.emit()

    def catch_up(self) -> None:
        """Refresh the queue with all changes up to now."""
        self._timer.stop()
        if self._project is not None and self._class_ids != self._project.classes.ids:
            self.show_project(self._project)  # an import has added classes
        frames, self._to_refresh = self._to_refresh, set()
        if frames and self.queue is not None:
            self.queue.refresh(sorted(frames))
            self.changed.emit()

    @property
    def left_to_compare(self) -> int:
        """Number of frames whose masks are not compared yet."""
        return 0 if self._jumps is None else self._jumps.left

    @property
    def is_busy(self) -> bool:
        """Whether masks are being compared or changes wait for a refresh."""
        return self._comparison is not None or self._timer.isActive()

    def marks(self) -> np.ndarray | None:
        """(T,) review priority of each frame from 0 to 1, NaN for none; None without a project."""
        if self.queue is None:
            return None
        marks = self.queue.priority().astype(float)
        marks[marks <= 0] = np.nan
        return marks

    def close(self) -> None:
        """Stop the background comparison."""
        self.show_project(None)

    # Following ----------------------------------------------------------------------------------------------------------

    def _on_frames_changed(self, frames: set[int]) -> None:
        if self._jumps is None:
            return
        for frame_index in frames:
            self._jumps.invalidate(frame_index)
        self._changed_since += len(frames)
        self._schedule(frames)
        self._compare()

    def _on_history_changed(self) -> None:
        """Rank all frames again if an action or its undo changed many."""
        self._changes.emit_now()
        if self.queue is not None and self._changed_since >= CHANGED_BY_AN_ACTION:
            self._is_whole_due = True
            if self._comparison is None:
                self._rank_all()
                self.changed.emit()

    def _rank_all(self) -> None:
        assert self.queue is not None
        self._changed_since, self._is_whole_due = 0, False
        self.queue.refresh()

    def _schedule(self, frames: set[int] | list[int]) -> None:
        self._to_refresh.update(frames)
        if not self._timer.isActive():
            self._timer.start()

    def _compare(self) -> None:
        if self._comparison is None and self._jumps is not None and self._jumps.left:
            self._comparison = _Comparison(self._jumps, self._compared)
            self._comparison.start()

    def _stop_comparing(self) -> None:
        comparison, self._comparison = self._comparison, None
        if comparison is not None:
            comparison.is_stopped.set()
            comparison.join(JOIN_SECONDS)

    def _on_compared(self, comparison: object, frames: list[int]) -> None:
        if comparison is not self._comparison:
            return  # of the previous project
        if frames:
            self._schedule(frames)
        else:
            self._comparison = None
            self._compare()  # frames that changed during the comparison
            self.catch_up()
            if self.queue is not None and self._comparison is None:
                is_much = self._changed_since >= CHANGED_SHARE * self.queue.frame_count
                if is_much or self._is_whole_due:
                    self._rank_all()
            self.changed.emit()


class _Comparison(threading.Thread):
    """Fills mask jumps at half speed, so that the window and the runs come first.

    It is a separate thread because napari's pool has only one thread per core, and this may take minutes.
    """

    def __init__(self, jumps: MaskJumps, compared: object) -> None:
        super().__init__(daemon=True)
        self.is_stopped = threading.Event()
        self._jumps, self._compared = jumps, compared

    def run(self) -> None:
        """Emit the frames in batches, and an empty batch at the end."""
        batch: list[int] = []
        sent_at = began_at = time.monotonic()
        for frame_index in self._jumps.fill():
            batch.append(frame_index)
            now = time.monotonic()
            if now - sent_at > BATCH_SECONDS:
                self._send(batch)
                batch, sent_at = [], now
            if self.is_stopped.wait(min(now - began_at, 0.05)):
                return
            began_at = time.monotonic()
        if batch:
            self._send(batch)
        self._send([])

    def _send(self, frames: list[int]) -> None:
        if not self.is_stopped.is_set():
            self._compared.emit(self, frames)  # type: ignore[attr-defined]
