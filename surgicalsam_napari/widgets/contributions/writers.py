"""napari's writers for the Labels layer of a project: File > Save Selected Layers…, and `viewer.layers.save`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from surgicalsam_napari.errors import ExchangeError, SurgicalSAMError
from surgicalsam_napari.exchange.registry import EXPORT_FORMATS
from surgicalsam_napari.store import Project, Provenance, ViewerLabels
from surgicalsam_napari.widgets.contributions.reporting import shown_in_panel
from surgicalsam_napari.widgets.viewer.layers import LABELS_NAME, SOURCE

Writer = Callable[[str, Any, dict[str, Any]], list[str]]


def __getattr__(name: str) -> Writer:
    """`write_coco` etc.: one function for each format that napari's Save dialog offers."""
    for format in EXPORT_FORMATS.values():
        if format.napari_command == name:
            return partial(write_labels, format=format.name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def write_labels(path: str, data: Any, attributes: dict[str, Any], format: str) -> list[str]:
    """Write the frames that have labels, with their images, as a dataset of this format in the folder `path`."""
    from napari.utils import progress

    from surgicalsam_napari.exchange.exporting import export_frames

    out = Path(path)
    try:
        with Project.open(_project_folder(data, attributes)) as project:
            frames = labelled_frames(project)
            for _ in progress(export_frames(project, frames, out, format), total=len(frames), desc=f"Saving {out.name}"):
                pass
    except SurgicalSAMError as error:
        if not shown_in_panel(error, "exchange.export_panel.ExportPanel"):
            raise
        return []
    return [str(out)]


def _project_folder(data: Any, attributes: dict[str, Any]) -> Path:
    """The project folder of a SurgicalSAM Labels layer; an ExchangeError for any other layer."""
    source = attributes.get("metadata", {}).get(SOURCE)
    if source is None or not isinstance(data, ViewerLabels):
        raise ExchangeError(
            f'"{attributes.get("name", "This layer")}" is not a layer of a SurgicalSAM project, so its numbers have no '
            f'class names. Select the layer "{LABELS_NAME}" of an open video, or save this one as TIFF.'
        )
    return Path(source)


def labelled_frames(project: Project) -> list[int]:
    """The frames in which a class is predicted, edited, verified or absent; an ExchangeError if there are none."""
    frames = np.flatnonzero((project.labels.provenance_table() != Provenance.EMPTY).any(axis=1)).tolist()
    if not frames:
        raise ExchangeError(f"{project.folder.name} has no labels yet. Segment or paint some frames, then save them.")
    return frames
