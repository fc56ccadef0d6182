"""Colours by instance: a second layer, which nobody can paint in, over the Labels layer of the project."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap
from qtpy.QtCore import QObject, Signal

from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.store import Project, TrackTable
from surgicalsam_napari.store.labels.label_array import LabelArray
from surgicalsam_napari.widgets.viewer.instance_colors import MOST_SHADES, shade_of_tracks, shades
from surgicalsam_napari.widgets.viewer.label_changes import LabelChanges
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers

NAME = "Instances"
LARGEST_VALUE = 254
POLYGON = "polygon"  # the mode of a Labels layer whose unfinished outline has the colour of the class


class InstanceColors(LabelArray):
    """A value for each pixel: its class, and the shade of its track; 0 for background. It is read like labels.

    Parameters
    ----------
    labels : as the viewer shows them, with strokes that are not saved yet
    """

    def __init__(self, project: Project, labels: LabelArray) -> None:
        super().__init__(labels.shape)
        self.project, self._labels = project, labels
        self._table: TrackTable | None = None
        self._shades: dict[int, int] = {}

    def frame(self, frame_index: int) -> np.ndarray:
        """(H, W) uint8: `value_of` of the class, plus the shade of the track; the first shade where it has none."""
        classes = self.project.classes
        first_value = np.zeros(256, np.uint8)
        for place, class_id in enumerate(classes.ids):
            first_value[class_id] = value_of(classes, place)
        values = first_value[self._labels.frame(frame_index)]
        values += np.where(values > 0, self._shade_of_numbers(frame_index)[self._numbers(frame_index)], np.uint8(0))
        return values

    def __setitem__(self, key: Any, values: Any) -> None:
        raise ProjectError(f"The layer {NAME} only shows colours. Paint in the layer of the labels.")

    def _numbers(self, frame_index: int) -> np.ndarray:
        try:
            return self.project.tracks.numbers(frame_index)
        except ProjectError:  # damaged: shown as not linked
            return np.zeros(self.shape[1:], np.uint8)

    def _shade_of_numbers(self, frame_index: int) -> np.ndarray:
        try:
            table = self.project.tracks.table
        except ProjectError:
            table = TrackTable()
        if table is not self._table:
            self._table, self._shades = table, shade_of_tracks(table, shade_count(self.project.classes))
        shade = np.zeros(256, np.uint8)
        for number, track in table.in_frame(frame_index).items():
            shade[number] = self._shades[track.id]
        return shade


def shade_count(classes: ClassSet) -> int:
    """How many shades a class has: fewer with very many classes, because a pixel of the layer is one byte."""
    return max(min(MOST_SHADES, LARGEST_VALUE // max(len(classes), 1)), 1)


def value_of(classes: ClassSet, place: int) -> int:
    """The value of the first shade of the class at this place of the class set."""
    return 1 + place * shade_count(classes)


def instance_colormap(classes: ClassSet, hidden: frozenset[int]) -> DirectLabelColormap:
    """The colours of all values; transparent for hidden classes."""
    colors: dict[int | None, Any] = {None: "transparent", 0: "transparent"}
    for place, instrument in enumerate(classes):
        for shade, color in enumerate(shades(instrument.color, shade_count(classes))):
            colors[value_of(classes, place) + shade] = "transparent" if instrument.id in hidden else color
    return DirectLabelColormap(color_dict=colors)


class InstanceLayer(QObject):
    """While it is on, the canvas shows instances of one class in different colours.

    The Labels layer stays as it is, only its classes are not drawn; so painting, undo and verifying stay as they are. While
    an outline is drawn (polygon), the colours of the classes are shown.
    """

    switched = Signal(bool)

    def __init__(self, layers: ViewerLayers, changes: LabelChanges, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.layers = layers
        self._is_on = False
        self._layer: Labels | None = None
        self._followed: Labels | None = None
        layers.labels_shown.connect(self._show)
        layers.labels_swapped.connect(self._follow)
        layers.classes_shown.connect(self._recolor)
        layers.viewer.layers.events.removed.connect(self._on_removed)
        changes.frames_changed.connect(self._refresh)
        changes.numbers_changed.connect(self._refresh)
        changes.tracks_changed.connect(self._refresh)

    @property
    def is_on(self) -> bool:
        return self._is_on

    def switch(self, is_on: bool) -> None:
        """Show the instances in different colours, or the classes as usual."""
        if is_on != self._is_on:
            self._is_on = is_on
            self._show()
            self.switched.emit(is_on)

    def _show(self) -> None:
        """Add or remove the layer, or give it the data of another project."""
        self._follow()
        project, labels = self.layers.session.project, self.layers.labels
        if not self._is_on or project is None or labels is None:
            self._remove()
            self._mirror()
            return
        if self._layer is None:
            self._layer = self._add(project, labels)
        elif self._layer.data.project is not project:
            self._layer.data = InstanceColors(project, labels.data)
            self._recolor()
        self._mirror()

    def _add(self, project: Project, labels: Labels) -> Labels:
        viewer = self.layers.viewer
        chosen, active = set(viewer.layers.selection), viewer.layers.selection.active
        layer = Labels(
            InstanceColors(project, labels.data),
            name=NAME,
            colormap=instance_colormap(project.classes, self.layers.hidden_classes),
            axis_labels=labels.axis_labels,
            scale=labels.scale,
            translate=labels.translate,
        )
        layer.editable = False
        viewer.layers.insert(list(viewer.layers).index(labels) + 1, layer)
        viewer.layers.selection = chosen
        viewer.layers.selection.active = active
        return layer

    def _follow(self) -> None:
        """Follow the look of the Labels layer."""
        if self._followed is not self.layers.labels:
            self._followed = self.layers.labels
            if self._followed is not None:
                for event in (self._followed.events.opacity, self._followed.events.visible, self._followed.events.mode):
                    event.connect(self._mirror)
        if self.layers.labels is None:
            self._remove()

    def _mirror(self, _event: Any = None) -> None:
        """Be as visible as the Labels layer is, and draw instead of it."""
        labels, layer = self.layers.labels, self._layer
        draws = layer is not None and labels is not None and str(labels.mode) != POLYGON
        self.layers.draw_classes(not draws)
        if layer is not None and labels is not None:
            layer.opacity, layer.visible = labels.opacity, labels.visible and draws

    def _recolor(self) -> None:
        if self._layer is not None:
            self._layer.colormap = instance_colormap(self._layer.data.project.classes, self.layers.hidden_classes)

    def _refresh(self, _frames: object = None) -> None:
        if self._layer is not None:
            self._layer.refresh(thumbnail=False, extent=False)

    def _remove(self) -> None:
        layer, self._layer = self._layer, None
        if layer is not None and layer in self.layers.viewer.layers:
            self.layers.viewer.layers.remove(layer)

    def _on_removed(self, event: Any) -> None:
        if event.value is self._layer:  # by the user
            self._layer = None
            self.switch(False)
