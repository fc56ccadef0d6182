"""Reads the summaries of listed videos in the background, one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from qtpy.QtCore import QObject, Signal

from surgicalsam_napari.errors import SurgicalSAMError
from surgicalsam_napari.store.summary import VideoSummary, summarize
from surgicalsam_napari.widgets.runs.run import Run


@dataclass(frozen=True)
class Listed:
    """A video in the list.

    Attributes
    ----------
    path : as it is listed: a project, or a video without one
    summary : None while it is read, and if it could not be read
    problem : why it could not be read, and what to do
    """

    path: Path
    summary: VideoSummary | None = None
    problem: str = ""

    @property
    def name(self) -> str:
        """The file name of the video."""
        return (self.path if self.summary is None else self.summary.video).name


class Summaries(QObject):
    """The videos of a list, with their summaries as far as they are known; an old one stays until the new one is read.

    Attributes
    ----------
    listed : by path, in the order of the list
    """

    list_changed = Signal()
    read = Signal(object)  # Listed

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.listed: dict[Path, Listed] = {}
        self._due: list[Path] = []
        self.run = Run(self)
        self.run.reported.connect(self._on_read)
        self.run.finished.connect(lambda _is_complete: self._read_due())

    def show(self, paths: Iterable[Path]) -> None:
        """List these videos, and read all their summaries again."""
        self.listed = {path: self.listed.get(path, Listed(path)) for path in paths}
        self.list_changed.emit()
        self._due = list(self.listed)
        self._read_due()

    def refresh(self, path: Path) -> None:
        """Read the summary of one listed video again."""
        if path in self.listed and path not in self._due:
            self._due.append(path)
            self._read_due()

    def _read_due(self) -> None:
        """Read what is due; a run that still reads an older list is stopped first."""
        if self.run.is_running:
            self.run.cancel()
        elif self._due:
            due = tuple(self._due)
            self.run.start(lambda: _read(due))

    def _on_read(self, listed: Listed) -> None:
        if listed.path in self._due:
            self._due.remove(listed.path)
        if listed.path in self.listed:
            self.listed[listed.path] = listed
            self.read.emit(listed)


def _read(paths: Iterable[Path]) -> Iterator[Listed]:
    for path in paths:
        try:
            yield Listed(path, summarize(path))
        except (SurgicalSAMError, OSError) as error:
            yield Listed(path, problem=str(error))
