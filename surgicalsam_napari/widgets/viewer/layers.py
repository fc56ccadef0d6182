"""The viewer's layers for the open project: one Image layer, and one Labels layer whose data is a
`ViewerLabels` of its `LabelStore`.

napari 0.9 turns paint, fill, erase, undo and redo into `data[key] = region`, so a person's edits reach
`ViewerLabels.__setitem__` directly.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import napari
import numpy as np
import pandas as pd
from napari.layers import Image, Labels, Layer
from napari.utils.colormaps import DirectLabelColormap
from qtpy.QtCore import QObject, QTimer, Signal
from qtpy.QtWidgets import QApplication

from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project, ViewerLabels
from surgicalsam_napari.video import VideoReader
from surgicalsam_napari.widgets.viewer.one_frame_brush import OneFrameBrush
from surgicalsam_napari.widgets.viewer.session_signals import SessionSignals

AXIS_LABELS = ("t", "y", "x")
LABELS_NAME, PARTS_NAME, OUTLINES_NAME = "Instruments", "Parts", "Instruments (outlines)"
LINES_PER_OUTLINE = 400  # rows of a frame for each pixel of an outline
BRUSHES_PER_HEIGHT = 36  # a brush of 30 pixels in a frame of 1080 rows
SOURCE = "surgicalsam_source"  # layer metadata: the video or project folder that the plugin opened the layer from


def image_arguments(video: VideoReader, source: Path) -> dict[str, Any]:
    """Arguments of the napari Image layer that shows a video lazily."""
    return {
        "name": video.info.path.stem,
        "rgb": True,
        "axis_labels": AXIS_LABELS,
        "contrast_limits": (0, 255),
        "metadata": {SOURCE: str(source.resolve()), "frame_rate": video.info.frame_rate},
    }


def labels_arguments(classes: ClassSet, source: Path) -> dict[str, Any]:
    """Arguments of the napari Labels layer that shows labels with the colours and names of their classes."""
    return {
        "name": LABELS_NAME,
        "axis_labels": AXIS_LABELS,
        "opacity": 0.55,
        "colormap": class_colormap(classes),
        "features": class_features(classes),
        "metadata": {SOURCE: str(source.resolve())},
    }


def class_colormap(classes: ClassSet, hidden: Collection[int] = ()) -> DirectLabelColormap:
    """The colours of the classes; transparent for 0 and hidden classes, white for a value without a class."""
    colors: dict[int | None, Any] = {None: "white", 0: "transparent"}
    colors.update({c.id: "transparent" if c.id in hidden else c.color for c in classes})
    return DirectLabelColormap(color_dict=colors)


def class_features(classes: ClassSet) -> pd.DataFrame:
    """The table of class names for napari's status bar; the background has no name."""
    return pd.DataFrame({"index": [0, *classes.ids], "class": [None, *classes.names]})


