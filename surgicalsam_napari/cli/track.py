"""`surgicalsam track`: follows the instances of a project over time, and lets time judge their classes."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer

from surgicalsam_napari.cli.commands import app
from surgicalsam_napari.cli.options import AsJson, ExistingProject, Frames, existing_project
from surgicalsam_napari.cli.terminal import with_outcome
from surgicalsam_napari.formatting import in_time


@app.command("track")
def track(
    project_path: ExistingProject,
    frames: Frames = "all",
    vote: Annotated[
        bool, typer.Option("--vote/--no-vote", help="Let the frames of a track vote on its class. Default: --vote.")
    ] = True,
    smooth: Annotated[bool, typer.Option("--smooth", help="Also smooth masks that flicker.")] = False,
    as_json: AsJson = False,
) -> None:
    """Follow each instrument over time: which needle driver is which. What a person said or painted stays.

    The vote puts the class of single frames right, fills gaps of a few frames and removes flicker. One undo takes it back.
    """
    from surgicalsam_napari.inference import parse_frames
    from surgicalsam_napari.session import Session
    from surgicalsam_napari.tracking.track import track as tracking

    with Session() as session:
        project = session.open(existing_project(project_path))
        indices = parse_frames(frames, project.video.info.frame_count)
        start = time.perf_counter()
        outcome = with_outcome(tracking(project, indices, vote=vote, smooth=smooth), f"tracking {project.folder.name}")
        seconds = round(time.perf_counter() - start, 3)
        record = {
            "project": str(project.folder),
            "frames": len(indices),
            "tracks": len(project.tracks.table.tracks),
            "cuts": list(outcome.linked.cuts),
            "without_number": list(outcome.linked.without_number),
            "relabelled": None if outcome.voted is None else len(outcome.voted.relabelled),
            "filled": None if outcome.voted is None else len(outcome.voted.filled),
            "removed": None if outcome.voted is None else len(outcome.voted.removed),
            "smoothed": None if outcome.smoothed is None else len(outcome.smoothed.changed),
            "seconds": seconds,
        }
    print(json.dumps(record) if as_json else f"{outcome} {in_time(seconds)}; project {record['project']}")
