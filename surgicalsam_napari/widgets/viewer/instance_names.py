"""The name of the instance under the mouse, "Large Needle Driver 2", in napari's status bar and tooltip."""

from __future__ import annotations

from typing import Any

from napari.layers import Labels
from qtpy.QtCore import QObject

from surgicalsam_napari.errors import SurgicalSAMError
from surgicalsam_napari.widgets.viewer.layers import ViewerLayers


class InstanceNames(QObject):
    """Lets the project's Labels layer name instances: napari itself knows one name for each value, which is a class."""

    def __init__(self, layers: ViewerLayers, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.layers = layers
        self._named: Labels | None = None
        layers.labels_swapped.connect(self._follow)
        self._follow()

    def name_at(self, frame_index: int, row: int, column: int) -> str:
        """ "Large Needle Driver 2"; "" for background, and for a region that is not linked. For any thread.

        Where the labels of the frame have another class than the track, both are named.
        """
        project = self.layers.session.project
        if project is None:
            return ""
        frame_count, height, width = project.labels.shape
        if not (0 <= frame_index < frame_count and 0 <= row < height and 0 <= column < width):
            return ""
        try:
            table = project.tracks.table
            track = table.at(frame_index, int(project.tracks.numbers(frame_index)[row, column]))
            if track is None:
                return ""
            title, class_id = table.title(track, project.classes), int(project.labels.frame(frame_index)[row, column])
            return title if class_id == track.class_id else f"{title}, here {project.classes.by_id(class_id).name}"
        except SurgicalSAMError:  # a damaged table: the class alone is named
            return ""

    def _follow(self) -> None:
        labels = self.layers.labels
        if labels is None or labels is self._named:
            return
        self._named = labels
        properties_of_class = labels._get_properties  # a public way to name a place in a layer does not exist

        def properties(position: Any, **how: Any) -> list[str]:
            point = labels.world_to_data(position) if how.get("world") else position
            name = self.name_at(*(round(float(each)) for each in point[-3:]))
            return [name] if name else properties_of_class(position, **how)

        labels._get_properties = properties
