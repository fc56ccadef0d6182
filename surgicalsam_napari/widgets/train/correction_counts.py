"""Count the corrected frames of the projects to train on, in the background."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import QObject, QTimer, Signal

from surgicalsam_napari.errors import SurgicalSAMError, UnreachableError
from surgicalsam_napari.store import Project
from surgicalsam_napari.store.corrections import Corrections, count_corrections
from surgicalsam_napari.widgets.parts.message import show_failure
from surgicalsam_napari.widgets.runs.background import run_in_background

COUNT_DELAY_MS = 300  # several quick strokes are counted once
Counted = tuple[list[Corrections], list[tuple[Path, Exception]]]


class CorrectionCounts(QObject):
    """The counts of the open project, then of the added ones; updated when labels change.

    Attributes
    ----------
    corrections : the latest counts of each project
    """

    counted = Signal()
    edited = Signal(int)  # frame index: a person changed it

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.corrections: list[Corrections] = []
        self.is_counted = True
        self._project: Project | None = None
        self._added: list[Path] = []
        self._trust = "frame"
        self._known_pixels: dict[int, frozenset[int]] = {}  # of the open project; only the worker adds to it
        self._to_forget: set[int] = set()
        self._counts_of_added: dict[Path, Corrections] = {}
        self._is_counting = self._is_stale = False
        self._timer = QTimer(self, singleShot=True, interval=COUNT_DELAY_MS)
        self._timer.timeout.connect(self._count)
        self.edited.connect(self._on_edited)

    @property
    def folders(self) -> list[Path]:
        """The folders of the projects with corrected frames."""
        return [corrections.folder for corrections in self.corrections if corrections.frame_count]

    @property
    def has_news(self) -> bool:
        """Whether a person changed something in at least one frame: verified predictions alone teach nothing."""
        return any(corrections.frame_count > corrections.unchanged_count for corrections in self.corrections)

    def show_project(self, project: Project | None) -> None:
        """Count everything again, with this project as the open one."""
        if project is not self._project:
            if self._project is not None:
                self._project.labels.edited.disconnect(self._relay_edit)
            if project is not None:
                project.labels.edited.connect(self._relay_edit)
            self._project = project
            self.corrections = []
        self._forget_counts()
        self._count()

    def set_trust(self, trust: str) -> None:
        """Set which labels to trust, as in `TrainingConfig.trust`."""
        if trust != self._trust:
            self._trust = trust
            self._forget_counts()
            self._count()

    def add(self, folder: Path) -> None:
        """Also train on this project; if it cannot be read, show an error and leave it out."""
        if folder not in self._added and (self._project is None or folder != self._project.folder):
            self._added.append(folder)
            self._count()

    def remove(self, folder: Path) -> None:
        """Remove an added project."""
        self._added = [added for added in self._added if added != folder]
        self._counts_of_added.pop(folder, None)
        self.corrections = [each for each in self.corrections if each.folder != folder]
        self.counted.emit()
        self._count()

    def is_added(self, folder: Path) -> bool:
        """Whether this project was added; False for the open project."""
        return self._project is None or folder != self._project.folder

    # Counting -----------------------------------------------------------------------------------------------------------

    def _relay_edit(self, frame_index: int) -> None:
        self.edited.emit(frame_index)  # called in the thread that edits

    def _on_edited(self, frame_index: int) -> None:
        self._to_forget.add(frame_index)
        self._timer.start()

    def _forget_counts(self) -> None:
        self._known_pixels = {}
        self._counts_of_added = {}

    def _count(self) -> None:
        self.is_counted = False
        if self._is_counting:
            self._is_stale = True
            return
        self._is_counting, self._is_stale = True, False
        for frame_index in self._to_forget:
            self._known_pixels.pop(frame_index, None)
        self._to_forget.clear()
        run_in_background(self._work(), self._on_counted, self._on_failed)

    def _work(self) -> Callable[[], Counted]:
        """The function that the worker runs."""
        project, trust, known_pixels = self._project, self._trust, self._known_pixels
        known_counts = dict(self._counts_of_added)
        added = [folder for folder in self._added if self.is_added(folder)]

        def count() -> Counted:
            corrections = [] if project is None else [count_corrections(project, trust, known_pixels)]
            failed: list[tuple[Path, Exception]] = []
            for folder in added:
                try:
                    corrections.append(known_counts.get(folder) or count_in_folder(folder, trust))
                except SurgicalSAMError as error:
                    failed.append((folder, error))
            return corrections, failed

        return count

    def _on_counted(self, counted: Counted) -> None:
        self._is_counting = False
        corrections, failed = counted
        for folder, error in failed:
            if folder in self._added:
                self._added.remove(folder)
                show_failure(error, self)
        if self._is_stale:
            self._count()
            return
        self.corrections = corrections
        self.is_counted = True
        self._counts_of_added = {each.folder: each for each in corrections if self.is_added(each.folder)}
        self.counted.emit()

    def _on_failed(self, error: Exception) -> None:
        self._is_counting = False
        if self._is_stale:  # the project was closed during the count
            self._count()
            return
        if isinstance(error, UnreachableError):  # the panel Video says so; the counts so far stay until it is back
            return
        self.corrections, self.is_counted = [], True
        self.counted.emit()
        show_failure(error, self)


def count_in_folder(folder: Path, trust: str) -> Corrections:
    """Count in a project that is not open; its video may be missing."""
    with Project.open(folder, require_video=False) as project:
        return count_corrections(project, trust)
