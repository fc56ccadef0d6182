"""Imports labels of a dataset into a project: checks every file first, then writes all frames or none."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from surgicalsam_napari.errors import ExchangeError, SurgicalSAMError
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame
from surgicalsam_napari.exchange.matching import frames_of_video, positions_in_video
from surgicalsam_napari.instruments import ClassSet, InstrumentClass, same_classes
from surgicalsam_napari.store import Project
from surgicalsam_napari.store.label_maps import present_ids


@dataclass(frozen=True)
class ImportReport:
    """One frame was checked or written.

    Attributes
    ----------
    frame_index : of the video
    kept_pixels : number of pixels that differ from the dataset, because a person painted or verified them
    """

    frame_index: int
    done: int
    total: int
    kept_pixels: int = 0


@dataclass(frozen=True)
class ImportPlan:
    """A checked import that can be written.

    Attributes
    ----------
    frames : each frame of the dataset with its frame index in the video
    class_ids : the project's class id for each class id of the dataset
    new_classes : classes that will be added to the project
    """

    dataset: Dataset
    frames: tuple[tuple[DatasetFrame, int], ...]
    class_ids: Mapping[int, int]
    new_classes: tuple[InstrumentClass, ...] = ()


def check_import(
    project: Project, dataset: Dataset, sequence: str | None = None, *, add_classes: bool = False
) -> ImportPlan:
    """Read every file and check that it fits the project; nothing is written.

    Parameters
    ----------
    sequence : the sequence of the dataset that shows this video; None if it can be found by name
    add_classes : allow new classes, which the import will add to the project

    Raises
    ------
    ExchangeError
        files do not fit; `problems` has one line for each of them
    """
    checks = check_import_frames(project, dataset, sequence, add_classes=add_classes)
    while True:
        try:
            next(checks)
        except StopIteration as end:
            return end.value


def check_import_frames(
    project: Project, dataset: Dataset, sequence: str | None = None, *, add_classes: bool = False
) -> Generator[ImportReport, None, ImportPlan]:
    """`check_import`, frame by frame; returns the plan."""
    frames = frames_of_video(project, dataset, sequence)
    positions = positions_in_video(project, dataset, frames)
    class_ids = same_classes(dataset.classes, project.classes)
    problems: list[str] = []
    name_by_index: dict[int, str] = {}
    new_class_ids: set[int] = set()
    for done, frame in enumerate(frames, 1):
        index = positions.get(frame)
        try:
            label_map = dataset.label_map(frame)
            _check_fits(project, frame, label_map, index, name_by_index)
            unknown = [class_id for class_id in present_ids(label_map) if class_id not in class_ids]
            new_class_ids.update(unknown)
            if unknown and not add_classes:
                names = ", ".join(dataset.classes.by_id(class_id).name for class_id in unknown)
                raise ExchangeError(f"{frame.name} has {names}, but the project has no such class.")
        except SurgicalSAMError as error:
            problems.append(" ".join(str(error).split()))
        yield ImportReport(frame.frame_index if index is None else index, done, len(frames))
    if problems:
        raise _problems_error(project, dataset, len(frames), problems, [] if add_classes else sorted(new_class_ids))
    new = _new_classes(project, [dataset.classes.by_id(class_id) for class_id in sorted(new_class_ids)])
    class_ids |= {old: created.id for old, created in zip(sorted(new_class_ids), new, strict=True)}
    return ImportPlan(dataset, tuple((frame, positions[frame]) for frame in frames), class_ids, new)


def _problems_error(
    project: Project, dataset: Dataset, total: int, problems: list[str], new_class_ids: list[int]
) -> ExchangeError:
    message = (
        f"{len(problems)} of {total} frames of {dataset.path.name} do not fit {project.folder.name}; nothing was imported. "
    )
    if new_class_ids:
        names = ", ".join(dataset.classes.by_id(class_id).name for class_id in new_class_ids)
        message += (
            f"The project does not have {names}: add the classes (--add-classes on the command line), or rename a class of "
            "the project. "
        )
    return ExchangeError(f"{message}The first problem: {problems[0]}", problems)


def _check_fits(
    project: Project, frame: DatasetFrame, label_map: np.ndarray, index: int | None, name_by_index: dict[int, str]
) -> None:
    frame_count, *size = project.labels.shape
    if list(label_map.shape) != size:
        raise ExchangeError(
            f"{frame.name} has {label_map.shape[1]} x {label_map.shape[0]} pixels, but the video has {size[1]} x {size[0]}. "
            "Import labels that were made on this video."
        )
    if index is None or not 0 <= index < frame_count:
        raise ExchangeError(
            f"{frame.name} has no matching frame in the video, which has frames 0 to {frame_count - 1}. "
            "Import labels that were made on this video."
        )
    if index in name_by_index:
        raise ExchangeError(
            f"{frame.name} and {name_by_index[index]} are both frame {index} of the video. Remove one of the two."
        )
    name_by_index[index] = frame.name


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
    if plan.new_classes:
        project.extend_classes(ClassSet(project.classes.name, (*project.classes, *plan.new_classes)))
    name = f"Import {plan.dataset.path.name}"
    project.snapshots.create_before(name)  # even before a small import
    with project.history.action(name, all_or_none=True) as action:
        for done, (frame, index) in enumerate(plan.frames, 1):
            label_map, class_ids = _in_project_ids(plan, frame)
            kept = project.labels.write_import(index, label_map, class_ids, action=action)
            yield ImportReport(index, done, len(plan.frames), kept)


def _in_project_ids(plan: ImportPlan, frame: DatasetFrame) -> tuple[np.ndarray, list[int]]:
    """The label map of a frame, and the classes annotated in it, in the project's ids."""
    label_map = plan.dataset.label_map(frame)
    table = np.zeros(256, np.uint8)
    for dataset_id, project_id in plan.class_ids.items():
        table[dataset_id] = project_id
    if unchecked := set(present_ids(label_map)) - plan.class_ids.keys():
        raise ExchangeError(
            f"{frame.name} has changed since it was checked (the value {min(unchecked)} is new). Start the import again."
        )
    present = present_ids(label_map)
    annotated = {*plan.dataset.annotated_class_ids(frame), *present} & plan.class_ids.keys()
    return table[label_map], sorted(plan.class_ids[class_id] for class_id in annotated)


def _new_classes(project: Project, added: Sequence[InstrumentClass]) -> tuple[InstrumentClass, ...]:
    """The classes to add, with ids that the project has never used."""
    class_ids = project.all_classes.unused_ids(len(added))
    return tuple(replace(instrument, id=class_id) for class_id, instrument in zip(class_ids, added, strict=True))
