"""`surgicalsam statistics`: prints how often, how long and how large each instrument is in a project's video."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from surgicalsam_napari.cli.commands import app
from surgicalsam_napari.cli.options import AsJson, ExistingProject, existing_project
from surgicalsam_napari.cli.terminal import with_progress
from surgicalsam_napari.formatting import counted, in_time

if TYPE_CHECKING:
    from surgicalsam_napari.review.statistics import StatisticsReport, VideoStatistics
    from surgicalsam_napari.store import Project

HEADINGS = ("frames", "time", "mean area", "of picture", "corrected", "verified")


@app.command("statistics")
def statistics(
    project_path: ExistingProject,
    csv_file: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Also write a CSV file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print for each class: frames that show it, time, area, and the frames that a person corrected and verified.

    Areas are in pixels, and in % of the picture without the black border of the endoscope.
    """
    from surgicalsam_napari.store import Project

    with Project.open(existing_project(project_path), require_video=False) as project:
        measured = _measured(project)
        folder = str(project.folder)
    if csv_file is not None:
        measured.write_csv(csv_file)
    if as_json:
        print(json.dumps({"project": folder, "csv": None if csv_file is None else str(csv_file), **asdict(measured)}))
    else:
        print(statistics_text(measured) + (f"\n\nwritten to {csv_file}" if csv_file is not None else ""))


def _measured(project: Project) -> VideoStatistics:
    from surgicalsam_napari.review.statistics import measure_statistics

    measured = []

    def reports() -> Generator[StatisticsReport, None, None]:
        measured.append((yield from measure_statistics(project)))

    for _report in with_progress(reports(), f"counting {project.folder.name}"):
        pass
    return measured[0]


def statistics_text(measured: VideoStatistics) -> str:
    """The table for a terminal."""
    length = "" if measured.seconds is None else f", {in_time(measured.seconds)}"
    lines = [f"{measured.video}: {counted(measured.frame_count, 'frame')}{length}", ""]
    lines.append(f"{'class':<30}" + "".join(f"{heading:>12}" for heading in HEADINGS))
    for entry in measured.classes:
        values = (
            f"{entry.frame_count:,}",
            "–" if entry.seconds is None else f"{entry.seconds:,.2f} s",
            f"{entry.mean_pixels:,.0f} px",
            f"{entry.mean_share:.2%}".replace("%", " %"),
            f"{entry.corrected_count:,}",
            f"{entry.verified_count:,}",
        )
        lines.append(f"{entry.name:<30}" + "".join(f"{value:>12}" for value in values))
    return "\n".join(lines)
