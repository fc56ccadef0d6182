"""`surgicalsam export`, `import` and `convert`: labels of a project as a dataset, and back; a dataset in another format."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption

from surgicalsam_napari.cli.commands import app
from surgicalsam_napari.cli.options import (
    AsJson,
    Classes,
    ExistingProject,
    FramePattern,
    Overlaps,
    ProjectFolder,
    Unannotated,
    class_set_named,
    existing_project,
)
from surgicalsam_napari.cli.terminal import one_line, with_progress
from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.formatting import counted, in_time
from surgicalsam_napari.instruments import ClassSet

if TYPE_CHECKING:
    from surgicalsam_napari.exchange.dataset import Dataset
    from surgicalsam_napari.exchange.import_plan import ImportChoices, ImportPlan
    from surgicalsam_napari.exchange.survey import ImportReport
    from surgicalsam_napari.store import Project

PROBLEMS_SHOWN = 20


class ExportCommand(TyperCommand):
    """Lists the formats in its help. It imports their registry only then, because that takes half a second."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        for option in self.params:
            if isinstance(option, TyperOption) and option.name == "format_name":
                option.help = f"Format of the dataset: {', '.join(_export_format_names())}."
        super().format_help(ctx, formatter)


def _checked_format(name: str) -> str:
    names = _export_format_names()
    if name not in names:
        raise typer.BadParameter(f'choose one of {", ".join(names)}; got "{name}".')
    return name


def _export_format_names() -> list[str]:
    from surgicalsam_napari.exchange.registry import EXPORT_FORMATS

    return list(EXPORT_FORMATS)


OnlyClasses = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="CLASS", help="Write only this class; others become background. May be repeated."),
]
Polygons = Annotated[
    bool, typer.Option("--polygons", help="Write polygons where the format can hold masks, too. Holes are kept.")
]
NoImages = Annotated[bool, typer.Option("--no-images", help="Write only the labels, not the frames.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export in that folder.")]


def _class_ids(classes: ClassSet, names: list[str] | None) -> list[int] | None:
    return None if names is None else [classes.by_name(name).id for name in names]


