"""Imports labels of a dataset into a project: checks every file first, then writes all frames or none."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from surgicalsam_napari.errors import ExchangeError, SurgicalSAMError
from surgicalsam_napari.exchange.dataset import Dataset, DatasetFrame
from surgicalsam_napari.exchange.matching import frames_of_video, positions_in_video
from surgicalsam_napari.formatting import counted
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
    is_changed : whether the import changed the frame: its labels, or that they count as a person's
    """

    frame_index: int
    done: int
    total: int
    kept_pixels: int = 0
    is_changed: bool = False


@dataclass(frozen=True)
class ImportCounts:
    """What an import did to its frames.

    Attributes
    ----------
    changed : frames that it changed
    left_alone : unchanged, because a person painted or verified what the dataset has otherwise
    same : unchanged, because they have these labels already
    kept_pixels : pixels of a person that stayed in the changed frames
    """

    changed: int = 0
    left_alone: int = 0
    same: int = 0
    kept_pixels: int = 0

    def including(self, report: ImportReport) -> ImportCounts:
        """The counts with one more written frame."""
        if report.is_changed:
            return replace(self, changed=self.changed + 1, kept_pixels=self.kept_pixels + report.kept_pixels)
        if report.kept_pixels:
            return replace(self, left_alone=self.left_alone + 1)
        return replace(self, same=self.same + 1)

    def __str__(self) -> str:
        """ "Imported 2 frames. 18 frames were left alone: you verified or painted them." """
        texts = [f"Imported {counted(self.changed, 'frame')}." if self.changed else "Nothing was imported."]
        if self.kept_pixels:
            texts.append(f"{counted(self.kept_pixels, 'pixel')} painted or verified before did not change.")
        if self.left_alone:
            was, them = ("was", "it") if self.left_alone == 1 else ("were", "them")
            texts.append(
                f"{counted(self.left_alone, 'frame')} {was} left alone: a person verified or painted {them} before."
            )
        if self.same:
            texts.append(f"{counted(self.same, 'frame')} {'has' if self.same == 1 else 'have'} these labels already.")
        return " ".join(texts)


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
            before = _state(project, index)
            kept = project.labels.write_import(index, label_map, class_ids, action=action)
            is_changed = any(not np.array_equal(a, b) for a, b in zip(before, _state(project, index), strict=True))
            yield ImportReport(index, done, len(plan.frames), kept, is_changed)


def _state(project: Project, frame_index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels = project.labels
    return labels.frame(frame_index), labels.painted(frame_index), labels.row("provenance", frame_index)


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
