"""Imports labels of a dataset into a project: checks every file first, then writes all frames or none."""

from __future__ import annotations

from collections.abc import Generator

from surgicalsam_napari.exchange.dataset import Dataset
from surgicalsam_napari.exchange.import_plan import ImportChoices, ImportPlan, plan_import
from surgicalsam_napari.exchange.import_preview import choices_in_words
from surgicalsam_napari.exchange.survey import ImportReport, survey_frames
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.store import Project


def check_import(
    project: Project,
    dataset: Dataset,
    sequence: str | None = None,
    *,
    add_classes: bool = False,
    choices: ImportChoices | None = None,
) -> ImportPlan:
    """Read every file and check that it fits the project; nothing is written.

    Parameters
    ----------
    sequence : the sequence of the dataset that shows this video; None if it can be found by name
    add_classes : the same as in `choices`, for calls without other choices

    Raises
    ------
    ExchangeError
        files do not fit, or something is not decided; `problems` has one line for each of them
    """
    checks = survey_frames(project, dataset, sequence)
    while True:
        try:
            next(checks)
        except StopIteration as end:
            plan = plan_import(end.value, choices or ImportChoices(add_classes=add_classes))
            plan.check_ready()
            return plan


def import_frames(project: Project, plan: ImportPlan) -> Generator[ImportReport, None, None]:
    """Write the checked labels as EDITED: all frames, or none if a write fails or the generator is closed early.

    The import is one action in the project's history, after a snapshot. It can be undone, even if the process was killed.

    Pixels that a person painted, and VERIFIED classes, stay (see `LabelStore.write_import`). Frames in which the dataset
    annotated no class stay unchanged.

    Raises
    ------
    ExchangeError, ProjectError, DiskSpaceError
        every frame is as it was, except frames that somebody else changed in the meantime
    """
    plan.check_ready()
    if plan.new_classes:
        project.extend_classes(ClassSet(project.classes.name, (*project.classes, *plan.new_classes)))
    name = f"Import {plan.dataset.path.name}"
    project.snapshots.create_before(name)  # even before a small import
    with project.history.action(name, note=choices_in_words(plan), all_or_none=True) as action:
        for done, (frame, index) in enumerate(plan.frames, 1):
            label_map, class_ids = plan.in_project_ids(frame)
            kept = project.labels.write_import(index, label_map, class_ids, action=action)
            yield ImportReport(index, done, len(plan.frames), kept)
