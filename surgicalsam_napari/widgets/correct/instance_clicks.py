"""Clicks on instances, one or two, also in different frames; the instance under the mouse is outlined."""

from __future__ import annotations

from enum import Enum

import numpy as np
from qtpy.QtCore import QObject, Signal

from surgicalsam_napari.editing import region_of
from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.session import Session
from surgicalsam_napari.widgets.correct.mouse_tool import MouseTool
from surgicalsam_napari.widgets.correct.preview_layer import PreviewLayer
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers

Place = tuple[int, int, int]  # frame index, row, column


class Task(Enum):
    """What the clicked instances are for."""

    SAME, SPLIT, SWAP, CLASS = "same", "split", "swap", "class"

    @property
    def clicks(self) -> int:
        """How many instances it needs."""
        return 2 if self in (Task.SAME, Task.SWAP) else 1


class InstanceClicks(QObject):
    """Gathers the instances that a task needs; after them, it waits for the next ones.

    Attributes
    ----------
    task : None while it is off
    places : the instances clicked so far
    """

    picked = Signal(object, object)  # Task, list of places: as many as the task needs
    clicked_nothing = Signal()  # a click beside every instrument
    changed = Signal()  # another task, or one more click

    def __init__(self, session: Session, layers: ViewerLayers, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.session, self.layers = session, layers
        self.mouse, self.preview = MouseTool(layers, self), PreviewLayer(layers, self)
        self.task: Task | None = None
        self.places: list[Place] = []
        self._hovered: tuple[int, np.ndarray] | None = None  # frame index, instance under the mouse
        self.mouse.clicked.connect(self._on_click)
        self.mouse.hovered.connect(self._on_hover)
        self.mouse.switched.connect(self._on_switched)
        layers.viewer.dims.events.current_step.connect(self._forget_hovered)

    def switch(self, task: Task | None) -> None:
        """Wait for clicks for this task; None to stop."""
        if task is None:
            self.mouse.switch(False)
            return
        self.layers.ensure_labels()
        self.mouse.switch(True)
        self.task = task if self.mouse.is_on else None
        self.places = []
        self.changed.emit()

    def _on_click(self, row: float, column: float, _is_positive: bool) -> None:
        project, task = self.session.project, self.task
        place = self.layers.current_frame, round(row), round(column)
        if project is None or task is None:
            return
        if not project.labels[place]:
            self.clicked_nothing.emit()
            return
        self.places = [*self.places, place]
        if len(self.places) == task.clicks:
            places, self.places = self.places, []
            self._forget_hovered()
            self.picked.emit(task, places)
        self.changed.emit()

    def _on_hover(self, row: float, column: float) -> None:
        project, frame = self.session.project, self.layers.current_frame
        if project is None or self.task is None:
            return
        height, width = project.labels.shape[1:]
        pixel = round(row), round(column)
        if not (0 <= pixel[0] < height and 0 <= pixel[1] < width):
            self._forget_hovered()
            return
        if self._hovered is not None and self._hovered[0] == frame and self._hovered[1][pixel]:
            return
        try:
            region = region_of(project, (frame, *pixel))
        except ProjectError:  # background, or a damaged table
            self._forget_hovered()
            return
        self._hovered = frame, region.mask
        self.preview.show(region.mask, region.mask, project.classes.by_id(region.class_id).color)

    def _forget_hovered(self, _event: object = None) -> None:
        if self._hovered is not None:
            self._hovered = None
            self.preview.clear()

    def _on_switched(self, is_on: bool) -> None:
        if not is_on:
            self.task, self.places, self._hovered = None, [], None
            self.preview.hide()
            self.changed.emit()