class ViewerLayers(QObject):
    """Synchronises a viewer's layers with a session; only for the GUI thread."""

    opened_elsewhere = Signal(object)  # Path: a layer of the plugin came by drag and drop; open its project
    labels_shown = Signal()  # the project's Labels layer is in the viewer, perhaps a new one
    layer_removed = Signal(object)  # napari layer: the user removed the video or its labels
    labels_swapped = Signal()  # `labels` is another layer, or None
    hidden_changed = Signal()  # other classes are hidden
    classes_shown = Signal()  # the classes, their names or colours may be others

    def __init__(self, viewer: napari.viewer.Viewer, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.viewer, self.session = viewer, session
        self.image: Image | None = None
        self.labels: Labels | None = None
        self._outlines: Labels | None = None  # of the instruments, while their parts are shown
        self.hidden_classes: frozenset[int] = frozenset()  # ids of classes that the Labels layer does not draw
        self._draws_classes = True
        self._replacing = False
        self._shown_folder: Path | None = None
        self._brush = OneFrameBrush(viewer, self)
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)

    def subscribe(self, signals: SessionSignals) -> None:
        """Follow the open project, its classes and the selected class."""
        signals.project_changed.connect(self._on_project_changed)
        signals.contents_replaced.connect(lambda: self.show_classes(self.session.classes))
        signals.class_selected.connect(self._on_class_selected)

    @property
    def current_frame(self) -> int:
        """The frame in view."""
        layer = self.labels if self.labels is not None else self.image
        if layer is None:
            return 0
        frame = int(np.round(layer.world_to_data(self.viewer.dims.point)[0]))
        return min(max(frame, 0), int(layer.data.shape[0]) - 1)

    def show_frame(self, frame_index: int) -> None:
        """Move the viewer's slider to this frame."""
        axis = self.viewer.dims.ndim - len(AXIS_LABELS)
        self.viewer.dims.set_current_step(axis, frame_index)

    def show_project(self, project: Project) -> None:
        """Show this project instead of the previous one, in the same layers.

        Another project begins with the whole picture in view, at the frame that was visited last.
        """
        self._replacing = True
        try:
            self.image = self._layer_for(Image, self.image, project)
            self.labels = self._layer_for(Labels, self.labels, project)
        finally:
            self._replacing = False
        self._show_outlines(project)
        self.labels.events.selected_label.connect(self._on_selected_label)
        self.labels.events.paint.connect(self._show_painted_class)
        self.labels.brush_size = fitting_brush_size(project.video.info.size)
        self._brush.follow(self.labels)
        if self.labels.editable != project.writable:  # napari clears its undo history at every change of `editable`
            self.labels.editable = project.writable
        self.show_classes(project.classes)
        self.show_selected_class()
        self.viewer.layers.selection.active = self.labels
        set_playback_rate(project.video.info.frame_rate)
        self.labels_swapped.emit()
        if project.top.folder != self._shown_folder:
            self._shown_folder = project.top.folder
            self.show_frame(project.last_frame)
            self.viewer.reset_view()
            QTimer.singleShot(0, self._show_whole_picture)  # the timeline's rows may change the height of the canvas
        self.labels_shown.emit()

    def _show_outlines(self, project: Project) -> None:
        """Show the outlines of the instruments while their parts are shown; nobody can paint in them."""
        whole, shown = project.whole, self._outlines
        if whole is None:
            if shown is not None:
                self._outlines = None
                self.viewer.layers.remove(shown)
            return
        data = ViewerLabels(whole.labels)
        if shown is None:
            self._outlines = shown = Labels(
                data,
                name=OUTLINES_NAME,
                axis_labels=AXIS_LABELS,
                colormap=DirectLabelColormap(color_dict={None: "white", 0: "transparent"}),
                features=class_features(whole.classes),
                opacity=0.9,
            )
            shown.contour = max(1, round(project.labels.shape[1] / LINES_PER_OUTLINE))
            self.viewer.add_layer(shown)
        elif getattr(shown.data, "store", None) is not whole.labels:
            shown.data = data
        shown.features = class_features(whole.classes)
        shown.editable = False

    def _show_whole_picture(self) -> None:
        if self.image is not None:
            self.viewer.reset_view()

    def ensure_labels(self) -> None:
        """Add the Labels layer again if the user deleted it (its data is in the project)."""
        if self.session.project is not None and self.labels is None:
            self.show_project(self.session.project)

    def show_classes(self, classes: ClassSet) -> None:
        """Update the colours and names of the Labels layer."""
        if self.labels is not None:
            # a new colormap makes napari select label 1; ignore that
            with self.labels.events.selected_label.blocker(self._on_selected_label):
                self.labels.colormap = class_colormap(classes, self.hidden_classes if self._draws_classes else classes.ids)
            self.labels.features = class_features(classes)
            self.show_selected_class()
        self.classes_shown.emit()

    def show_selected_class(self) -> None:
        """Let the brush paint the selected class."""
        if self.labels is not None and self.session.selected_class_id is not None:
            self.labels.selected_label = self.session.selected_class_id

    def hide_classes(self, class_ids: Collection[int]) -> None:
        """Draw all classes but these; labels do not change."""
        if frozenset(class_ids) != self.hidden_classes:
            self.hidden_classes = frozenset(class_ids)
            self.show_classes(self.session.classes)
            self.hidden_changed.emit()

    def draw_classes(self, is_wanted: bool) -> None:
        """Draw the classes in the Labels layer, or leave this to another layer; labels do not change."""
        if is_wanted != self._draws_classes:
            self._draws_classes = is_wanted
            self.show_classes(self.session.classes)

    def refresh_frame(self, frame_index: int) -> None:
        """Redraw the labels if this frame is in view."""
        for layer in (self.labels, self._outlines):
            if layer is not None and frame_index == self.current_frame:
                layer.refresh(thumbnail=False, extent=False)

    def find_unadopted(self) -> Path | None:
        """The source of the last plugin layer that the session has not opened; None if there is none."""
        for layer in reversed(list(self.viewer.layers)):
            if isinstance(layer, Image) and layer is not self.image and SOURCE in layer.metadata:
                return Path(layer.metadata[SOURCE])
        return None

    def remove_unopened(self, sources: list[Path]) -> None:
        """Remove the layers that napari's reader has made for these sources and that no project shows."""
        unwanted = {str(source) for source in sources}
        for layer in list(self.viewer.layers):
            if layer not in (self.image, self.labels) and layer.metadata.get(SOURCE) in unwanted:
                self.viewer.layers.remove(layer)

    def forget(self) -> None:
        """Remove the project's layers from the viewer."""
        self._replacing = True
        try:
            for layer in (self.image, self.labels, self._outlines):
                if layer is not None and layer in self.viewer.layers:
                    self.viewer.layers.remove(layer)
        finally:
            self._replacing = False
        self.image = self.labels = self._outlines = self._shown_folder = None
        self.labels_swapped.emit()

    def _on_class_selected(self, class_id: int) -> None:
        self.hide_classes(self.hidden_classes - {class_id})  # the brush must not paint what nobody can see
        self.show_selected_class()

    def _show_painted_class(self, _event: Any = None) -> None:
        if self.labels is not None:
            self.hide_classes(self.hidden_classes - {int(self.labels.selected_label)})

    def _on_project_changed(self) -> None:
        self.hidden_classes = frozenset()
        self.hidden_changed.emit()
        if self.session.project is not None:  # `forget` removes the layers before a project is closed
            self.show_project(self.session.project)

    def _layer_for(self, kind: type[Image] | type[Labels], shown: Any, project: Project) -> Any:
        """The layer that shows this project from now on: the one in view, else one that a reader made, else a new one.

        A layer in view gets other data. Removing it could crash napari in software OpenGL: its buffers may still be drawn.
        """
        made = [
            layer
            for layer in self.viewer.layers
            if isinstance(layer, kind) and layer.metadata.get(SOURCE) in _sources(project)
        ]
        kept = shown if shown is not None and shown in self.viewer.layers else next(iter(made), None)
        for layer in made:
            if layer is not kept:
                self.viewer.layers.remove(layer)
        data: Any = project.video if kind is Image else ViewerLabels(project.labels)
        folder = project.folder
        arguments = image_arguments(project.video, folder) if kind is Image else labels_arguments(project.classes, folder)
        if kind is Labels and project.whole is not None:
            arguments["name"] = PARTS_NAME
        if kept is None:
            kept = kind(data, **arguments)
            self.viewer.add_layer(kept)
        elif not _shows(kept, project):
            _show_other_data(kept, data, arguments)
        return kept

    def _on_inserted(self, event: Any) -> None:
        if not self._replacing and isinstance(event.value, Image) and SOURCE in event.value.metadata:
            self.opened_elsewhere.emit(Path(event.value.metadata[SOURCE]))

    def _on_removed(self, event: Any) -> None:
        layer: Layer = event.value
        if layer is self._outlines:
            self._outlines = None
        if self._replacing or layer not in (self.image, self.labels):
            return
        if layer is self.image:
            self.image = None
        else:
            self.labels = None
            self.labels_swapped.emit()
        self.layer_removed.emit(layer)

    def _on_selected_label(self) -> None:
        if self.labels is None:
            return
        label = int(self.labels.selected_label)
        if label in self.session.classes.ids and label != self.session.selected_class_id:
            self.session.select_class(label)


