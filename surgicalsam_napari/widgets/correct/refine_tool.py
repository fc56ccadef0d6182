"""Turns clicks and a box in the canvas into a mask preview of the selected class in the frame in view."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QObject, Signal

from surgicalsam_napari.errors import SurgicalSAMError
from surgicalsam_napari.inference.embed import embedded_batches, failures_reported
from surgicalsam_napari.instruments import same_classes
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project, Provenance
from surgicalsam_napari.widgets.correct.mouse_tool import MouseTool
from surgicalsam_napari.widgets.correct.preview_layer import PreviewLayer, Rectangle
from surgicalsam_napari.widgets.parts.message import show_failure
from surgicalsam_napari.widgets.runs.background import run_in_background
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers
from surgicalsam_napari.widgets.viewer.session_signals import SessionSignals

if TYPE_CHECKING:
    from surgicalsam_napari.inference.refine import Refinement
    from surgicalsam_napari.model.surgical_sam import SurgicalSAM

Target = tuple[int, int]  # frame index, class id
Prompt = Callable[["Refinement"], None]


@dataclass(frozen=True)
class HeldPreview:
    """A refinement that is neither accepted nor discarded, and its initial (H, W) bool mask."""

    refinement: Refinement
    before: np.ndarray


@dataclass(frozen=True)
class Embedded:
    """A frame's embedding, (D, h, w), computed for a click."""

    project: Project
    model: SurgicalSAM
    target: Target
    embedding: np.ndarray


