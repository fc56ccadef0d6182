"""The parts of a dataset in a project: matched by name, and written into the labels of the project's parts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from surgicalsam_napari.exchange.dataset import Dataset
from surgicalsam_napari.exchange.parts import same_parts, table_of_parts
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.store import Action, Project


def parts_of_classes(project: Project) -> ClassSet | None:
    """The parts that the classes of a project may have; None without any."""
    return getattr(project.classes, "parts", None)


def parts_of(project: Project) -> Project | None:
    """The labels of the parts of a project; None if there are none yet."""
    return getattr(project, "parts", None)


def lines_about_parts(dataset: Dataset, project: Project) -> list[str]:
    """What an import does with the parts of a dataset, one fact a line."""
    if dataset.parts is None:
        return []
    known = parts_of_classes(project)
    if known is None:
        names = ", ".join(dataset.parts.names)
        return [f"{names} are not imported: the classes of the project have no parts. Give them parts first"]
    ids = same_parts(dataset.parts, known)
    renamed = [f"{part.name} becomes {known.by_id(ids[part.id]).name}" for part in dataset.parts if part.id in ids]
    lost = [part.name for part in dataset.parts if part.id not in ids]
    return [", ".join(renamed)] * bool(renamed) + [f"{name} is not a part of the project, and is left out" for name in lost]


@dataclass(frozen=True)
class PartWriter:
    """Writes the parts of imported frames into the labels of a project's parts.

    Attributes
    ----------
    ids : the project's id of each part of the dataset that it has
    """

    labels: Project
    ids: dict[int, int]
    action: Action

    def write_frame(self, frame_index: int, parts: np.ndarray) -> bool:
        """Write the parts of a frame whose instruments are written; a frame without any part says nothing about parts.

        Parameters
        ----------
        parts : (H, W) uint8, ids of the dataset's parts

        Returns
        -------
        whether the frame changed
        """
        known = table_of_parts(self.ids)[parts]
        if not known.any():
            return False
        labels = self.labels.labels
        before = labels.frame(frame_index), labels.painted(frame_index)
        labels.write_import(frame_index, known, sorted(set(self.ids.values())), action=self.action)
        after = labels.frame(frame_index), labels.painted(frame_index)
        return not all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@contextmanager
def part_writer(project: Project, dataset: Dataset, name: str) -> Iterator[PartWriter | None]:
    """Writes parts as one action in the history of the parts, all or none; None without parts on both sides.

    Parameters
    ----------
    name : of the action, for the user
    """
    known = parts_of_classes(project)
    ids = {} if dataset.parts is None or known is None else same_parts(dataset.parts, known)
    if not ids:
        yield None
        return
    labels: Project = getattr(project, "open_parts")()  # noqa: B009
    labels.snapshots.create_before(name)
    with labels.history.action(name, all_or_none=True) as action:
        yield PartWriter(labels, ids, action)
