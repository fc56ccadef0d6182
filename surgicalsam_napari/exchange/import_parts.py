"""The parts of a dataset in a project: matched by name, and written into the labels of the project's parts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from surgicalsam_napari.exchange.dataset import Dataset
from surgicalsam_napari.exchange.parts import same_parts, table_of_parts
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.store import Action, Project


def classes_with_parts(dataset: Dataset) -> ClassSet:
    """The classes of a dataset, for a new project. If they do not say which parts they have, each has all of the dataset."""
    if dataset.parts is None or dataset.classes.parts is not None:
        return dataset.classes
    classes = (replace(instrument, parts=dataset.parts.ids) for instrument in dataset.classes)
    return replace(dataset.classes, classes=tuple(classes), parts=dataset.parts)


def ids_of_parts(dataset: Dataset, project: Project) -> dict[int, int]:
    """For each part of a dataset that the project has, its id there."""
    known = project.classes.parts
    return {} if dataset.parts is None or known is None else same_parts(dataset.parts, known)


def lines_about_parts(dataset: Dataset, classes: ClassSet) -> list[str]:
    """What an import does with the parts of a dataset, one fact a line.

    Parameters
    ----------
    classes : of the project
    """
    if dataset.parts is None:
        return []
    if classes.parts is None:
        return [parts_not_imported(dataset, classes)]
    ids = same_parts(dataset.parts, classes.parts)
    renamed = [f"{part.name} becomes {classes.parts.by_id(ids[part.id]).name}" for part in dataset.parts if part.id in ids]
    lost = [part.name for part in dataset.parts if part.id not in ids]
    return [", ".join(renamed)] * bool(renamed) + [f"{name} is not a part of the project, and is left out" for name in lost]


def parts_not_imported(dataset: Dataset, classes: ClassSet) -> str:
    """What to do if a dataset has parts and the classes of a project have none; "" otherwise."""
    if dataset.parts is None or classes.parts is not None:
        return ""
    return (
        f"Parts ({', '.join(dataset.parts.names)}) are not imported: the classes of the project have none. To have them, "
        "give the classes parts (Edit classes… in the window, surgicalsam classes --parts), then import again"
    )


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
    ids = ids_of_parts(dataset, project)
    if not ids:
        yield None
        return
    parts = project.open_parts()
    parts.snapshots.create_before(name)
    with parts.history.action(name, all_or_none=True) as action:
        yield PartWriter(parts, ids, action)
