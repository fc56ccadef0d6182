"""Section *Statistics and overlays*: two buttons that open the dialogs, and the runs of both."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton

from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project
from surgicalsam_napari.widgets.exchange.overlay_dialog import OverlayDialog
from surgicalsam_napari.widgets.exchange.statistics_dialog import StatisticsDialog
from surgicalsam_napari.widgets.parts.parts import SPACING, Panel
from surgicalsam_napari.widgets.runs.run import Run
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers


class ResultsSection(Panel):
    """Opens *Statistics* and *Overlay* for the open project; both change nothing in it."""

    busy_changed = Signal(bool)

    def __init__(self, session: Session, layers: ViewerLayers) -> None:
        super().__init__("Statistics and overlays")
        self.session = session
        self._counting, self._drawing = Run(self), Run(self)
        self._project: Project | None = None
        self.statistics = StatisticsDialog(self._counting, self)
        self.overlay = OverlayDialog(self._drawing, layers, self)
        self.statistics_button, self.overlay_button = QPushButton("Statistics…"), QPushButton("Overlay…")
        self.statistics_button.setToolTip("How often, how long and how large each instrument is, as a table and as CSV")
        self.overlay_button.setToolTip("Save the video, or the frame in view, with the masks over it")
        self.statistics_button.clicked.connect(self.show_statistics)
        self.overlay_button.clicked.connect(self.show_overlay)
        row = QHBoxLayout()
        row.setSpacing(SPACING)
        row.addWidget(self.statistics_button, 1)
        row.addWidget(self.overlay_button, 1)
        self.column.addLayout(row)
        for run in (self._counting, self._drawing):
            run.started.connect(lambda: self.busy_changed.emit(True))
            run.finished.connect(lambda _is_complete: self.busy_changed.emit(self.is_busy))

    @property
    def is_busy(self) -> bool:
        """Whether frames are being counted or drawn."""
        return self._counting.is_running or self._drawing.is_running

    def refresh(self, *, is_locked: bool = False) -> None:
        """Close the dialogs of a project that is not open any more; enable what is possible now."""
        if self.session.project is not self._project:
            self._project = self.session.project
            self.statistics.close()
            self.overlay.close()
        for button, run in ((self.statistics_button, self._counting), (self.overlay_button, self._drawing)):
            button.setEnabled(self._project is not None and (run.is_running or not is_locked))

    def show_statistics(self) -> None:
        """Open the table, and count again."""
        if self._counting.is_running:
            self.statistics.raise_()
        elif self.session.project is not None:
            self.statistics.show_project(self.session.project)

    def show_overlay(self) -> None:
        """Open the dialog with the preview."""
        if self.session.project is not None:
            self.overlay.show_project(self.session.project)

    def cancel(self) -> None:
        """Stop both."""
        self._counting.cancel()
        self._drawing.cancel()
