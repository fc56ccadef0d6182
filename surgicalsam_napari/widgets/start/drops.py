"""Videos dropped on the window: one is opened, several go into the list of videos.

Napari would read each dropped file as a layer first, and ask for a reader. With Alt or Shift, or for other files, it does.
"""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import QEvent, QMimeData, QObject, Qt, Signal
from qtpy.QtWidgets import QWidget

from surgicalsam_napari.store.summary import find_videos, is_listable

NAPARIS_OWN = Qt.KeyboardModifier.AltModifier | Qt.KeyboardModifier.ShiftModifier  # choose a reader; stack the files
INTO_LIST = "surgicalsam_into_list"  # property of a widget on which also one video goes into the list


class VideoDrops(QObject):
    """Takes videos, projects and folders of them that are dropped on the watched widgets."""

    one_dropped = Signal(object)  # Path
    several_dropped = Signal(object, object)  # list of Path; list of Path: dropped with them, and no videos
    folder_dropped = Signal(object)  # Path: a folder that contains videos or projects

    def watch(self, widget: QWidget, *, into_list: bool = False) -> None:
        """Take the drops on this widget."""
        widget.setAcceptDrops(True)
        widget.setProperty(INTO_LIST, into_list)
        widget.installEventFilter(self)

    def watch_viewer(self, window: QWidget) -> None:
        """Take the drops on the viewer in this window."""
        for widget in window.findChildren(QWidget):
            if type(widget).__name__ == "QtViewer":
                self.watch(widget)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.DragEnter:
            if any(is_listable(path) or path.is_dir() for path in _local_paths(event.mimeData())):  # type: ignore[attr-defined]
                event.acceptProposedAction()  # type: ignore[attr-defined]
                return True
        elif event.type() == QEvent.Type.Drop and not event.modifiers() & NAPARIS_OWN:  # type: ignore[attr-defined]
            return self._take(event, into_list=bool(watched.property(INTO_LIST)))
        return False

    def _take(self, event: QEvent, *, into_list: bool) -> bool:
        paths = _local_paths(event.mimeData())  # type: ignore[attr-defined]
        videos = [path for path in paths if is_listable(path)]
        if len(videos) > 1 or (videos and into_list):
            self.several_dropped.emit(videos, [path for path in paths if path not in videos])
        elif len(paths) == len(videos) == 1:
            self.one_dropped.emit(videos[0])
        elif len(paths) == 1 and paths[0].is_dir() and next(find_videos(paths[0], 2), None) is not None:
            self.folder_dropped.emit(paths[0])
        else:
            return False
        event.acceptProposedAction()  # type: ignore[attr-defined]
        return True


def _local_paths(mime: QMimeData) -> list[Path]:
    return [Path(url.toLocalFile()) for url in mime.urls() if url.isLocalFile()]
