"""The similarity map of the frame in view and the selected class, as an image layer over the video."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Image
from qtpy.QtCore import QObject, QTimer, Signal

from surgicalsam_napari.inference.similarity import contrast_limits, similarity_map
from surgicalsam_napari.session import Session
from surgicalsam_napari.widgets.parts.message import show_failure
from surgicalsam_napari.widgets.runs.background import run_in_background
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers

NAME = "Similarity"
OPACITY = 0.6
FOLLOW_MS = 120  # after the last move of the slider


class SimilarityLayer(QObject):
    """While it is on, the map follows the frame in view; it is computed in the background.

    A map is shown only on its own frame, so an old map never covers another frame.
    """

    switched = Signal(bool)
    changed = Signal()  # another map is shown, or one is being computed

    def __init__(self, session: Session, layers: ViewerLayers, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.session, self.layers = session, layers
        self.is_on = self.is_computing = False
        self._layer: Image | None = None
        self._shown: tuple[object, ...] | None = None  # project, model, class and frame of the map shown
        self._timer = QTimer(self, singleShot=True, interval=FOLLOW_MS)
        self._timer.timeout.connect(self._compute)
        layers.viewer.layers.events.removed.connect(self._on_removed)
        layers.viewer.dims.events.current_step.connect(self.follow)

    @property
    def what_is_missing(self) -> str | None:
        """Why no map can be shown now, as text for the user."""
        if self.session.project is None:
            return "Open a video first."
        if self.session.model is None:
            return "Choose a model first (Model)."
        class_id = self.session.selected_class_id
        if class_id is None or not self.session.is_trained(class_id):
            return f'The model "{self.session.model.name}" is not trained on this class.'
        return None

    def switch(self, is_on: bool) -> None:
        """Show the map for each frame in view, or remove it."""
        if is_on and self.what_is_missing is not None:
            is_on = False
        if is_on == self.is_on:
            return
        self.is_on = is_on
        if is_on:
            self._compute()
        else:
            self._remove()
        self.switched.emit(is_on)

    def follow(self, _event: Any = None) -> None:
        """Update after a possible change of frame, class, model or project."""
        if self.is_on:
            self._timer.start()

    def _wanted(self) -> tuple[object, ...]:
        return (self.session.project, self.session.model, self.session.selected_class_id, self.layers.current_frame)

    def _compute(self) -> None:
        """Compute the map in the background; a request during the computation comes next."""
        if not self.is_on or self.is_computing:
            return
        if self.what_is_missing is not None:
            self._remove()
            return
        wanted = self._wanted()
        if wanted == self._shown and self._layer is not None:
            return
        project, model, class_id, frame_index = self.session.project, self.session.model, *wanted[2:]
        self.is_computing = True
        self.changed.emit()
        run_in_background(
            lambda: similarity_map(project, model, class_id, frame_index),  # type: ignore[arg-type]
            lambda similarity: self._on_computed(wanted, similarity),
            self._on_failed,
        )

    def _on_computed(self, wanted: tuple[object, ...], similarity: np.ndarray) -> None:
        self.is_computing = False
        if self.is_on and wanted == self._wanted():
            self._show(similarity)
            self._shown = wanted
        elif self.is_on:
            self._compute()
        self.changed.emit()

    def _on_failed(self, error: Exception) -> None:
        self.is_computing = False
        self.switch(False)
        self.changed.emit()
        show_failure(error, self)

    def _show(self, similarity: np.ndarray) -> None:
        """Show the map as a layer of one frame, at its place in the video; the selected layer stays selected."""
        labels, viewer = self.layers.labels, self.layers.viewer
        if labels is None or self.session.selected_class_id is None:
            return
        name = f"{NAME}: {self.session.classes.by_id(self.session.selected_class_id).name}"
        place = labels.data_to_world((self.layers.current_frame, 0, 0))
        limits = contrast_limits(similarity)
        if self._layer is None:
            layer = Image(
                similarity[None],
                name=name,
                colormap="inferno",
                opacity=OPACITY,
                contrast_limits=limits,
                scale=labels.scale,
                translate=place,
                axis_labels=labels.axis_labels,
            )
            chosen = set(viewer.layers.selection)
            active = viewer.layers.selection.active
            viewer.layers.insert(list(viewer.layers).index(labels), layer)
            viewer.layers.selection = chosen
            viewer.layers.selection.active = active
            self._layer = layer
            return
        self._layer.name = name
        self._layer.data = similarity[None]
        self._layer.translate = place
        self._layer.contrast_limits = limits

    def _remove(self) -> None:
        layer, self._layer, self._shown = self._layer, None, None
        if layer is not None and layer in self.layers.viewer.layers:
            self.layers.viewer.layers.remove(layer)

    def _on_removed(self, event: Any) -> None:
        if event.value is self._layer:  # by the user
            self._layer = self._shown = None
            self.switch(False)