class RefineTool(QObject):
    """Click to refine; only `accept` writes to the labels.

    A preview belongs to one frame and one class. It is hidden while another frame or class is selected or the tool is off,
    and shown again afterwards. If the class changes in another way, the preview is discarded, with a message.
    """

    changed = Signal()  # the preview, or whether the tool is on
    noted = Signal(str)  # a message for the user
    accepted = Signal(int)  # frame index
    _labels_changed = Signal(int)

    def __init__(self, session: Session, layers: ViewerLayers, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.session, self.layers = session, layers
        self.mouse = MouseTool(layers, self, draws_boxes=True)
        self.preview = PreviewLayer(layers, self)
        self._held: dict[Target, HeldPreview] = {}
        self._waiting: dict[Target, list[Prompt]] = {}  # prompts for a frame whose embedding is being computed
        self._project: Project | None = None
        self._model: SurgicalSAM | None = None
        signals = SessionSignals(session, self)
        signals.project_changed.connect(self._on_project_or_model)
        signals.model_changed.connect(self._on_project_or_model)
        signals.class_selected.connect(self._on_view)
        layers.viewer.dims.events.current_step.connect(self._on_view)
        self.mouse.clicked.connect(self._on_click)
        self.mouse.box_dragged.connect(self._on_box)
        self.mouse.switched.connect(self._on_switched)
        self.preview.removed.connect(self.discard)
        self._labels_changed.connect(self._on_labels_changed)
        self._on_project_or_model()

    @property
    def is_on(self) -> bool:
        return self.mouse.is_on

    @property
    def target(self) -> Target | None:
        """The frame in view and the selected class."""
        if self.session.project is None or self.session.selected_class_id is None:
            return None
        return self.layers.current_frame, self.session.selected_class_id

    @property
    def refinement(self) -> Refinement | None:
        """The refinement that can be accepted now."""
        held = self._held.get(self.target) if self.target is not None else None
        return None if held is None else held.refinement

    @property
    def is_waiting(self) -> bool:
        """Whether the embedding of the frame in view is being computed for a click."""
        return self.target in self._waiting

    @property
    def held_elsewhere(self) -> list[Target]:
        """Targets of previews in other frames or for other classes."""
        return sorted(target for target in self._held if target != self.target)

    def switch(self, is_on: bool) -> None:
        """Give the mouse to this tool or back to napari; switching off hides previews and keeps them."""
        if is_on:
            self.layers.ensure_labels()
        self.mouse.switch(is_on)

    def accept(self) -> None:
        """Write the preview to the project's labels, as one action of its history."""
        target, project = self.target, self._project
        held = self._held.pop(target, None) if target is not None else None
        if held is None or target is None or project is None:
            return
        try:
            changed = write_refinement(project, *target, held)
        except SurgicalSAMError as error:
            self._held[target] = held
            show_failure(error, self)
            return
        self._show()
        self.layers.refresh_frame(target[0])
        name = project.classes.by_id(target[1]).name
        self.noted.emit(f"{name} refined in frame {target[0]}: {changed:,} pixels changed. Ctrl+Z undoes it.")
        self.accepted.emit(target[0])

    def discard(self) -> None:
        """Discard the preview of the frame in view."""
        if self.target is not None:
            self._waiting.pop(self.target, None)
            if self._held.pop(self.target, None) is not None:
                self.noted.emit("Discarded; the labels are unchanged.")
        self._show()

    def undo_last(self) -> None:
        """Undo the last click or the box; after the last one, no preview is left."""
        refinement = self.refinement
        if refinement is None or self.target is None:
            return
        self._answer(refinement.remove_last)
        if not refinement.clicks and refinement.box is None:
            self._held.pop(self.target, None)
        self._show()

    # Prompts ------------------------------------------------------------------------------------------------------------

    def _on_click(self, row: float, column: float, is_positive: bool) -> None:
        from surgicalsam_napari.inference.refine import Click  # imported here because torch takes seconds to import

        self._prompt(lambda refinement: refinement.add_click(Click(row, column, is_positive)))

    def _on_box(self, row: float, column: float, other_row: float, other_column: float, is_done: bool) -> None:
        from surgicalsam_napari.inference.refine import Box

        if self._project is None or self._problem() is not None:
            return
        corners = (row, column, other_row, other_column)
        if not is_done:
            self.preview.show_box(self._project.labels.shape[1:], self._color(), corners)
            return
        top, left, bottom, right = pixels_of_box(corners, self._project.labels.shape[1:])
        self._prompt(lambda refinement: refinement.set_box(Box(top, left, bottom, right)))

    def _prompt(self, prompt: Prompt) -> None:
        """Send a click or a box to the model; embed the frame first if needed."""
        target, problem = self.target, self._problem()
        if target is None or self._project is None or self._model is None:
            return
        if problem is not None:
            self.noted.emit(problem)
        elif target in self._waiting:
            self._waiting[target].append(prompt)
        elif target in self._held:
            self._answer(lambda: prompt(self._held[target].refinement))
            self._show()
        elif self._is_embedded(target[0]):
            self._begin(target, self._embedding(target[0]), [prompt])
        else:
            self._waiting[target] = [prompt]
            self._embed(target)
            self._show()

    def _begin(self, target: Target, embedding: np.ndarray | None, prompts: list[Prompt]) -> None:
        from surgicalsam_napari.inference.refine import Refinement

        if embedding is None or self._model is None or self._project is None:
            return

        def begin() -> None:
            assert self._model is not None and self._project is not None
            before = self._project.labels[target[0]] == target[1]
            within = self._project.content_area.mask
            class_id = same_classes(self._project.classes, self._model.classes).get(target[1])
            held = HeldPreview(Refinement(self._model, embedding, before, within, class_id), before)
            for prompt in prompts:
                prompt(held.refinement)
            self._held[target] = held

        self._answer(begin)
        self._show()

    def _answer(self, work: Callable[[], None]) -> None:
        try:
            with failures_reported():
                work()
        except SurgicalSAMError as error:
            show_failure(error, self)

    def _is_embedded(self, frame_index: int) -> bool:
        assert self._project is not None and self._model is not None
        store = self._project.embeddings(self._model.encoder_digest, self._model.embedding_shape)
        return not store.missing([frame_index])

    def _embedding(self, frame_index: int) -> np.ndarray | None:
        assert self._project is not None and self._model is not None
        try:
            return self._project.embeddings(self._model.encoder_digest, self._model.embedding_shape).read([frame_index])[0]
        except SurgicalSAMError as error:
            show_failure(error, self)
            return None

    def _embed(self, target: Target) -> None:
        project, model = self._project, self._model
        assert project is not None and model is not None

        def embed() -> Embedded:
            with closing(embedded_batches(project, model, [target[0]])) as batches:
                _, embeddings = next(batches)
            return Embedded(project, model, target, embeddings[0])

        # methods, not local functions: Qt disconnects them if the window closes during the computation
        run_in_background(embed, self._on_embedded, self._on_embedding_failed)

    def _on_embedded(self, embedded: Embedded) -> None:
        if embedded.project is self._project and embedded.model is self._model:
            prompts = self._waiting.pop(embedded.target, [])
            if prompts:
                self._begin(embedded.target, embedded.embedding, prompts)
            self._show()

    def _on_embedding_failed(self, error: Exception) -> None:
        self._waiting.clear()
        show_failure(error, self)
        self._show()

    def _problem(self) -> str | None:
        """Why a click cannot refine the class in this frame."""
        if self._project is None or self.target is None or not self._project.writable:
            return "Cannot refine here: open a video for editing and choose a class."
        frame_index, class_id = self.target
        if self._project.labels.provenance(frame_index, class_id) == Provenance.VERIFIED:
            name = self._project.classes.by_id(class_id).name
            return f"{name} is verified in frame {frame_index}. Unlock it to refine it."
        return None

    # What is shown ------------------------------------------------------------------------------------------------------

    def _show(self) -> None:
        """Draw the preview of the frame in view and the selected class, if it exists and the tool is on."""
        held = self._held.get(self.target) if self.target is not None else None
        if held is None or self._project is None or self.target is None or not self.is_on:
            self.preview.hide()
        else:
            refinement = held.refinement
            mask = refinement.mask
            locked = self._project.labels.locked_class_ids(self.target[0])
            if locked:  # `accept` does not change these pixels
                mask &= ~np.isin(self._project.labels[self.target[0]], locked)
            clicks = [(click.row, click.column, click.is_positive) for click in refinement.clicks]
            box = refinement.box
            corners = None if box is None else (box.top, box.left, box.bottom - 1, box.right - 1)
            self.preview.show(mask, held.before, self._color(), clicks, corners)
        self.changed.emit()

    def _color(self) -> str:
        assert self.session.selected_class_id is not None
        return self.session.classes.by_id(self.session.selected_class_id).color

    def _on_view(self, _event: object = None) -> None:
        if self.is_on or self._held:
            self._show()

    def _on_switched(self, is_on: bool) -> None:
        if not is_on and self.refinement is not None:
            self.noted.emit("The preview is kept, but hidden until you start refining again.")
        self._show()

    # Changes from outside -----------------------------------------------------------------------------------------------

    def _on_project_or_model(self) -> None:
        """Drop all previews if the project or the model changed."""
        project, model = self.session.project, self.session.model
        if project is not self._project:
            if self._project is not None:
                self._project.labels.changed.disconnect(self._relay_labels)
            if project is not None:
                project.labels.changed.connect(self._relay_labels)
        if project is not self._project or model is not self._model:
            self._held, self._waiting = {}, {}
            self._project, self._model = project, model
            self.mouse.switch(False)
        self._show()

    def _relay_labels(self, frame_index: int) -> None:
        with suppress(RuntimeError):  # the window, and this object with it, was closed
            self._labels_changed.emit(frame_index)  # from the thread that wrote

    def _on_labels_changed(self, frame_index: int) -> None:
        """Drop previews of this frame whose initial mask has changed."""
        stale = [target for target in self._held if target[0] == frame_index and self._is_stale(target)]
        for target in stale:
            del self._held[target]
            name = self.session.classes.by_id(target[1]).name
            self.noted.emit(f"{name} changed in frame {frame_index}; its preview is discarded.")
        if stale:
            self._show()

    def _is_stale(self, target: Target) -> bool:
        if self._project is None:
            return True
        current = self._project.labels[target[0]] == target[1]
        return not np.array_equal(current, self._held[target].before)


def write_refinement(project: Project, frame_index: int, class_id: int, held: HeldPreview) -> int:
    """Give a class the mask of its preview; returns the number of changed pixels.

    The preview may take pixels from any class. All pixels of the old and the new mask count as decided by a person.

    Raises
    ------
    ProjectError, DiskSpaceError
        the write failed; the frame is unchanged
    """
    mask = held.refinement.mask
    name = f"Refine {project.classes.by_id(class_id).name} in frame {frame_index}"
    with project.history.action(name) as action, project.labels.lock:  # no other write between reading and writing
        label_map = project.labels[frame_index]
        decided = mask | (label_map == class_id)
        label_map[(label_map == class_id) & ~mask] = 0
        label_map[mask] = class_id
        return project.labels.write_edit(frame_index, label_map, decided=decided, action=action)


def pixels_of_box(corners: Rectangle, shape: tuple[int, int]) -> tuple[float, float, float, float]:
    """Top, left, bottom and right of a dragged box, cut to a frame of (H, W); bottom and right are exclusive."""
    height, width = shape
    top, bottom = sorted(float(np.clip(round(row), 0, height - 1)) for row in (corners[0], corners[2]))
    left, right = sorted(float(np.clip(round(column), 0, width - 1)) for column in (corners[1], corners[3]))
    return top, left, bottom + 1, right + 1
