"""Corrected frames: those that a person edited or verified. What is exported, trained on, and left out of predictions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np

from surgicalsam_napari.instruments import InstrumentClass
from surgicalsam_napari.store.project import Project
from surgicalsam_napari.store.provenance import is_corrected, is_trusted


@dataclass(frozen=True)
class Corrections:
    """What a person has corrected in one project: what a training learns from.

    Attributes
    ----------
    folder : of the project
    video : its file's name
    frame_count : frames in which a person edited or verified something
    class_frames : in how many of them each class is, as known from there; classes in none of them are left out
    """

    folder: Path
    video: str
    frame_count: int
    class_frames: dict[InstrumentClass, int]


def count_corrections(
    project: Project, trust: str = "frame", known_pixels: dict[int, frozenset[int]] | None = None
) -> Corrections:
    """Count corrected frames per class, in any thread; reads their labels.

    Parameters
    ----------
    trust : as `TrainingConfig.trust`: "frame" takes a corrected frame as right in whole, "class" only the corrected classes
    known_pixels : the label values in each frame that was read before; missing ones are read and added

    Raises
    ------
    ProjectError
        the labels of a frame are damaged
    """
    known_pixels = {} if known_pixels is None else known_pixels
    provenance = project.labels.provenance_table()
    corrected = corrected_frames(project)
    for frame_index in corrected:
        if frame_index not in known_pixels:
            pixel_counts = np.bincount(project.labels[frame_index].ravel(), minlength=1)
            known_pixels[frame_index] = frozenset(np.flatnonzero(pixel_counts).tolist())
    is_known = is_trusted(provenance[corrected], trust)
    shown = {}
    for column, instrument in enumerate(project.classes):
        known_in = compress(corrected, is_known[:, column].tolist())
        if count := sum(instrument.id in known_pixels[frame_index] for frame_index in known_in):
            shown[instrument] = count
    return Corrections(project.folder, Path(project.manifest.video.path).name, len(corrected), shown)


def corrected_frames(project: Project) -> list[int]:
    """The frames in which a person edited or verified any class, ascending."""
    return np.flatnonzero(is_corrected(project.labels.provenance_table())).tolist()


def untouched_frames(project: Project) -> list[int]:
    """The frames in which nobody has edited or verified any class, ascending."""
    return np.flatnonzero(~is_corrected(project.labels.provenance_table())).tolist()