def fitting_brush_size(frame_size: tuple[int, int]) -> int:
    """The brush's diameter in pixels, in proportion to the frame's (height, width): 30 for 1080 rows."""
    return max(round(frame_size[0] / BRUSHES_PER_HEIGHT), 3)


def _show_other_data(layer: Layer, data: Any, arguments: dict[str, Any]) -> None:
    """Let a layer show other data, as if it was new to napari: without a tool in use, and with nothing to undo."""
    layer.mode = "pan_zoom"
    if isinstance(layer, Labels):
        layer.editable = False  # napari forgets its strokes at every change of `editable`
    layer.data = data
    layer.name = arguments["name"]
    layer.metadata = arguments["metadata"]
    layer.editable = True


def _shows(layer: Layer, project: Project) -> bool:
    """Whether the layer's data is this project's, opened this time."""
    return layer.data is project.video or getattr(layer.data, "store", None) is project.labels


def _sources(project: Project) -> tuple[str, ...]:
    return str(project.folder.resolve()), str(project.video.info.path.resolve())


def set_playback_rate(frame_rate: float | None) -> None:
    """Let napari's play button show the video at its own frame rate.

    napari's setting for this is saved and holds for all data, so the sliders of the open windows are set instead.
    """
    if not frame_rate:
        return
    for widget in QApplication.allWidgets():
        if type(widget).__name__ == "QtDimSliderWidget":
            widget.fps = max(round(frame_rate), 1)
