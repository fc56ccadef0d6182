"""The mark "All saved": every stroke is on disk; or which one could not be written, and why."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel

from surgicalsam_napari.formatting import counted
from surgicalsam_napari.store import Project

SAVED, NOT_SAVED, NOT_YET, AWAY = "✓ All saved", "Last stroke not saved", "Not saved yet", "Folder cannot be reached"
STYLE = "font-size: 9pt; padding: 0px; margin: 0px;"
FAILED_STYLE = f"{STYLE} font-weight: bold; background-color: #b3261e; color: white; border-radius: 2px; padding: 1px 5px;"


class SavedMark(QLabel):
    """Hidden while nothing is open, and for a read-only project, which has a banner of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._folder: Path | None = None
        self.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.show_project(None)

    def show_project(self, project: Project | None) -> None:
        """Show the mark for a project that can be written."""
        self._folder = None if project is None or not project.writable else project.folder
        self.setVisible(self._folder is not None)
        self._show_saved("Nothing was changed yet")

    def show_saved(self) -> None:
        """Labels were written."""
        self._show_saved(f"Last change {datetime.now():%H:%M:%S}")

    def show_failed(self, reason: str) -> None:
        """A stroke could not be written."""
        self.setText(NOT_SAVED)
        self.setStyleSheet(FAILED_STYLE)
        self.setToolTip(f"{reason}\nEverything before it is saved.")

    def show_unsaved(self, reason: str, frame_indices: list[int]) -> None:
        """The project cannot be read or written now; strokes in these frames wait to be saved."""
        frames = counted(len(frame_indices), "frame")
        waiting = f"\nStrokes in {frames} are kept in memory until they can be saved." if frame_indices else ""
        text, tooltip = NOT_YET if frame_indices else AWAY, f"{reason}{waiting}"
        if (text, tooltip) != (self.text(), self.toolTip()):  # it is called at every mouse move of a stroke
            self.setText(text)
            self.setStyleSheet(FAILED_STYLE)
            self.setToolTip(tooltip)

    def _show_saved(self, last: str) -> None:
        self.setText(SAVED)
        self.setStyleSheet(STYLE)
        self.setToolTip(f"Each stroke is written at once to {self._folder}\n{last}. You can close the window at any time.")
