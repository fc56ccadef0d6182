"""Which classes of a project a checkpoint knows, and in how many frames each class is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from surgicalsam_napari.errors import ClassSetError
from surgicalsam_napari.instruments import same_classes
from surgicalsam_napari.store import Provenance
from surgicalsam_napari.store.provenance import is_by_person

if TYPE_CHECKING:
    from surgicalsam_napari.model.surgical_sam import SurgicalSAM
    from surgicalsam_napari.store import Project


def trained_class_ids(project: Project, model: SurgicalSAM) -> list[int]:
    """The project's classes that the checkpoint knows; a ClassSetError if it knows none."""
    trained = list(same_classes(project.classes, model.classes))
    if not trained and project.whole is not None:
        raise ClassSetError(
            f"{model.name} knows none of the parts ({', '.join(project.classes.names)}); it knows "
            f"{', '.join(model.classes.names)}. Label the parts in a few frames, then learn from them: Learn in the window, "
            f'or `surgicalsam learn "{project.folder}"`.'
        )
    if not trained:
        raise ClassSetError(
            f"{model.name} knows none of this project's classes ({', '.join(project.classes.names)}); it knows "
            f"{', '.join(model.classes.names)}. Choose another checkpoint, or give its class set with --classes."
        )
    return trained


def frames_with_class(project: Project, class_ids: Sequence[int], frame_indices: Sequence[int]) -> dict[str, int]:
    """How many of these frames contain each class, by name: predicted now or before, or painted by a person."""
    frame_indices = list(frame_indices)
    columns = [project.classes.ids.index(class_id) for class_id in class_ids]
    kinds = project.labels.provenance_table()[frame_indices][:, columns]
    contains = kinds == Provenance.PREDICTED
    by_person = is_by_person(kinds)  # a person may have verified that a class is absent, or erased it: look
    for row in np.flatnonzero(np.any(by_person, axis=1)).tolist():
        shown = np.isin(class_ids, np.unique(project.labels[frame_indices[row]]))
        contains[row] |= by_person[row] & shown
    counts = contains.sum(axis=0).tolist()
    return {project.classes.by_id(class_id).name: count for class_id, count in zip(class_ids, counts, strict=True)}
