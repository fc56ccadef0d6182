"""The dock of the timeline: connects it to the open project and the viewer."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
from qtpy.QtCore import QObject, Qt
from qtpy.QtWidgets import QDockWidget, QMainWindow

from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project, TrackTable
from surgicalsam_napari.store.validity import is_unchecked_prediction
from surgicalsam_napari.widgets.timeline.frame_notes import FrameNotes
from surgicalsam_napari.widgets.timeline.rows import TrackLine
from surgicalsam_napari.widgets.timeline.widget import Timeline
from surgicalsam_napari.widgets.viewer.dock_menu import DockMenu
from surgicalsam_napari.widgets.viewer.instance_colors import shade_of_tracks, shades
from surgicalsam_napari.widgets.viewer.instance_layer import shade_count
from surgicalsam_napari.widgets.viewer.label_changes import LabelChanges
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers
from surgicalsam_napari.widgets.viewer.session_signals import SessionSignals

NAME = "Timeline"
TABLES = "provenance", "predicted_iou", "voted"
UNCHECKED = "which nobody has checked on real video"
ROWS_AT_ONCE = 1000  # changed frames to read one by one; for more, read the whole tables


class TimelineDock(QObject):
    """Shows the labels of the open project; a click goes to its frame, a click on a name selects its class."""

    def __init__(
        self,
        session: Session,
        layers: ViewerLayers,
        changes: LabelChanges,
        dock_menu: DockMenu,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self.session, self.layers, self.changes, self.dock_menu = session, layers, changes, dock_menu
        self.timeline = Timeline()
        self.frame_notes = FrameNotes(session, layers, self.timeline, self)
        self._dock: QDockWidget | None = None
        self._project: Project | None = None
        self._notes: dict[int, str] = {}
        self._is_shown = True
        self.timeline.frame_picked.connect(layers.show_frame)
        self.timeline.class_picked.connect(session.select_class)
        self.timeline.swatch_clicked.connect(lambda class_id: layers.hide_classes(layers.hidden_classes ^ {class_id}))
        layers.hidden_changed.connect(lambda: self.timeline.set_hidden_classes(layers.hidden_classes))
        changes.frames_changed.connect(self._on_frames_changed)
        changes.tracks_changed.connect(self.show_tracks)
        layers.viewer.dims.events.current_step.connect(self._show_frame)

    def subscribe(self, signals: SessionSignals) -> None:
        """Follow the open project and the selected class."""
        signals.project_changed.connect(lambda: self.show_project(self.session.project))
        signals.contents_replaced.connect(lambda: self.show_project(self.session.project))
        signals.class_selected.connect(self.show_class)
        self.frame_notes.subscribe(signals)

    def show_project(self, project: Project | None) -> None:
        """Show this project; read it again if its classes or labels changed."""
        if project is not self._project:
            self.timeline.clear()
            self._notes = {}
            self._project = project
        if project is None:
            self._undock()
            return
        labels = project.labels
        self.timeline.strip.caveat_of = self._caveat_of
        self.timeline.show_tables(project.classes, *(labels.table(name) for name in TABLES))
        self.show_tracks()
        self._show_frame()
        self.show_class(self.session.selected_class_id)
        self._dock_below()

    def show_tracks(self) -> None:
        """Show the tracks of the open project; none if their table is damaged."""
        project = self._project
        if project is None:
            return
        try:
            table = project.tracks.table
        except ProjectError:
            table = TrackTable()
        count = shade_count(project.classes)
        shade_of, titles = shade_of_tracks(table, count), table.titles(project.classes)
        lines: dict[int, list[TrackLine]] = {}
        for track in table.tracks:
            if track.class_id in project.classes.ids:
                color = shades(project.classes.by_id(track.class_id).color, count)[shade_of[track.id]]
                lines.setdefault(track.class_id, []).append(TrackLine(track, titles[track.id], color))
        self.timeline.show_tracks({class_id: tuple(each) for class_id, each in lines.items()})

    def show_class(self, class_id: int | None) -> None:
        """Show which class is selected."""
        self.timeline.set_current_class(class_id)

    def show_scores(self, marks: np.ndarray | None) -> None:
        """Show the review priority of each frame: (T,) from 0 to 1, NaN for none."""
        if self._project is not None and (marks is None or len(marks) == len(self._project.labels)):
            self.timeline.set_marks(marks)

    def note_stop(self, frame_index: int, reason: str) -> None:
        """Mark the frame where a propagation stopped, until the frame changes."""
        self.changes.emit_now()
        self._notes[frame_index] = reason
        self.timeline.set_notes(self._notes)

    def set_shown(self, is_shown: bool) -> None:
        """Show or hide the timeline together with the plugin's dock."""
        self._is_shown = is_shown
        with suppress(RuntimeError):  # the window is being closed
            if self._dock is not None:
                self._dock.setVisible(is_shown)

    def remove(self) -> None:
        """Remove the timeline from the window."""
        self.frame_notes.release()
        self._undock()

    def _dock_below(self) -> None:
        if self.timeline.parentWidget() is None:
            self._dock = self.layers.viewer.window.add_dock_widget(self.timeline, name=NAME, area="bottom")
            self._dock.setVisible(self._is_shown)
            self.dock_menu.add(self._dock, "SurgicalSAM timeline")
            window = self._dock.parent()
            if isinstance(window, QMainWindow):  # the timeline is under the canvas only; the plugin's dock keeps its height
                window.setCorner(Qt.Corner.BottomRightCorner, Qt.DockWidgetArea.RightDockWidgetArea)

    def _undock(self) -> None:
        dock, self._dock = self._dock, None
        if dock is not None and self.timeline.parentWidget() is not None:
            with suppress(AttributeError, LookupError, RuntimeError):  # closed with the window
                self.layers.viewer.window.remove_dock_widget(dock)

    def _caveat_of(self, frame_index: int, class_id: int) -> str:
        is_unchecked = self._project is not None and is_unchecked_prediction(self._project, frame_index, class_id)
        return UNCHECKED if is_unchecked else ""

    def _show_frame(self, _event: Any = None) -> None:
        if self._project is not None:
            self.timeline.set_current_frame(self.layers.current_frame)

    def _on_frames_changed(self, frames: set[int]) -> None:
        if self._project is None:
            return
        labels, changed = self._project.labels, sorted(frames)
        tables = []
        for name in TABLES:
            if len(changed) > ROWS_AT_ONCE:
                tables.append(labels.table(name)[changed])
            else:
                tables.append(np.stack([labels.row(name, frame_index) for frame_index in changed]))
        shown = self.timeline.strip.overview
        # if classes were just added, a signal of the session redraws everything
        if shown is not None and tables[0].shape[1] == shown.provenance.shape[1]:
            self.timeline.update_frames(changed, *tables)
        if self._notes.keys() & frames:
            self._notes = {frame: text for frame, text in self._notes.items() if frame not in frames}
            self.timeline.set_notes(self._notes)
