"""Imports labels of a dataset into a project: checks every file first, then writes all frames or none."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace

import numpy as np

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.dataset import Dataset
from surgicalsam_napari.exchange.import_parts import ids_of_parts, part_writer, parts_not_imported
from surgicalsam_napari.exchange.import_plan import ImportChoices, ImportPlan, plan_import
from surgicalsam_napari.exchange.import_preview import choices_in_words
from surgicalsam_napari.exchange.import_tracks import TrackImport
from surgicalsam_napari.exchange.survey import ImportReport, survey_frames
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.store import Project


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


def result_in_words(plan: ImportPlan, counts: ImportCounts) -> str:
    """What an import did, and what it left alone and skipped."""
    texts = [str(counts)]
    if counts.changed and (tracks := plan.tracks(plan.survey.tracks).ids):
        texts.append(f"They show {counted(len(tracks), 'track')}.")
    if plan.left_alone:
        was = "was" if len(plan.left_alone) == 1 else "were"
        texts.append(f"{counted(len(plan.left_alone), 'frame')} without annotations {was} left alone.")
    if lost := parts_not_imported(plan.dataset, plan.survey.all_classes.in_use):
        texts.append(f"{lost}.")
    texts += [f"Skipped {one.what}: {one.count:,}." for one in plan.dataset.skipped]
    return " ".join(texts)


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
    Parts are one action in the history of the project's parts. New classes get the parts that both dataset and project have.

    Pixels that a person painted, and VERIFIED classes, stay (see `LabelStore.write_import`). Frames in which the dataset
    annotated no class stay unchanged.

    Raises
    ------
    ExchangeError, ProjectError, DiskSpaceError
        every frame is as it was, except frames that somebody else changed in the meantime
    """
    plan.check_ready()
    _check_classes(project, plan)
    if plan.new_classes:
        parts_of_new = tuple(ids_of_parts(plan.dataset, project).values())
        new = [replace(instrument, parts=parts_of_new) for instrument in plan.new_classes]
        project.extend_classes(project.classes.having([*project.classes, *new]))
    name = f"Import {plan.dataset.path.name}"
    project.snapshots.create_before(name)  # even before a small import
    tracks = TrackImport(project, plan.tracks(project.tracks.table))
    with (
        project.history.action(name, note=choices_in_words(plan), all_or_none=True) as action,
        part_writer(project, plan.dataset, name) as parts,
    ):
        for done, (frame, index) in enumerate(plan.frames, 1):
            imported = plan.in_project_ids(frame)
            before = _state(project, index)
            kept = project.labels.write_import(index, imported.label_map, imported.class_ids, action=action)
            if imported.instances is not None:
                tracks.write_frame(index, imported.label_map, imported.instances, action=action)
            is_changed = any(not np.array_equal(a, b) for a, b in zip(before, _state(project, index), strict=True))
            if parts is not None and imported.parts is not None:
                is_changed |= parts.write_frame(index, imported.parts)
            yield ImportReport(index, done, len(plan.frames), kept, is_changed)
        tracks.finish(action)


def _check_classes(project: Project, plan: ImportPlan) -> None:
    """An ExchangeError if classes were added or removed since the survey; they may have other names or colours."""
    before, now = plan.survey.all_classes, project.all_classes
    if (set(before.in_use.ids), before.columns) != (set(now.in_use.ids), now.columns):
        raise ExchangeError(
            f"{project.folder.name} has other classes than when {plan.dataset.path.name} was checked. Start the import "
            "again."
        )


def _state(project: Project, frame_index: int) -> tuple[np.ndarray, ...]:
    labels, numbers = project.labels, project.tracks.numbers(frame_index)
    return labels.frame(frame_index), labels.painted(frame_index), labels.row("provenance", frame_index), numbers
