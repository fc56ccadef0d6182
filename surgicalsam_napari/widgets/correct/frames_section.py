"""Section *Clean up*: edit the selected class in one frame or in many."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QPushButton, QSpinBox

from surgicalsam_napari import editing
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project
from surgicalsam_napari.widgets.correct.section_parts import (
    LABELS_ARE_BUSY,
    ActionStrip,
    frames_caption,
    outcome_text,
    selected_class_name,
    show_text,
    why_not_editable,
)
from surgicalsam_napari.widgets.parts.frame_scope import EVERY_NTH, RANGE, THIS_FRAME, WHOLE_VIDEO, FrameScope
from surgicalsam_napari.widgets.parts.parts import SPACING, Panel, caption, note
from surgicalsam_napari.widgets.runs.run import Run
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers

Start = Callable[[Project, int, range], Generator[Any, None, Any]]
DEFAULT_RADIUS = 3


class FramesSection(Panel):
    """The frames, and a button for each operation. Each press is one action that can be undone."""

    def __init__(self, session: Session, layers: ViewerLayers, run: Run) -> None:
        super().__init__("Clean up")
        self.session, self.layers, self.run = session, layers, run
        self._project: Project | None = None
        self._build()
        self._connect()
        self.refresh()

    def refresh(self) -> None:
        """Enable the controls that can be used now, and show what is missing."""
        missing = why_not_editable(self.session)
        if missing is None and self.run.is_running and not self.strip.is_mine:
            missing = LABELS_ARE_BUSY
        for button in self._buttons:
            button.setEnabled(missing is None and not self.run.is_running)
        project = self.session.project
        if project is not self._project:
            self._project = project
            show_text(self.outcome, "")
            if project is not None:
                self.scope.set_frame_count(project.video.info.frame_count)
        show_text(self.hint, missing or f"Works on {selected_class_name(self.session)}; other classes do not change.")

    # Without arguments, for buttons and keys ----------------------------------------------------------------------------

    def fill_from_previous(self) -> None:
        """Copy the mask of the class from the previous frame; with every n-th frame, from n frames before."""
        distance = self.scope.step.value() if self.scope.choice.currentText() == EVERY_NTH else 1

        def fill(project: Project, class_id: int, frame_indices: range) -> Generator[Any, None, Any]:
            # the first frames of a video have no frame before them
            fillable = [index for index in frame_indices if index >= distance] or frame_indices
            return editing.fill_from_previous(project, class_id, fillable, distance=distance)

        self._start(self.fill_button, fill)

    def clear_class(self) -> None:
        """Make the class background."""
        self._start(self.clear_button, editing.clear_class)

    def keep_largest(self) -> None:
        """Keep the largest region of the class."""
        self._start(self.largest_button, editing.keep_largest_region)

    def fill_holes(self) -> None:
        """Fill the background that the class surrounds."""
        self._start(self.holes_button, editing.fill_class_holes)

    def smooth(self) -> None:
        """Smooth the outline by the radius in the field."""
        self._start(self.smooth_button, self._by_radius(editing.smooth_class))

    def grow(self) -> None:
        """Extend the class into the background by the radius in the field."""
        self._start(self.grow_button, self._by_radius(editing.grow_class))

    def shrink(self) -> None:
        """Remove the outermost pixels by the radius in the field."""
        self._start(self.shrink_button, self._by_radius(editing.shrink_class))

    def _build(self) -> None:
        self.scope = FrameScope((THIS_FRAME, RANGE, EVERY_NTH, WHOLE_VIDEO), lambda: self.layers.current_frame)
        self.radius = QSpinBox()
        self.radius.setRange(1, 50)
        self.radius.setValue(DEFAULT_RADIUS)
        self.radius.setSuffix(" px")
        self.fill_button, self.clear_button = QPushButton("Fill from previous frame"), QPushButton("Clear")
        self.largest_button, self.holes_button = QPushButton("Keep largest region"), QPushButton("Fill holes")
        self.smooth_button, self.grow_button = QPushButton("Smooth"), QPushButton("Grow")
        self.shrink_button = QPushButton("Shrink")
        self.hint, self.outcome = note(), note()
        self.strip = ActionStrip(self.run, self.layers)
        frames = self.add_grid()
        frames.addWidget(frames_caption(), 0, 0, Qt.AlignmentFlag.AlignTop)
        frames.addWidget(self.scope, 0, 1)
        self.column.addLayout(_in_grid([[self.fill_button, self.clear_button], [self.largest_button, self.holes_button]]))
        by_radius = self.add_grid()
        by_radius.addWidget(caption("Radius"), 0, 0)
        by_radius.addWidget(self.radius, 0, 1)
        self.column.addLayout(_in_grid([[self.smooth_button, self.grow_button, self.shrink_button]]))
        for widget in (self.hint, self.strip, self.outcome):
            self.column.addWidget(widget)
        show_text(self.outcome, "")

    def _connect(self) -> None:
        for button, act in (
            (self.fill_button, self.fill_from_previous),
            (self.clear_button, self.clear_class),
            (self.largest_button, self.keep_largest),
            (self.holes_button, self.fill_holes),
            (self.smooth_button, self.smooth),
            (self.grow_button, self.grow),
            (self.shrink_button, self.shrink),
        ):
            button.clicked.connect(act)
        self.strip.finished.connect(self._on_finished)
        self.run.started.connect(self.refresh)
        self.run.finished.connect(lambda _is_complete: self.refresh())

    @property
    def _buttons(self) -> tuple[QPushButton, ...]:
        return (
            self.fill_button,
            self.clear_button,
            self.largest_button,
            self.holes_button,
            self.smooth_button,
            self.grow_button,
            self.shrink_button,
        )

    def _by_radius(self, start: Callable[..., Generator[Any, None, Any]]) -> Start:
        radius = self.radius.value()
        return lambda project, class_id, frame_indices: start(project, class_id, frame_indices, radius)

    def _start(self, button: QPushButton, start: Start) -> None:
        project, class_id = self.session.project, self.session.selected_class_id
        if not button.isEnabled() or project is None or class_id is None:
            return
        self.layers.ensure_labels()
        frame_indices = self.scope.frame_indices(self.layers.current_frame, project.video.info.frame_count)
        show_text(self.outcome, "")
        self.strip.start(button.text(), lambda: start(project, class_id, frame_indices))

    def _on_finished(self, result: Any) -> None:
        show_text(self.outcome, outcome_text(result, self.strip.done))


def _in_grid(rows: list[list[QPushButton]]) -> QGridLayout:
    grid = QGridLayout()
    grid.setSpacing(SPACING)
    for row, buttons in enumerate(rows):
        for column, button in enumerate(buttons):
            grid.addWidget(button, row, column)
            grid.setColumnStretch(column, 1)
    return grid
