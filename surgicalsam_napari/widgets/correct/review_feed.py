"""The review queue of the open project, kept up to date; the masks of its frames are compared in the background."""

from __future__ import annotations

import threading
import time

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from surgicalsam_napari.review.jumps import MaskJumps
from surgicalsam_napari.review.queue import ReviewQueue
from surgicalsam_napari.store import Project
from surgicalsam_napari.widgets.viewer.label_changes import LabelChanges

REFRESH_MS = 250  # a run writes frame after frame; the queue takes them over together
BATCH_SECONDS = 0.5
JOIN_SECONDS = 5.0
CHANGED_SHARE = 1 / 256  # of a video's frames, from which on all are judged again
CHANGED_BY_AN_ACTION = 20  # frames, likewise, once the action has ended


class ReviewFeed(QObject):
    """Follows what is written to the labels.

    Frames that change are judged with those around them. What is usual in the whole video, such as the presence from which
    on a class is found, follows now and then: it takes the longer the longer the video is, and a stroke must not.

    Attributes
    ----------
    queue : of the open project; None without one
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
        self._changed_since = 0  # frames, since all were judged
        self._is_whole_due = False
        self._timer = QTimer(self, singleShot=True, interval=REFRESH_MS)
        self._timer.timeout.connect(self.catch_up)
        self._compared.connect(self._on_compared)
        changes.frames_changed.connect(self._on_frames_changed)
        changes.history_changed.connect(self._on_history_changed)

    def show_project(self, project: Project | None) -> None:
        """Judge the frames of this project from now on; nothing is done where it is the same with the same classes."""
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
            self._changed_since, self._is_whole_due = 0, True  # once the masks are compared
            self._compare()
        self.changed.emit()

    def catch_up(self) -> None:
        """Let the queue know what has changed up to now."""
        self._timer.stop()
        frames, self._to_refresh = self._to_refresh, set()
        if frames and self.queue is not None:
            self.queue.refresh(sorted(frames))
            self.changed.emit()

    @property
    def left_to_compare(self) -> int:
        """How many frames are judged without their masks as yet."""
        return 0 if self._jumps is None else self._jumps.left

    @property
    def is_busy(self) -> bool:
        """Whether masks are being compared, or changes wait to be taken over."""
        return self._comparison is not None or self._timer.isActive()

    def marks(self) -> np.ndarray | None:
        """(T,) how much each frame is worth a look, NaN for not at all; None without a project."""
        if self.queue is None:
            return None
        worth = self.queue.worth().astype(float)
        worth[worth <= 0] = np.nan
        return worth

    def close(self) -> None:
        """Stop what goes on in the background."""
        self.show_project(None)

    # Following ----------------------------------------------------------------------------------------------------------

    def _on_frames_changed(self, frames: set[int]) -> None:
        if self._jumps is None:
            return
        for frame_index in frames:
            self._jumps.invalidate(frame_index)
        self._changed_since += len(frames)
        self._take_over(frames)
        self._compare()

    def _on_history_changed(self) -> None:
        """An action has ended, or was taken back."""
        self._changes.emit_now()
        if self.queue is not None and self._changed_since >= CHANGED_BY_AN_ACTION:
            self._is_whole_due = True
            if self._comparison is None:
                self._judge_all()
                self.changed.emit()

    def _judge_all(self) -> None:
        assert self.queue is not None
        self._changed_since, self._is_whole_due = 0, False
        self.queue.refresh()

    def _take_over(self, frames: set[int] | list[int]) -> None:
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
            return  # of the project before
        if frames:
            self._take_over(frames)
        else:
            self._comparison = None
            self._compare()  # what has changed meanwhile
            self.catch_up()
            if self.queue is not None and self._comparison is None:
                is_much = self._changed_since >= CHANGED_SHARE * self.queue.frame_count
                if is_much or self._is_whole_due:
                    self._judge_all()
            self.changed.emit()


class _Comparison(threading.Thread):
    """Fills mask jumps, at half speed so that the window and the runs come first.

    A thread of its own: napari's pool has as many as there are cores, and this may take minutes.
    """

    def __init__(self, jumps: MaskJumps, compared: object) -> None:
        super().__init__(daemon=True)
        self.is_stopped = threading.Event()
        self._jumps, self._compared = jumps, compared

    def run(self) -> None:
        """Emits the frames in batches, and at the end none."""
        batch: list[int] = []
        told_at = began_at = time.monotonic()
        for frame_index in self._jumps.fill():
            batch.append(frame_index)
            now = time.monotonic()
            if now - told_at > BATCH_SECONDS:
                self._tell(batch)
                batch, told_at = [], now
            if self.is_stopped.wait(min(now - began_at, 0.05)):
                return
            began_at = time.monotonic()
        if batch:
            self._tell(batch)
        self._tell([])

    def _tell(self, frames: list[int]) -> None:
        if not self.is_stopped.is_set():
            self._compared.emit(self, frames)  # type: ignore[attr-defined]
