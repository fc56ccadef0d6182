"""A dataset's labels taken into a project: first every file is checked, then all are written, or none is."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from surgicalsam_napari.errors import ClassSetError, ExchangeError, SurgicalSAMError
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame
from surgicalsam_napari.exchange.matching import frames_of_video, positions_in_video
from surgicalsam_napari.instruments import LARGEST_CLASS_ID, ClassSet, InstrumentClass
from surgicalsam_napari.store import Project
from surgicalsam_napari.store.label_maps import present_ids


@dataclass(frozen=True)
class ImportReport:
    """One frame was checked or written.

    Attributes
    ----------
    frame_index : of the video
    kept_pixels : how many stayed as a person had them, against the dataset
    """

    frame_index: int
    done: int
    total: int
    kept_pixels: int = 0


@dataclass(frozen=True)
class ImportPlan:
    """What was checked and can be written.

    Attributes
    ----------
    frames : of the dataset, each with its frame of the video
    class_ids : the project's, by the dataset's
    new_classes : those that the project will be extended by
    """

    dataset: Dataset
    frames: tuple[tuple[DatasetFrame, int], ...]
    class_ids: Mapping[int, int]
    new_classes: tuple[InstrumentClass, ...] = ()


def check_import(
    project: Project, dataset: Dataset, sequence: str | None = None, *, add_classes: bool = False
) -> ImportPlan:
    """Read every file and see whether it fits; nothing is written.

    Parameters
    ----------
    sequence : which of the dataset's is of this video; may be left out where that is plain
    add_classes : let the project be extended by classes that only the dataset has

    Raises
    ------
    ExchangeError
        with one line for every file that does not fit in `problems`
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
    class_ids = _matching_class_ids(project.classes, dataset.classes)
    problems: list[str] = []
    taken: dict[int, str] = {}
    lacking: set[int] = set()
    for done, frame in enumerate(frames, 1):
        index = positions.get(frame)
        try:
            label_map = dataset.label_map(frame)
            _check_fits(project, frame, label_map, index, taken)
            unknown = [class_id for class_id in present_ids(label_map) if class_id not in class_ids]
            lacking.update(unknown)
            if unknown and not add_classes:
                names = ", ".join(dataset.classes.by_id(class_id).name for class_id in unknown)
                raise ExchangeError(f"{frame.name} has {names}, which the project does not")
        except SurgicalSAMError as error:
            problems.append(" ".join(str(error).split()))
        yield ImportReport(frame.frame_index if index is None else index, done, len(frames))
    if problems:
        raise _refused(project, dataset, len(frames), problems, [] if add_classes else sorted(lacking))
    new = _new_classes(project.classes, [dataset.classes.by_id(class_id) for class_id in sorted(lacking)])
    class_ids |= {old: created.id for old, created in zip(sorted(lacking), new, strict=True)}
    return ImportPlan(dataset, tuple((frame, positions[frame]) for frame in frames), class_ids, new)


def _refused(project: Project, dataset: Dataset, total: int, problems: list[str], lacking: list[int]) -> ExchangeError:
    message = (
        f"{len(problems)} of {total} frames of {dataset.path.name} do not fit {project.folder.name}; nothing was imported. "
    )
    if lacking:
        names = ", ".join(dataset.classes.by_id(class_id).name for class_id in lacking)
        message += (
            f"The project lacks {names}: extend its class set (--add-classes on the command line), or give a class its "
            "name in the project. "
        )
    return ExchangeError(f"{message}The first: {problems[0]}", problems)


def _check_fits(
    project: Project, frame: DatasetFrame, label_map: np.ndarray, index: int | None, taken: dict[int, str]
) -> None:
    frame_count, *size = project.labels.shape
    if list(label_map.shape) != size:
        raise ExchangeError(
            f"{frame.name} has {label_map.shape[1]} x {label_map.shape[0]} pixels, the video has {size[1]} x {size[0]}. "
            "Import labels made on its frames."
        )
    if index is None or not 0 <= index < frame_count:
        raise ExchangeError(f"{frame.name} has no frame in the video, which has {frame_count} (0 to {frame_count - 1})")
    if index in taken:
        raise ExchangeError(f"{frame.name} is frame {index} of the video, and so is {taken[index]}. Remove one of the two.")
    taken[index] = frame.name


def import_frames(project: Project, plan: ImportPlan) -> Generator[ImportReport, None, None]:
    """Write what was checked, as EDITED; all frames, or none if one cannot be written or the generator is closed early.

    One action of the project's history, after a snapshot: it can be undone, also where the process was killed half way.

    Pixels that a person painted, and VERIFIED classes, stay (see `LabelStore.write_import`). Frames in which the dataset
    annotated no class are left as they are.

    Raises
    ------
    ExchangeError, ProjectError, DiskSpaceError
        every frame is as it was, but for those that somebody else has changed in the meantime
    """
    if plan.new_classes:
        project.extend_classes(ClassSet(project.classes.name, (*project.classes, *plan.new_classes)))
    name = f"Import {plan.dataset.path.name}"
    project.snapshots.create_before(name)  # of an import however small
    with project.history.action(name, all_or_none=True) as action:
        for done, (frame, index) in enumerate(plan.frames, 1):
            label_map, class_ids = _in_project_ids(plan, frame)
            kept = project.labels.write_import(index, label_map, class_ids, action=action)
            yield ImportReport(index, done, len(plan.frames), kept)


def _in_project_ids(plan: ImportPlan, frame: DatasetFrame) -> tuple[np.ndarray, list[int]]:
    """The label map of a frame, and the classes annotated in it, in the project's ids."""
    label_map = plan.dataset.label_map(frame)
    table = np.zeros(256, np.uint8)
    for theirs, ours in plan.class_ids.items():
        table[theirs] = ours
    if changed := set(present_ids(label_map)) - plan.class_ids.keys():
        raise ExchangeError(f"{frame.name} has changed since it was checked ({min(changed)} is new). Import again.")
    present = present_ids(label_map)
    annotated = {*plan.dataset.annotated_class_ids(frame), *present} & plan.class_ids.keys()
    return table[label_map], sorted(plan.class_ids[class_id] for class_id in annotated)


# ---- classes


def _matching_class_ids(project_classes: ClassSet, dataset_classes: ClassSet) -> dict[int, int]:
    """The project's class ids by the dataset's, of classes with the same name."""
    ours = {c.name.strip().casefold(): c.id for c in project_classes}
    names = ((c.id, c.name.strip().casefold()) for c in dataset_classes)
    return {class_id: ours[name] for class_id, name in names if name in ours}


def _new_classes(present: ClassSet, added: Sequence[InstrumentClass]) -> tuple[InstrumentClass, ...]:
    """The classes to add, with ids after the project's largest."""
    first = max(present.ids) + 1
    if first + len(added) - 1 > LARGEST_CLASS_ID:
        raise ClassSetError(f"{present.name} has the class id {first - 1}, and {LARGEST_CLASS_ID} is the largest there is.")
    return tuple(InstrumentClass(first + position, c.name, c.color) for position, c in enumerate(added))
