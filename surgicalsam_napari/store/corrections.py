"""Corrected frames, which a person edited or verified: they are exported, trained on, and skipped by predictions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress, pairwise
from pathlib import Path

import numpy as np

from surgicalsam_napari.instruments import InstrumentClass
from surgicalsam_napari.store.label_maps import present_ids
from surgicalsam_napari.store.project import Project
from surgicalsam_napari.store.provenance import Provenance, is_by_person, is_corrected, is_trusted


@dataclass(frozen=True)
class Corrections:
    """The corrections in one project, from which a training learns.

    Attributes
    ----------
    folder : the project folder
    video : file name of the video
    frame_count : frames in which a person edited or verified a class
    class_frames : for each class, the number of these frames that show it and are trusted for it; classes without a frame
        are left out
    unchanged_count : those of these frames that a person verified without changing a pixel of what was predicted there. They
        confirm a model, and teach it nothing new
    """

    folder: Path
    video: str
    frame_count: int
    class_frames: dict[InstrumentClass, int]
    unchanged_count: int = 0

    @property
    def is_only_predictions(self) -> bool:
        """Whether all these frames are as they were predicted: there is nothing to learn from."""
        return 0 < self.frame_count == self.unchanged_count


def count_corrections(
    project: Project, trust: str = "frame", known_pixels: dict[int, frozenset[int]] | None = None
) -> Corrections:
    """Count corrected frames per class, in any thread; reads their labels.

    Parameters
    ----------
    trust : as `TrainingConfig.trust`: "frame" trusts all classes of a corrected frame, "class" only the corrected classes
    known_pixels : cache, the label values of each frame already read; missing frames are read and added

    Raises
    ------
    ProjectError
        the labels of a frame are damaged
    """
    known_pixels = {} if known_pixels is None else known_pixels
    provenance = project.labels.provenance_table()
    corrected = corrected_frames(project)
    for frame_index in corrected:
        _remember_pixels(project, frame_index, known_pixels)
    trusted = is_trusted(provenance[corrected], trust)
    class_frames = {}
    for column, instrument in enumerate(project.classes):
        trusted_frames = compress(corrected, trusted[:, column].tolist())
        if count := sum(instrument.id in known_pixels[frame_index] for frame_index in trusted_frames):
            class_frames[instrument] = count
    video = Path(project.manifest.video.path).name
    return Corrections(project.folder, video, len(corrected), class_frames, len(unchanged_frames(project)))


def frames_showing(project: Project, known_pixels: dict[int, frozenset[int]] | None = None) -> dict[int, int]:
    """By class id, the number of frames that show the class, in any thread; reads the labels of corrected frames.

    Parameters
    ----------
    known_pixels : as for `count_corrections`
    """
    known_pixels = {} if known_pixels is None else known_pixels
    provenance = project.labels.provenance_table()
    counts = dict(zip(project.classes.ids, (provenance == Provenance.PREDICTED).sum(axis=0).tolist(), strict=True))
    for frame_index in np.flatnonzero(is_corrected(provenance)).tolist():
        _remember_pixels(project, frame_index, known_pixels)
        for class_id, is_own in zip(counts, is_by_person(provenance[frame_index]).tolist(), strict=True):
            counts[class_id] += is_own and class_id in known_pixels[frame_index]
    return counts


def _remember_pixels(project: Project, frame_index: int, known_pixels: dict[int, frozenset[int]]) -> None:
    if frame_index not in known_pixels:
        known_pixels[frame_index] = frozenset(present_ids(project.labels[frame_index]))


def corrected_frames(project: Project) -> list[int]:
    """The frames in which a person edited or verified any class, ascending."""
    return np.flatnonzero(is_corrected(project.labels.provenance_table())).tolist()


def unchanged_frames(project: Project) -> list[int]:
    """The corrected frames in which nobody set a pixel: predictions that a person verified as they are, ascending."""
    predicted = ~np.isnan(project.labels.table("presence")).all(axis=1)
    return [index for index in corrected_frames(project) if predicted[index] and not project.labels.is_painted(index)]


def untouched_frames(project: Project) -> list[int]:
    """The frames in which nobody has edited or verified any class, ascending."""
    return np.flatnonzero(~is_corrected(project.labels.provenance_table())).tolist()


@dataclass(frozen=True)
class Gap:
    """Frames between two corrected frames of the same classes."""

    before: int
    after: int
    class_ids: tuple[int, ...]

    @property
    def frame_indices(self) -> range:
        return range(self.before + 1, self.after)


def gaps_between(project: Project, class_ids: Sequence[int]) -> list[Gap]:
    """The gaps between the corrected frames of these classes, ascending; classes with the same gap are together.

    A frame counts for a class if a person edited or verified the class there, or corrected another class there and left this
    one ABSENT. A frame where nobody looked for the class does not count.
    """
    table = project.labels.provenance_table()
    corrected = is_corrected(table)
    class_ids_of = defaultdict(list)
    for class_id in dict.fromkeys(class_ids):
        kinds = table[:, project.classes.ids.index(project.classes.by_id(class_id).id)]
        ends = np.flatnonzero(is_by_person(kinds) | (corrected & (kinds == Provenance.ABSENT))).tolist()
        for before, after in pairwise(ends):
            if after - before > 1:
                class_ids_of[before, after].append(class_id)
    return [Gap(before, after, tuple(ids)) for (before, after), ids in sorted(class_ids_of.items())]


def predicted_frames(project: Project) -> list[int]:
    """The untouched frames in which a model was asked for a class, ascending."""
    provenance = project.labels.provenance_table()
    asked = (provenance == Provenance.PREDICTED) | (provenance == Provenance.ABSENT)
    return np.flatnonzero(asked.any(axis=1) & ~is_corrected(provenance)).tolist()