@app.command("export", cls=ExportCommand)
def export_labels(
    project_path: ExistingProject,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the dataset.")],
    format_name: Annotated[str, typer.Option("--format", metavar="NAME", callback=_checked_format)] = "endovis",
    frames: Annotated[
        str,
        typer.Option(
            "--frames",
            metavar="FRAMES",
            help='"corrected" (edited or verified), "all", a frame number, or start:stop:step.',
        ),
    ] = "corrected",
    only: OnlyClasses = None,
    polygons: Polygons = False,
    no_images: NoImages = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Export the labels of a project as a dataset."""
    from surgicalsam_napari.exchange.exporting import export_frames
    from surgicalsam_napari.store import Project

    start = time.perf_counter()
    with Project.open(existing_project(project_path), require_video=not no_images) as project:
        indices = _frames_to_export(project, frames)
        reports = export_frames(
            project,
            indices,
            out,
            format_name,
            class_ids=_class_ids(project.classes, only),
            polygons=polygons,
            images=not no_images,
            overwrite=overwrite,
        )
        for _report in with_progress(reports, f"exporting {project.folder.name}"):
            pass
        record = {
            "project": str(project.folder),
            "out": str(out),
            "format": format_name,
            "frames": len(indices),
            "images": not no_images,
            "seconds": round(time.perf_counter() - start, 3),
        }
    seconds = time.perf_counter() - start
    text = f"{project.folder}: {counted(len(indices), 'frame')} exported to {out} ({format_name}) in {in_time(seconds)}"
    print(json.dumps(record) if as_json else text)


def _frames_to_export(project: Project, text: str) -> Sequence[int]:
    """Frame indices from "corrected", or from what `parse_frames` reads."""
    from surgicalsam_napari.store.corrections import corrected_frames

    if text.strip().casefold() == "corrected":
        corrected = corrected_frames(project)
        if not corrected:
            raise ExchangeError(
                f"{project.folder.name} has no frame that a person edited or verified. Correct some frames, or export all "
                "frames (--frames all)."
            )
        return corrected
    from surgicalsam_napari.inference.frame_selection import FRAMES_EXPECTATION, is_frames_text, parse_frames

    if not is_frames_text(text):
        raise ExchangeError(f'{FRAMES_EXPECTATION}, or "corrected"; got "{text}".')
    return parse_frames(text, len(project.labels))


@app.command("convert", cls=ExportCommand)
def convert_labels(
    dataset_path: Annotated[Path, typer.Argument(metavar="DATASET", help="A dataset's folder, or its file.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the new dataset.")],
    format_name: Annotated[str, typer.Option("--format", metavar="NAME", callback=_checked_format)],
    classes: Classes = None,
    only: OnlyClasses = None,
    polygons: Polygons = False,
    no_images: NoImages = False,
    unannotated: Unannotated = "alone",
    overlaps: Overlaps = None,
    frame_pattern: FramePattern = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Convert a dataset of any known format into another one, without a project: all frames, or none.

    Frames of several videos stay apart by their names, such as clip-1_00012.
    """
    from surgicalsam_napari.exchange.converting import convert_frames
    from surgicalsam_napari.exchange.registry import open_dataset

    start = time.perf_counter()
    whole = open_dataset(dataset_path, classes=class_set_named(classes), frame_pattern=frame_pattern)
    dataset = (whole if unannotated == "empty" else whole.without_unannotated()).with_overlaps(overlaps)
    reports = convert_frames(
        dataset,
        out,
        format_name,
        class_ids=_class_ids(dataset.classes, only),
        polygons=polygons,
        images=not no_images,
        overwrite=overwrite,
    )
    for _report in with_progress(reports, f"converting {dataset.path.name}"):
        pass
    seconds, left_alone = time.perf_counter() - start, len(whole.frames) - len(dataset.frames)
    record = {
        "dataset": str(dataset.path),
        "from": dataset.format,
        "out": str(out),
        "format": format_name,
        "frames": len(dataset.frames),
        "sequences": list(dataset.sequences),
        "left_out": left_alone,
        "skipped": [{"what": one.what, "count": one.count} for one in dataset.skipped],
        "seconds": round(seconds, 3),
    }
    text = (
        f"{dataset.path}: {counted(len(dataset.frames), 'frame')} converted to {out} ({format_name}) in {in_time(seconds)}"
    )
    if left_alone:
        text += f"; {counted(left_alone, 'frame')} without annotations left out"
    for one in dataset.skipped:
        text += f"; skipped: {one.count:,} {one.what}"
    print(json.dumps(record) if as_json else text)


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
    from surgicalsam_napari.exchange.import_plan import ImportChoices
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
        with _project_for(path, dataset.classes, project_folder, dry_run=dry_run) as project:
            plan = _plan(project, dataset, sequence, choices)
            if dry_run:
                _show(plan, project, as_json)
                return
            plan.check_ready()
            kept = _import_all(project, plan)
            record = {
                "dataset": str(dataset.path),
                "format": dataset.format,
                "project": str(project.folder),
                "frames": len(plan.frames),
                "kept_pixels": kept,
                "left_alone": len(plan.left_alone),
                "skipped": [{"what": one.what, "count": one.count} for one in dataset.skipped],
                "new_classes": [instrument.name for instrument in plan.new_classes],
                "seconds": round(time.perf_counter() - start, 3),
            }
    except ExchangeError as error:
        _list_problems(error)
        raise
    frames_text, seconds = counted(len(plan.frames), "frame"), time.perf_counter() - start
    text = f"{dataset.path}: {frames_text} imported into {project.folder} in {in_time(seconds)}"
    if kept:
        text += f"; {counted(kept, 'pixel')} painted or verified by a person stayed"
    if plan.left_alone:
        text += f"; {counted(len(plan.left_alone), 'frame')} without annotations left alone"
    for one in dataset.skipped:
        text += f"; skipped {one.what}: {one.count:,}"
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


def _import_all(project: Project, plan: ImportPlan) -> int:
    """Write all frames; returns how many pixels stayed because a person painted or verified them."""
    from surgicalsam_napari.exchange.importing import import_frames

    reports = with_progress(import_frames(project, plan), f"importing {plan.dataset.path.name}")
    return sum(report.kept_pixels for report in reports)


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
    from surgicalsam_napari.session import is_project_folder
    from surgicalsam_napari.store import Project

    if is_project_folder(path):
        with Project.open(path, require_video=False) as project:
            yield project
        return
    folder = Project.default_folder(path)
    if project_folder is not None:
        folder = project_folder if is_project_folder(project_folder) else project_folder / folder.name
    is_new = not folder.exists()
    if is_new and dry_run:
        with TemporaryDirectory() as place, _opened_or_created(path, classes, Path(place) / folder.name) as project:
            yield project
        return
    try:
        with _opened_or_created(path, classes, folder) as project:
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
