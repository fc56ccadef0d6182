"""`surgicalsam export` and `convert`: write labels of a project as a dataset; make a dataset of another format from one."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
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
    Unannotated,
    class_set_named,
    existing_project,
)
from surgicalsam_napari.cli.terminal import print_notice, with_progress
from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.formatting import counted, in_time
from surgicalsam_napari.instruments import ClassSet

if TYPE_CHECKING:
    from surgicalsam_napari.store import Project


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
    from surgicalsam_napari.exchange.exporting import about_instruments, export_frames
    from surgicalsam_napari.exchange.registry import EXPORT_FORMATS
    from surgicalsam_napari.store import Project
    from surgicalsam_napari.store.checking import check_intact

    start = time.perf_counter()
    with Project.open(existing_project(project_path), require_video=not no_images) as project:
        print_notice(project)
        check_intact(project)
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
            "tracks": len(project.tracks.table.tracks) if EXPORT_FORMATS[format_name].instances else 0,
            "seconds": round(time.perf_counter() - start, 3),
        }
        tracks = about_instruments(project, format_name)
    seconds = time.perf_counter() - start
    text = f"{project.folder}: {counted(len(indices), 'frame')} exported to {out} ({format_name}) in {in_time(seconds)}"
    if tracks:
        text += f". {tracks}"
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
    from surgicalsam_napari.exchange.exporting import lost_in
    from surgicalsam_napari.exchange.registry import EXPORT_FORMATS, open_dataset

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
    if lost := lost_in(
        EXPORT_FORMATS[format_name], has_instances=dataset.has_instances, has_parts=dataset.parts is not None
    ):
        text += f". {lost}"
    print(json.dumps(record) if as_json else text)
