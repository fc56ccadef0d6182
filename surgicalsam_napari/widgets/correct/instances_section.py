"""Section *Instances*: find them, and say who is who: same as, split here, swap from here on, the class of a whole track."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QPushButton

from surgicalsam_napari.editing import EditOutcome, same_as, split_here, swap_from_here, track_at
from surgicalsam_napari.errors import SurgicalSAMError
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project, TrackTable
from surgicalsam_napari.widgets.actions.registry import action_by_id
from surgicalsam_napari.widgets.correct.instance_clicks import InstanceClicks, Place, Task
from surgicalsam_napari.widgets.correct.section_parts import (
    LABELS_ARE_BUSY,
    ActionStrip,
    frames_caption,
    show_text,
    why_not_editable,
)
from surgicalsam_napari.widgets.correct.track_class import TrackClassChange
from surgicalsam_napari.widgets.parts.class_picker import ClassPicker
from surgicalsam_napari.widgets.parts.frame_scope import RANGE, WHOLE_VIDEO, FrameScope
from surgicalsam_napari.widgets.parts.parts import SPACING, Panel, caption, note
from surgicalsam_napari.widgets.runs.run import Run
from surgicalsam_napari.widgets.viewer.instance_layer import InstanceLayer
from surgicalsam_napari.widgets.viewer.instance_names import InstanceNames
from surgicalsam_napari.widgets.viewer.label_changes import LabelChanges
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers

OF_WHOLE = "Instances are whole instruments, and so have their parts. Switch to the instruments (Labels, above)."
FIND_FIRST = "Find the instances first."
NOTHING_HERE = "There is no instrument at this place."
UNDO = " Undo (U) takes it back."
TIPS = {
    Task.SAME: "Click on two regions, also in different frames, that are one instrument",
    Task.SPLIT: "Click on an instance that is another instrument from this frame on",
    Task.SWAP: "The two instances of the class in this frame change their names, in this frame and all later ones",
    Task.CLASS: "Click on an instance: it gets this class in all its frames",
}
ACTION_OF = {Task.SAME: "same_as", Task.SPLIT: "split_here", Task.SWAP: "swap_tracks", Task.CLASS: "track_class"}


class InstancesSection(Panel):
    """*Find instances* in frames, four ways to correct what it found, and how instances are shown."""

    rows_wanted = Signal(bool)  # open the classes of the timeline into their tracks, or close them

    def __init__(self, session: Session, layers: ViewerLayers, run: Run, changes: LabelChanges) -> None:
        super().__init__("Instances")
        self.session, self.layers, self.run = session, layers, run
        self.clicks = InstanceClicks(session, layers, self)
        self.mouse = self.clicks.mouse
        self.colors, self.names = InstanceLayer(layers, changes, self), InstanceNames(layers, self)
        self._project: Project | None = None
        self._after_run: Callable[[Any], None] = lambda _result: None
        self._told: int | None = None  # the number of the action that the outcome is about
        self._build()
        self._connect(changes)
        self.refresh()

    # What can be done ---------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Enable the controls that can be used now, and show what is missing."""
        if self.session.project is not self._project:
            self._show_project()
        missing = why_not_editable(self.session) or (OF_WHOLE if self.session.shows_parts else None)
        if missing is not None:
            self.clicks.switch(None)
        table, problem = self._table_or_problem()
        is_free = missing is None and not self.run.is_running and not self.class_change.is_asking
        self.find_button.setEnabled(is_free)
        for task, button in self.buttons.items():
            reason = missing or problem or ("" if task is Task.SAME or table.tracks else FIND_FIRST)
            button.setEnabled(is_free and not reason)
            button.setChecked(self.clicks.task is task)
            button.setToolTip(action_by_id(ACTION_OF[task]).tooltip(reason or TIPS[task]))
        for box in (self.by_instance, self.rows_box):
            box.setEnabled(bool(table.tracks) or box.isChecked())
        self.right_class.show_classes(self.session.classes, lambda _class_id: True)
        busy = LABELS_ARE_BUSY if self.run.is_running and not self.strip.is_mine else ""
        show_text(self.missing, missing or busy or problem or self._instructions() or self._state(table))

    def _table_or_problem(self) -> tuple[TrackTable, str]:
        if self._project is None:
            return TrackTable(), ""
        try:
            return self._project.tracks.table, ""
        except SurgicalSAMError as error:
            return TrackTable(), str(error)

    def _state(self, table: TrackTable) -> str:
        """How many instances there are, and those in this frame."""
        if self._project is None:
            return ""
        if not table.tracks:
            return "Which instrument is which over time? Find the instances, then each region has a name."
        frame, titles = self.layers.current_frame, table.titles(self._project.classes)
        names = ", ".join(sorted(titles[track.id] for track in table.in_frame(frame).values()))
        if not names:
            names = "none" if self._project.tracks.is_linked(frame) else "not found yet"
        return f"{counted(len(table.tracks), 'instance')} in this video. In this frame: {names}."

    def _instructions(self) -> str:
        task, places = self.clicks.task, self.clicks.places
        if task is Task.SAME and places:
            first = f"First: {self._name_of(places[0])}, frame {places[0][0]:,}."
            return f"{first} Now click on the same one, here or in another frame."
        if task is Task.SAME:
            return "Click on an instrument. Then click on the same one where it has another name, also in another frame."
        if task is Task.SPLIT:
            return f"Click on the instance that is another instrument from frame {self.layers.current_frame:,} on."
        if task is Task.SWAP:
            return f"Click on the two that change places from frame {self.layers.current_frame:,} on ({len(places)} of 2)."
        if task is Task.CLASS:
            class_id = self.right_class.class_id
            name = "this class" if class_id is None else self.session.classes.by_id(class_id).name
            return f"Click on an instance: in all its frames it becomes {name}."
        return ""

    def _name_of(self, place: Place) -> str:
        assert self._project is not None
        name = self.names.name_at(*place)
        return name or f"{self._project.classes.by_id(int(self._project.labels[place])).name}, not followed yet"

    def show_rows(self, are_shown: bool) -> None:
        """Show whether the timeline shows tracks."""
        self.rows_box.setChecked(are_shown)

    # What the buttons do ------------------------------------------------------------------------------------------------

    def find(self) -> None:
        """Follow the instances in the chosen frames."""
        # imported here because it imports torch, which takes seconds
        from surgicalsam_napari.tracking.link_instances import link_instances

        project = self._project
        if project is not None and self.find_button.isEnabled():
            frames = self.scope.frame_indices(self.layers.current_frame, project.video.info.frame_count)
            self._start("Finding instances", lambda: link_instances(project, frames), self._on_found, steps_per_frame=2)

    def toggle(self, task: Task) -> None:
        """Start to wait for clicks for this task, or stop."""
        if self.buttons[task].isEnabled():
            show_text(self.outcome, "")
            self.clicks.switch(None if self.clicks.task is task else task)
        self.refresh()

    def swap(self) -> None:
        """Swap the two instances of the selected class in this frame; with more of them, wait for two clicks."""
        project, class_id = self._project, self.session.selected_class_id
        if project is None or class_id is None or not self.buttons[Task.SWAP].isEnabled():
            self.refresh()
            return
        places = places_of_class(project, self.layers.current_frame, class_id)
        if len(places) == 2:
            self._on_picked(Task.SWAP, places)
        elif len(places) > 2:
            self.toggle(Task.SWAP)
        else:
            name, frame = project.classes.by_id(class_id).name, self.layers.current_frame
            shows = "no instance" if not places else "only one instance"
            show_text(
                self.outcome, f"Frame {frame:,} shows {shows} of {name}, and a swap needs two. Go to a frame with both."
            )
        self.refresh()

    def _on_picked(self, task: Task, places: list[Place]) -> None:
        project = self._project
        if project is None or self.run.is_running or self.class_change.is_asking:
            return
        try:
            if task is Task.SAME:
                same_as(project, *places)
            elif task is Task.SPLIT:
                split_here(project, *places)
            elif task is Task.SWAP:
                self.clicks.switch(None)
                swap_from_here(project, *places)
            else:
                track_id = track_at(project, places[0]).id
                if self.right_class.class_id is not None:
                    self.class_change.begin(project, track_id, self.right_class.class_id)
                return
        except SurgicalSAMError as error:
            show_text(self.outcome, str(error))
            return
        done = project.history.to_undo
        self._tell("" if done is None else f"{done.name}.{UNDO}")
        self.layers.refresh_frame(self.layers.current_frame)

    # Runs ---------------------------------------------------------------------------------------------------------------

    def _start(
        self,
        title: str,
        reports: Callable[[], Generator[Any, None, Any]],
        after: Callable[[Any], None],
        *,
        steps_per_frame: int = 1,
    ) -> None:
        show_text(self.outcome, "")
        self.layers.ensure_labels()
        self._after_run = after
        self.strip.start(title, reports, steps_per_frame=steps_per_frame)

    def _on_finished(self, result: Any) -> None:
        self._after_run(result)
        self.refresh()

    def _on_class_changed(self, title: str, outcome: EditOutcome | None) -> None:
        self._tell(class_outcome(title, outcome, self.strip.done))

    def _on_found(self, outcome: Any) -> None:
        if outcome is None:
            stopped = f"Stopped after {counted(self.strip.done, 'frame')}; these are kept.{UNDO}" if self.strip.done else ""
            self._tell(stopped)
        elif not outcome.tracks:
            show_text(self.outcome, "These frames show no instrument. Segment or paint first, then find the instances.")
        else:
            self._tell(f"{outcome}{UNDO}")

    def _tell(self, text: str) -> None:
        """Show what the last action did, until it is undone or followed by another one."""
        done = None if self._project is None else self._project.history.to_undo
        self._told = None if done is None else done.number
        show_text(self.outcome, text)

    def _on_history(self) -> None:
        done = None if self._project is None else self._project.history.to_undo
        if self._told is not None and (done is None or done.number != self._told):
            self._told = None
            show_text(self.outcome, "")

    # Building -----------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.scope, self.find_button = FrameScope((WHOLE_VIDEO, RANGE), lambda: self.layers.current_frame), QPushButton()
        self.find_button.setText("Find instances")
        self.find_button.setToolTip("Follow each region over time and give it a name, such as Needle Driver 2")
        texts = {
            Task.SAME: "Same as…",
            Task.SPLIT: "Split here",
            Task.SWAP: "Swap left and right from here on",
            Task.CLASS: "This track is a…",
        }
        self.buttons = {task: QPushButton(text) for task, text in texts.items()}
        self.same_button, self.split_button, self.swap_button, self.class_button = self.buttons.values()
        self.right_class, self.strip = ClassPicker(), ActionStrip(self.run, self.layers)
        self.right_class.setMinimumContentsLength(6)  # beside a button, also in a narrow panel
        self.class_change = TrackClassChange(self._start, self._on_class_changed)
        self.missing, self.outcome = note(), note()
        self.by_instance, self.rows_box = QCheckBox("Colours by instance"), QCheckBox("Tracks in the timeline")
        self.by_instance.setToolTip("Show the instances of a class in different colours; painting stays as it is")
        self.rows_box.setToolTip("Open each class of the timeline into its tracks")
        grid = self.add_grid()
        grid.addWidget(frames_caption(), 0, 0, Qt.AlignmentFlag.AlignTop)
        grid.addWidget(self.scope, 0, 1)
        self.column.addWidget(self.find_button)
        self.column.addWidget(self.missing)
        self._add_row(self.same_button, self.split_button)
        self.column.addWidget(self.swap_button)
        self._add_row(self.class_button, self.right_class)
        for widget in (self.class_change, self.strip, self.outcome):
            self.column.addWidget(widget)
            widget.hide()
        grid = self.add_grid()
        grid.addWidget(caption("Show"), 0, 0)
        grid.addWidget(self.by_instance, 0, 1)
        grid.addWidget(self.rows_box, 1, 1)
        for task in (Task.SAME, Task.SPLIT, Task.SWAP, Task.CLASS):
            self.buttons[task].setCheckable(True)

    def _add_row(self, *widgets: Any) -> None:
        row = QHBoxLayout()
        row.setSpacing(SPACING)
        for widget in widgets:
            row.addWidget(widget, 1)
        self.column.addLayout(row)

    def _connect(self, changes: LabelChanges) -> None:
        self.find_button.clicked.connect(self.find)
        for task in (Task.SAME, Task.SPLIT, Task.CLASS):
            self.buttons[task].clicked.connect(lambda _checked, task=task: self.toggle(task))
        self.swap_button.clicked.connect(self.swap)
        self.right_class.picked.connect(lambda _class_id: self.refresh())
        self.clicks.picked.connect(self._on_picked)
        self.clicks.clicked_nothing.connect(lambda: show_text(self.outcome, NOTHING_HERE))
        self.clicks.changed.connect(self.refresh)
        self.strip.finished.connect(self._on_finished)
        self.by_instance.toggled.connect(self.colors.switch)
        self.colors.switched.connect(self.by_instance.setChecked)
        self.rows_box.clicked.connect(self.rows_wanted)
        self.run.started.connect(self.refresh)
        self.run.finished.connect(lambda _is_complete: self.refresh())
        changes.tracks_changed.connect(self.refresh)
        changes.history_changed.connect(self._on_history)

    def _show_project(self) -> None:
        """A new project clears the outcome and the question."""
        self._project = self.session.project
        self.clicks.switch(None)
        self.class_change.forget()
        show_text(self.outcome, "")
        if self._project is not None:
            self.scope.set_frame_count(self._project.video.info.frame_count)


def places_of_class(project: Project, frame_index: int, class_id: int) -> list[Place]:
    """A pixel of each instance of a class in a frame that belongs to a track."""
    labels, numbers = project.labels[frame_index], project.tracks.numbers(frame_index)
    places = []
    for number, track in project.tracks.table.in_frame(frame_index).items():
        mask = (numbers == number) & (labels == class_id)
        row, column = np.unravel_index(np.argmax(mask), mask.shape)
        if mask[row, column] and track.class_id == class_id:
            places.append((frame_index, int(row), int(column)))
    return places


def class_outcome(title: str, outcome: EditOutcome | None, done: int) -> str:
    """The result of a change of a track's class, as text for the user; `done` frames were reported until then."""
    if outcome is None:
        return f"Stopped after {counted(done, 'frame')}.{UNDO}" if done else ""
    text = f"{title}, {counted(len(outcome.changed), 'frame')} changed"
    if outcome.left:
        text += f", {counted(len(outcome.left), 'frame')} with a person's pixels kept"
    return f"{text}.{UNDO}"
