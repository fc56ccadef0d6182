"""`surgicalsam import`: reads the labels of a dataset into a project."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from surgicalsam_napari.cli.commands import app
from surgicalsam_napari.cli.options import (
    AsJson,
    Classes,
    FramePattern,
    Overlaps,
    ProjectFolder,
    Unannotated,
    class_set_named,
)
from surgicalsam_napari.cli.terminal import one_line, print_notice, with_progress
from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.formatting import in_time
from surgicalsam_napari.instruments import ClassSet

if TYPE_CHECKING:
    from surgicalsam_napari.exchange.dataset import Dataset
    from surgicalsam_napari.exchange.import_plan import ImportChoices, ImportPlan
    from surgicalsam_napari.exchange.importing import ImportCounts
    from surgicalsam_napari.exchange.survey import ImportReport
    from surgicalsam_napari.store import Project

PROBLEMS_SHOWN = 20


def _checked_class_choices(choices: list[str] | None) -> list[str] | None:
    for choice in choices or ():
        if "=" not in choice or not choice.partition("=")[0].strip():
            raise typer.BadParameter(f'use NAME=CLASS, such as "grasper=Prograsp Forceps"; got "{choice}".')
    return choices


@app.command("import")
def import_labels(
    dataset_path: Annotated[
        Path, typer.Argument(metavar="DATASET", help="A dataset's folder, or its file (JSON, XML, YAML, TIFF).")
    ],
    path: Annotated[Path, typer.Argument(metavar="PROJECT_OR_VIDEO", help="The video of the labels, or its project.")],
    sequence: Annotated[
        str | None, typer.Option("--sequence", metavar="NAME", help="The sequence of the dataset that shows this video.")
    ] = None,
    classes: Classes = None,
    add_classes: Annotated[
        bool, typer.Option("--add-classes", help="Add classes of the dataset that are new to the project.")
    ] = False,
    similar_names: Annotated[
        bool, typer.Option("--similar-names", help="Class names that differ only in _ and - are the same class.")
    ] = False,
    class_choices: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            metavar="NAME=CLASS",
            callback=_checked_class_choices,
            help="A class of the dataset is this class of the project; NAME= leaves it out. May be given several times.",
        ),
    ] = None,
    unannotated: Unannotated = "alone",
    overlaps: Overlaps = None,
    frame_pattern: FramePattern = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be imported, and what not. Nothing is written.")
    ] = False,
    project_folder: ProjectFolder = None,
    as_json: AsJson = False,
) -> None:
    """Import the labels of a dataset into a project: all frames, or none if a file does not fit.

    Imported labels count as edited by a person. What a person painted or verified before stays.

    Classes are matched by name. If the dataset has only class numbers, give its class set with --classes.
    """
    from surgicalsam_napari.exchange.import_parts import classes_with_parts
    from surgicalsam_napari.exchange.import_plan import ImportChoices
    from surgicalsam_napari.exchange.importing import result_in_words
    from surgicalsam_napari.exchange.registry import open_dataset

    start = time.perf_counter()
    choices = ImportChoices(
        classes=_class_choices(class_choices or ()),
        accept_similar=similar_names,
        add_classes=add_classes,
        unannotated_are_empty=unannotated == "empty",
        overlaps=overlaps,
    )
    try:
        dataset = open_dataset(dataset_path, classes=class_set_named(classes), frame_pattern=frame_pattern)
        with _project_for(path, classes_with_parts(dataset), project_folder, dry_run=dry_run) as project:
            plan = _plan(project, dataset, sequence, choices)
            if dry_run:
                _show(plan, project, as_json)
                return
            plan.check_ready()
            counts = _import_all(project, plan)
            record = {
                "dataset": str(dataset.path),
                "format": dataset.format,
                "project": str(project.folder),
                "frames": len(plan.frames),
                "changed": counts.changed,
                "left_alone": counts.left_alone,
                "same": counts.same,
                "kept_pixels": counts.kept_pixels,
                "unannotated": len(plan.left_alone),
                "skipped": [{"what": one.what, "count": one.count} for one in dataset.skipped],
                "new_classes": [instrument.name for instrument in plan.new_classes],
                "seconds": round(time.perf_counter() - start, 3),
            }
    except ExchangeError as error:
        _list_problems(error)
        raise
    result = result_in_words(plan, counts)
    text = f"{dataset.path} into {project.folder} in {in_time(time.perf_counter() - start)}: {result}"
    print(json.dumps(record) if as_json else text)


def _class_choices(choices: Sequence[str]) -> dict[str, str]:
    """What each class of the dataset becomes."""
    from surgicalsam_napari.exchange.class_matching import LEAVE_OUT

    pairs = (choice.partition("=") for choice in choices)
    return {name.strip(): target.strip() or LEAVE_OUT for name, _, target in pairs}


def _plan(project: Project, dataset: Dataset, sequence: str | None, choices: ImportChoices) -> ImportPlan:
    from surgicalsam_napari.exchange.import_plan import plan_import
    from surgicalsam_napari.exchange.survey import survey_frames

    surveys = []

    def survey() -> Generator[ImportReport, None, None]:
        surveys.append((yield from survey_frames(project, dataset, sequence)))

    for _report in with_progress(survey(), f"checking {dataset.path.name}"):
        pass
    return plan_import(surveys[0], choices)


def _show(plan: ImportPlan, project: Project, as_json: bool) -> None:
    """Print the preview; an ExchangeError, for the exit code, if the import cannot start."""
    from surgicalsam_napari.exchange.import_preview import plan_record, preview_lines

    if as_json:
        print(json.dumps(plan_record(plan)))
    else:
        lines = preview_lines(plan, project)
        width = max(len(line.caption) for line in lines)
        print("\n".join(f"{line.caption:<{width}}  {line.text}" for line in lines))
    try:
        plan.check_ready()
    except ExchangeError as error:
        raise ExchangeError(str(error)) from error  # the preview lists the problems


def _import_all(project: Project, plan: ImportPlan) -> ImportCounts:
    """Write all frames."""
    from surgicalsam_napari.exchange.importing import ImportCounts, import_frames

    counts = ImportCounts()
    for report in with_progress(import_frames(project, plan), f"importing {plan.dataset.path.name}"):
        counts = counts.including(report)
    return counts


def _list_problems(error: ExchangeError) -> None:
    for problem in error.problems[:PROBLEMS_SHOWN]:
        print(one_line(problem), file=sys.stderr)
    if len(error.problems) > PROBLEMS_SHOWN:
        print(f"and {len(error.problems) - PROBLEMS_SHOWN} more", file=sys.stderr)


@contextmanager
def _project_for(path: Path, classes: ClassSet, project_folder: Path | None, *, dry_run: bool = False) -> Iterator[Project]:
    """The project of a video, created with these classes if there is none; a new project is removed if the import fails.

    Parameters
    ----------
    dry_run : a new project is created in a temporary folder
    """
    from surgicalsam_napari.store import Project
    from surgicalsam_napari.store.locating import default_folder, is_project_folder, project_of

    if is_project_folder(path):
        with Project.open(path, require_video=False) as project:
            yield project
        return
    if project_folder is not None and is_project_folder(project_folder):
        folder = project_folder
    else:
        folder = project_of(path, None if project_folder is None else project_folder / default_folder(path).name)
    is_new = not folder.exists()
    if is_new and dry_run:
        with TemporaryDirectory() as place, _opened_or_created(path, classes, Path(place) / folder.name) as project:
            yield project
        return
    try:
        with _opened_or_created(path, classes, folder) as project:
            print_notice(project)
            yield project
    except BaseException:
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _opened_or_created(path: Path, classes: ClassSet, folder: Path) -> Project:
    from surgicalsam_napari.store import Project
    from surgicalsam_napari.video import VideoReader

    video = VideoReader(path)
    try:
        return Project.open_or_create(video, classes, folder)
    except BaseException:
        video.close()
        raise
