"""`surgicalsam overlay`: writes a video or a picture with the masks over the frames."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from surgicalsam_napari.cli.commands import app
from surgicalsam_napari.cli.options import AsJson, ExistingProject, Frames, existing_project
from surgicalsam_napari.cli.terminal import print_notice, with_progress
from surgicalsam_napari.errors import VideoError
from surgicalsam_napari.formatting import counted, in_time


@app.command("overlay")
def overlay(
    project_path: ExistingProject,
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="The video to write, such as clip.mp4; a name in .png for one frame.")
    ],
    frames: Frames = "all",
    opacity: Annotated[
        float | None, typer.Option("--opacity", min=0, max=1, help="Of the masks: 0.5, or 1 for outlines.")
    ] = None,
    outlines: Annotated[bool, typer.Option("--outlines/--filled", help="Draw only the outlines of the masks.")] = False,
    names: Annotated[bool, typer.Option("--names/--no-names", help="Write the names of the classes.")] = True,
    class_names: Annotated[
        list[str] | None,
        typer.Option("--class", "--classes", metavar="NAME", help="A class to draw; may be given several times."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a video with the masks over its frames, at the speed of the original; or a picture of one frame."""
    from surgicalsam_napari.inference.frame_selection import parse_frames
    from surgicalsam_napari.overlay import OverlayStyle, write_overlay_picture, write_overlay_video
    from surgicalsam_napari.overlay.writing import is_picture
    from surgicalsam_napari.store import Project

    if out.exists() and not overwrite:
        raise VideoError(f"{out} already exists. Choose another name, or replace it with --overwrite.")
    start = time.perf_counter()
    with Project.open(existing_project(project_path)) as project:
        print_notice(project)
        class_ids = tuple(project.classes.by_name(name).id for name in class_names) if class_names else None
        style = OverlayStyle((1.0 if outlines else 0.5) if opacity is None else opacity, outlines, names, class_ids)
        indices = parse_frames(frames, len(project.labels))
        indices = indices if indices.step > 0 else indices[::-1]
        if not is_picture(out):
            reports = write_overlay_video(project, out, indices, style)
            for _report in with_progress(reports, f"drawing {project.folder.name}"):
                pass
        elif len(indices) == 1:
            write_overlay_picture(project, out, indices[0], style)
        else:
            raise VideoError(
                f"A picture shows one frame; {counted(len(indices), 'frame')} are chosen. Give --frames N, or write a video."
            )
        seconds = time.perf_counter() - start
        record = {
            "project": str(project.folder),
            "out": str(out),
            "frames": len(indices),
            "seconds": round(seconds, 3),
        }
    text = f"{project.folder}: {counted(len(indices), 'frame')} with masks written to {out} in {in_time(seconds)}"
    print(json.dumps(record) if as_json else text)
