"""Counts the frames that show each class, in the background."""

from __future__ import annotations

from qtpy.QtCore import QObject, QTimer, Signal

from surgicalsam_napari.store import Project
from surgicalsam_napari.store.corrections import frames_showing
from surgicalsam_napari.widgets.runs.background import run_in_background
from surgicalsam_napari.widgets.viewer.label_changes import LabelChanges

DELAY_MS = 300  # changes that follow each other closely are counted once


class ClassCounts(QObject):
    """Counts while it is switched on; only changed frames are read again.

    Attributes
    ----------
    counts : by class id; empty until the first count is done
    """

    changed = Signal()

    def __init__(self, changes: LabelChanges, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.counts: dict[int, int] = {}
        self._project: Project | None = None
        self._known: dict[int, frozenset[int]] = {}
        self._is_counting = False
        self._timer = QTimer(self, singleShot=True, interval=DELAY_MS)
        self._timer.timeout.connect(self._count)
        changes.frames_changed.connect(self._on_frames_changed)

    def follow(self, project: Project | None) -> None:
        """Count the frames of this project from now on; None stops."""
        if project is not self._project:
            self._project, self._known, self.counts = project, {}, {}
            self.changed.emit()
        if project is not None:
            self._count()

    def _on_frames_changed(self, frames: set[int]) -> None:
        if self._project is not None:
            for frame_index in frames:
                self._known.pop(frame_index, None)
            self._timer.start()

    def _count(self) -> None:
        if self._is_counting:
            self._timer.start()
            return
        if (project := self._project) is not None:
            self._is_counting = True
            known = dict(self._known)

            def done(counts: dict[int, int]) -> None:
                self._is_counting = False
                if project is self._project:
                    if not self._timer.isActive():  # nothing changed meanwhile
                        self._known = known
                    self.counts = counts
                    self.changed.emit()

            run_in_background(lambda: frames_showing(project, known), done, lambda _error: done({}))
