"""Section *Wrong class*: click on a region to change its class, or swap two classes."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QPushButton, QSpinBox

from surgicalsam_napari.editing import reassign_region, region_at, swap_classes
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.widgets.correct.mouse_tool import MouseTool
from surgicalsam_napari.widgets.correct.preview_layer import PreviewLayer
from surgicalsam_napari.widgets.correct.section_parts import (
    LABELS_ARE_BUSY,
    ActionStrip,
    frames_caption,
    outcome_text,
    show_text,
    why_not_editable,
)
from surgicalsam_napari.widgets.parts.class_picker import ClassPicker
from surgicalsam_napari.widgets.parts.frame_scope import RANGE, THIS_FRAME, WHOLE_VIDEO, FrameScope
from surgicalsam_napari.widgets.parts.parts import Panel, caption, note
from surgicalsam_napari.widgets.runs.run import Run
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers

AROUND = "Frames around it"
DEFAULT_AROUND = 25
SWITCH_ON, SWITCH_OFF = "Click the wrong region", "Stop changing classes"


class WrongClassSection(Panel):
    """The right class, the frames, a switch for clicking; and two classes to swap in the same frames."""

    def __init__(self, session: Session, layers: ViewerLayers, run: Run) -> None:
        super().__init__("Wrong class")
        self.session, self.layers, self.run = session, layers, run
        self.mouse = MouseTool(layers, self)
        self.preview = PreviewLayer(layers, self)
        self._project: Project | None = None
        self._hovered: tuple[int, np.ndarray] | None = None  # frame index, region under the mouse
        self._build()
        self._connect()
        self.refresh()

    def refresh(self) -> None:
        """Enable the controls that can be used now, and show what is missing."""
        missing = why_not_editable(self.session)
        if missing is not None or self.session.project is not self._project:
            self.mouse.switch(False)
        self._show_project()
        is_on = self.mouse.is_on
        self.switch.setEnabled(missing is None)
        self.switch.setChecked(is_on)
        self.switch.setText(SWITCH_OFF if is_on else SWITCH_ON)
        is_distinct = self.first.class_id != self.second.class_id
        self.swap_button.setEnabled(missing is None and is_distinct and not self.run.is_running)
        busy = LABELS_ARE_BUSY if self.run.is_running and not self.strip.is_mine else ""
        show_text(self.hint, missing or busy or (self._instructions() if is_on else ""))

    def toggle(self) -> None:
        """Switch the tool on or off."""
        if self.switch.isEnabled():
            self.layers.ensure_labels()
            self.mouse.switch(not self.mouse.is_on)
            self.refresh()

    def swap(self) -> None:
        """Exchange the two classes in the selected frames."""
        project, first, second = self.session.project, self.first.class_id, self.second.class_id
        if not self.swap_button.isEnabled() or project is None or first is None or second is None:
            return
        frame_indices = self.frame_indices()
        names = " and ".join(project.classes.by_id(class_id).name for class_id in (first, second))
        self._start(f"Swap {names}", self.swap_outcome, lambda: swap_classes(project, first, second, frame_indices))

    def frame_indices(self) -> range:
        """The selected frames, relative to the frame in view."""
        project, frame = self.session.project, self.layers.current_frame
        count = 0 if project is None else project.video.info.frame_count
        if self.scope.choice.currentText() == AROUND:
            return range(max(frame - self.around.value(), 0), min(frame + self.around.value() + 1, count))
        return self.scope.frame_indices(frame, count)

    def _build(self) -> None:
        self.right_class, self.first, self.second = ClassPicker(), ClassPicker(), ClassPicker()
        self.scope = FrameScope((THIS_FRAME, AROUND, RANGE, WHOLE_VIDEO), lambda: self.layers.current_frame)
        self.around = QSpinBox()
        self.around.setRange(1, 1_000_000)
        self.around.setValue(DEFAULT_AROUND)
        self.around.setSuffix(" each way")
        self.switch = QPushButton(SWITCH_ON)
        self.switch.setCheckable(True)
        self.swap_button = QPushButton("Swap")
        self.hint, self.outcome, self.swap_outcome = note(), note(), note()
        self._outcome_of_run = self.outcome
        self.strip = ActionStrip(self.run, self.layers)
        grid = self.add_grid()
        grid.addWidget(frames_caption(), 0, 0, Qt.AlignmentFlag.AlignTop)
        grid.addWidget(self.scope, 0, 1)
        grid.addWidget(self.around, 1, 1)
        grid.addWidget(caption("Right class"), 2, 0)
        grid.addWidget(self.right_class, 2, 1)
        self.column.addWidget(self.switch)
        self.column.addWidget(self.hint)
        self.column.addWidget(self.outcome)
        swapped = self.add_grid()
        for row, (text, picker) in enumerate((("Swap", self.first), ("with", self.second))):
            swapped.addWidget(caption(text), row, 0)
            swapped.addWidget(picker, row, 1)
        self.column.addWidget(self.swap_button)
        self.column.addWidget(self.strip)
        self.column.addWidget(self.swap_outcome)
        for widget in (self.around, self.outcome, self.swap_outcome):
            widget.hide()

    def _connect(self) -> None:
        self.switch.clicked.connect(self.toggle)
        self.swap_button.clicked.connect(self.swap)
        for picker in (self.right_class, self.first, self.second):
            picker.picked.connect(lambda _class_id: self.refresh())
        self.scope.changed.connect(self._on_scope)
        self.mouse.clicked.connect(self._on_click)
        self.mouse.hovered.connect(self._on_hover)
        self.mouse.switched.connect(self._on_switched)
        self.strip.finished.connect(self._on_finished)
        self.run.started.connect(self.refresh)
        self.run.finished.connect(lambda _is_complete: self.refresh())
        self.layers.viewer.dims.events.current_step.connect(self._forget_hovered)

    def _show_project(self) -> None:
        """Show the project's classes in the dropdowns; a new project clears the outcomes."""
        if self.session.project is not self._project:
            self._project = self.session.project
            self._clear_outcomes()
            if self._project is not None:
                self.scope.set_frame_count(self._project.video.info.frame_count)
        classes = self.session.classes
        is_new = self.right_class.count() == 0
        for picker in (self.right_class, self.first, self.second):
            picker.show_classes(classes, lambda _class_id: True)  # also classes that the model is not trained on
        if is_new and len(classes) > 1:
            self.second.show_class(classes.ids[1])

    def _instructions(self) -> str:
        class_id = self.right_class.class_id
        name = "the right class" if class_id is None else self.session.classes.by_id(class_id).name
        followed = "" if self.scope.choice.currentText() == THIS_FRAME else " It is followed through the selected frames."
        return f"Click on a region: it becomes {name}.{followed}"

    # The mouse ----------------------------------------------------------------------------------------------------------

    def _on_click(self, row: float, column: float, _is_positive: bool) -> None:
        project, class_id, frame = self.session.project, self.right_class.class_id, self.layers.current_frame
        if project is None or class_id is None or self.run.is_running or not self.switch.isEnabled():
            return
        problem = self._problem_at(project, frame, round(row), round(column), class_id)
        if problem is not None:
            show_text(self.outcome, problem)
            return
        frame_indices = self.frame_indices()
        title = f"Change to {project.classes.by_id(class_id).name}"
        place = round(row), round(column)
        self._start(title, self.outcome, lambda: reassign_region(project, frame, *place, class_id, frame_indices))

    def _problem_at(self, project: Project, frame: int, row: int, column: int, class_id: int) -> str | None:
        """Why a click at this pixel would change nothing; None if it changes something."""
        clicked_id = int(project.labels[frame, row, column])
        if clicked_id == 0:
            return "There is no instrument at this place."
        for involved_id in (clicked_id, class_id):
            name = project.classes.by_id(involved_id).name
            if project.labels.provenance(frame, involved_id) == Provenance.VERIFIED:
                return f"{name} is verified in frame {frame}. Unlock it to change it."
        return f"This is already {project.classes.by_id(class_id).name}." if clicked_id == class_id else None

    def _on_hover(self, row: float, column: float) -> None:
        """Outline the region that a click would change."""
        project, frame = self.session.project, self.layers.current_frame
        if project is None or not self.mouse.is_on:
            return
        height, width = project.labels.shape[1:]
        pixel = round(row), round(column)
        if not (0 <= pixel[0] < height and 0 <= pixel[1] < width):
            self._forget_hovered()
            return
        if self._hovered is not None and self._hovered[0] == frame and self._hovered[1][pixel]:
            return
        label_map = project.labels[frame]
        if label_map[pixel] in (0, self.right_class.class_id):
            self._forget_hovered()
            return
        region = region_at(label_map, *pixel)
        self._hovered = frame, region
        assert self.right_class.class_id is not None
        self.preview.show(region, region, project.classes.by_id(self.right_class.class_id).color)

    def _forget_hovered(self, _event: object = None) -> None:
        if self._hovered is not None:
            self._hovered = None
            self.preview.clear()

    def _on_switched(self, is_on: bool) -> None:
        if not is_on:
            self._hovered = None
            self.preview.hide()
        self.refresh()

    # Runs ---------------------------------------------------------------------------------------------------------------

    def _start(self, title: str, outcome: QLabel, reports: Callable[[], Generator[Any, None, Any]]) -> None:
        self._forget_hovered()
        self._clear_outcomes()
        self._outcome_of_run = outcome
        self.layers.ensure_labels()
        self.strip.start(title, reports)

    def _on_finished(self, result: Any) -> None:
        show_text(self._outcome_of_run, outcome_text(result, self.strip.done))

    def _clear_outcomes(self) -> None:
        show_text(self.outcome, "")
        show_text(self.swap_outcome, "")

    def _on_scope(self) -> None:
        self.around.setVisible(self.scope.choice.currentText() == AROUND)
        self.refresh()
