"""napari's reader for surgical videos, folders of numbered images, projects, and datasets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from surgicalsam_napari.errors import SurgicalSAMError
from surgicalsam_napari.widgets.contributions.dataset_reader import dataset_layers, looks_like_dataset
from surgicalsam_napari.widgets.contributions.reporting import shown_in_panel

LayerData = tuple[Any, dict[str, Any], str]


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[LayerData]] | None:
    """A function that reads this path as layer data, or None if the path is for other readers.

    Nothing is decoded yet: a broken video is accepted here, and the returned function raises its error.
    """
    if isinstance(path, list):
        if len(path) != 1:
            return None
        path = path[0]
    if is_project(path):
        return read_project
    if is_video_or_frames(Path(path)):
        return read_video
    return read_dataset if looks_like_dataset(Path(path)) else None


def is_project(path: str | Path) -> bool:
    """Whether this is a project folder, by its name and its manifest."""
    return Path(path).suffix == ".surgicalsam" and Path(path).is_dir()


def is_video_or_frames(path: Path) -> bool:
    """Whether this is a video file, or a folder of at least two images that are all numbered.

    Stricter than `is_video`, because users drop any folder of images on napari, and most are not a video.
    """
    from surgicalsam_napari.video import is_video
    from surgicalsam_napari.video.image_folder import is_numbered_frames

    return is_video(path) and (not path.is_dir() or is_numbered_frames(path))


def read_video(path: str | list[str]) -> list[LayerData]:
    """One Image layer whose frames are decoded when they come into view."""
    from surgicalsam_napari.video import VideoReader
    from surgicalsam_napari.widgets.viewer.layers import image_arguments

    file = _single(path)
    try:
        video = VideoReader(file)
    except SurgicalSAMError as error:
        return _no_layers(error)
    return [(video, image_arguments(video, file), "image")]


def read_project(path: str | list[str]) -> list[LayerData]:
    """The video of a project, and its labels with class names and colours; edits are written to the project."""
    from napari.utils.notifications import show_info

    from surgicalsam_napari.store import Project, ViewerLabels
    from surgicalsam_napari.widgets.viewer.layers import image_arguments, labels_arguments

    folder = _single(path)
    try:
        project = Project.open(folder)
    except SurgicalSAMError as error:
        return _no_layers(error)
    if project.notice:
        show_info(project.notice)
    return [
        (project.video, image_arguments(project.video, folder), "image"),
        (ViewerLabels(project.labels), labels_arguments(project.classes, folder), "labels"),
    ]


def read_dataset(path: str | list[str]) -> list[LayerData]:
    """For each video of a dataset: its pictures, if they are a folder of their own, and its labels, only to look at."""
    try:
        return dataset_layers(_single(path))
    except SurgicalSAMError as error:
        return _no_layers(error, "exchange.export_panel.ExportPanel")


def _no_layers(error: SurgicalSAMError, panel: str = "source.video_panel.VideoPanel") -> list[LayerData]:
    """Show the error in a panel of the plugin; without one, raise it."""
    if not shown_in_panel(error, panel):
        raise error
    return [(None,)]  # type: ignore[list-item]  # napari: this path was read, and gives no layer


def _single(path: str | list[str]) -> Path:
    return Path(path[0] if isinstance(path, list) else path)
