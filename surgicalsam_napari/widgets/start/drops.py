"""Several videos dropped at once go into the list of videos. One video dropped on the viewer is left to napari."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import QEvent, QMimeData, QObject, Signal
from qtpy.QtWidgets import QWidget

from surgicalsam_napari.store.summary import find_videos, is_listable


class VideoDrops(QObject):
    """Takes the drops on the watched widgets that napari does not handle."""

    one_dropped = Signal(object)  # Path
    several_dropped = Signal(object, object)  # list of Path; list of Path: dropped with them, and no videos
    folder_dropped = Signal(object)  # Path: a folder that contains videos or projects

    def watch(self, widget: QWidget) -> None:
        """Take all videos that are dropped on this widget."""
        widget.setAcceptDrops(True)
        widget.installEventFilter(self)

    def watch_viewer(self, window: QWidget) -> None:
        """Take several videos that are dropped on the viewer in this window, and folders of them."""
        for widget in window.findChildren(QWidget):
            if _is_viewer(widget):
                widget.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.DragEnter and not _is_viewer(watched):
            if any(is_listable(path) or path.is_dir() for path in _local_paths(event.mimeData())):  # type: ignore[attr-defined]
                event.acceptProposedAction()  # type: ignore[attr-defined]
                return True
        elif event.type() == QEvent.Type.Drop:
            return self._take(event, takes_one=not _is_viewer(watched))
        return False

    def _take(self, event: QEvent, *, takes_one: bool) -> bool:
        paths = _local_paths(event.mimeData())  # type: ignore[attr-defined]
        videos = [path for path in paths if is_listable(path)]
        if len(videos) > 1:
            self.several_dropped.emit(videos, [path for path in paths if path not in videos])
        elif len(videos) == 1 and takes_one:
            self.one_dropped.emit(videos[0])
        elif len(paths) == 1 and paths[0].is_dir() and next(find_videos(paths[0]), None) is not None:
            self.folder_dropped.emit(paths[0])
        else:
            return False
        event.acceptProposedAction()  # type: ignore[attr-defined]
        return True


def _is_viewer(widget: QObject) -> bool:
    """Whether napari itself handles what is dropped on this widget."""
    return type(widget).__name__ == "QtViewer"


def _local_paths(mime: QMimeData) -> list[Path]:
    return [Path(url.toLocalFile()) for url in mime.urls() if url.isLocalFile()]
