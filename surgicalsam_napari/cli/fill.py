"""`surgicalsam fill`: carries corrected masks into the frames between the corrected frames of a project."""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing
from typing import Annotated

import typer

from surgicalsam_napari.cli.commands import app
from surgicalsam_napari.cli.options import AsJson, Checkpoint, Device, EncoderWeights, ExistingProject, existing_project
from surgicalsam_napari.cli.terminal import progress
from surgicalsam_napari.formatting import in_time


@app.command("fill")
def fill(
    project_path: ExistingProject,
    class_names: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="NAME", help="Class to fill. May be given several times. Default: all."),
    ] = None,
    most_frames: Annotated[
        int | None,
        typer.Option("--most-frames", metavar="N", min=1, help="Carry a corrected frame at most so far. Default: 200."),
    ] = None,
    checkpoint: Checkpoint = None,
    encoder_weights: EncoderWeights = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Carry corrected masks into the frames between corrected frames. What a person painted stays.

    With --checkpoint, its embeddings help where instruments move fast; else optical flow works alone.
    """
    from surgicalsam_napari.session import Session

    with Session() as session:
        project = session.open(existing_project(project_path))
        class_ids = [project.classes.by_name(name).id for name in class_names or project.classes.names]
        if checkpoint is not None:
            model = session.load_checkpoint(checkpoint, encoder_weights=encoder_weights, device=device)
            if model.caution:
                print(model.caution, file=sys.stderr)
        start = time.perf_counter()
        with closing(session.fill_between(class_ids, most_frames=most_frames)) as reports, progress() as advance:
            while True:
                try:
                    report = next(reports)
                except StopIteration as stop:
                    outcome = stop.value
                    break
                advance(f"filling {project.folder.name}", report.done, report.total)
        record = {
            "project": str(project.folder),
            "classes": [project.classes.by_id(class_id).name for class_id in class_ids],
            "filled": len(outcome.filled),
            "gaps": outcome.gaps,
            "left": len(outcome.left),
            "seconds": round(time.perf_counter() - start, 3),
        }
    print(json.dumps(record) if as_json else f"{outcome} {in_time(record['seconds'])}; project {record['project']}")
