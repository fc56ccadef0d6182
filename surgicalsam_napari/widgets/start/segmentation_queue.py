"""The queue of videos to segment: one at a time, in the background; each with its progress and what was found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from surgicalsam_napari.inference import SegmentReport
from surgicalsam_napari.session import Session
from surgicalsam_napari.store.locating import is_project_folder, project_of
from surgicalsam_napari.widgets.runs.run import Run

if TYPE_CHECKING:
    from surgicalsam_napari.tracking.segment_video import VideoOutcome


class QueueState(Enum):
    """Where a video of the queue is."""

    WAITING = auto()
    RUNNING = auto()
    DONE = auto()
    CANCELLED = auto()
    FAILED = auto()


@dataclass(frozen=True)
class QueuedVideo:
    """A video of the queue.

    Attributes
    ----------
    class_names : to look for; empty for all classes that the checkpoint knows
    vote : whether neighbouring frames vote on the classes afterwards
    done, total : frames of its run, or steps of its vote; 0 before the first frame
    is_voting : whether all frames are predicted, and the vote over time goes on, or was cancelled
    outcome : what was found, when it is done
    error : why it failed, and what to do
    """

    path: Path
    class_names: tuple[str, ...] = ()
    vote: bool = True
    state: QueueState = QueueState.WAITING
    done: int = 0
    total: int = 0
    is_voting: bool = False
    outcome: VideoOutcome | None = None
    error: str = ""


class SegmentationQueue(QObject):
    """Segments videos with the session's model; the open project may be one of them.

    Attributes
    ----------
    videos : by path, in the order of the queue; finished ones stay until they are queued again
    run : the run of the current video
    """

    changed = Signal(object)  # Path: its QueuedVideo has changed
    running_changed = Signal(bool)
    finished = Signal()  # no video is running or waiting any more

    def __init__(self, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self.videos: dict[Path, QueuedVideo] = {}
        self.run = Run(self)
        self.run.unblock = session.stop_waiting
        self.current: Path | None = None
        self.waits_for: str | None = None
        self.run.reported.connect(self._on_report)
        self.run.finished.connect(self._on_finished)

    @property
    def is_running(self) -> bool:
        """Whether a video is being segmented."""
        return self.run.is_running

    @property
    def is_on_open_project(self) -> bool:
        """Whether the project that is open in the window is being segmented."""
        return self.is_running and self.current is not None and self.session.is_open(self.current)

    def is_working_on(self, path: Path) -> bool:
        """Whether this video or project is being segmented."""
        return self.is_running and self.current is not None and _project_folder(path) == _project_folder(self.current)

    def waiting(self) -> list[Path]:
        """The videos that wait for their turn."""
        return [path for path, video in self.videos.items() if video.state is QueueState.WAITING]

    def add(self, paths: Iterable[Path], class_names: Sequence[str], *, vote: bool = True) -> None:
        """Queue these videos; one that is waiting or running already keeps its place.

        Parameters
        ----------
        class_names, vote : as in `QueuedVideo`
        """
        for path in paths:
            if path not in self.waiting() and not (self.is_running and path == self.current):
                self.videos.pop(path, None)
                self._set(QueuedVideo(path, tuple(class_names), vote))
        self._start_next()

    def remove(self, path: Path) -> None:
        """Take a waiting or finished video out of the queue."""
        if path in self.videos and not (self.is_running and path == self.current):
            del self.videos[path]
            self.changed.emit(path)

    def cancel(self) -> None:
        """Stop after the current frame; finished frames are kept, and waiting videos leave the queue."""
        for path in self.waiting():
            self._set(replace(self.videos[path], state=QueueState.CANCELLED))
        self.run.cancel()

    def set_waiting(self, reason: str | None) -> None:
        """Start no further video while the window works on something else; None: go on."""
        self.waits_for = reason
        if reason is None:
            self._start_next()

    def _start_next(self) -> None:
        waiting = self.waiting()
        if self.is_running or self.waits_for is not None or not waiting or self.session.model is None:
            return
        path = self.current = waiting[0]
        video, session = self.videos[path], self.session
        self._set(replace(video, state=QueueState.RUNNING))
        self.run.start(lambda: session.segment_video(path, video.class_names, vote=video.vote))
        self.running_changed.emit(True)

    def _on_report(self, report: Any) -> None:
        assert self.current is not None
        is_voting = not isinstance(report, SegmentReport)
        self._set(replace(self.videos[self.current], done=report.done, total=report.total, is_voting=is_voting))

    def _on_finished(self, is_complete: bool) -> None:
        assert self.current is not None
        video = self.videos[self.current]
        if is_complete:
            video = replace(video, state=QueueState.DONE, outcome=self.run.result)
        elif self.run.error is not None:
            video = replace(video, state=QueueState.FAILED, error=str(self.run.error))
        else:
            video = replace(video, state=QueueState.CANCELLED)
        self._set(video)
        self._start_next()
        if not self.is_running:
            self.running_changed.emit(False)
            if not self.waiting():
                self.finished.emit()

    def _set(self, video: QueuedVideo) -> None:
        self.videos[video.path] = video
        self.changed.emit(video.path)


def _project_folder(path: Path) -> Path:
    """The project of a video, or this project itself."""
    return path.absolute() if is_project_folder(path) else project_of(path)
