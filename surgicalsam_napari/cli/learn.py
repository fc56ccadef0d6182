"""`surgicalsam learn`: a model of a project's own classes from a few corrected frames, in seconds to a minute."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from surgicalsam_napari.cli.commands import app
from surgicalsam_napari.cli.options import AsJson, Checkpoint, Device, EncoderWeights, existing_project
from surgicalsam_napari.cli.terminal import progress, with_outcome
from surgicalsam_napari.cli.videos import VOTING
from surgicalsam_napari.formatting import counted, in_time

if TYPE_CHECKING:
    from surgicalsam_training.config import TrainingConfig
    from surgicalsam_training.learn import Learned

ONLY_PREDICTIONS = (
    "surgicalsam: all corrected frames are verified and unchanged. These are a model's own masks: there is nothing new to "
    "learn from. Correct a frame in which a mask is wrong."
)


@app.command("learn")
def learn(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PROJECT...", help="Project folders, or the videos they belong to, with corrected frames."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="New folder for the checkpoint; needed for several projects. Default: in the project's folder training.",
        ),
    ] = None,
    segment: Annotated[
        bool,
        typer.Option(
            "--segment",
            help="Then predict all frames that nobody corrected with the new checkpoint, and fill between corrected frames.",
        ),
    ] = False,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--classes",
            metavar="NAME",
            help="Learn only this class; others count as background. May be given several times. Default: all that the "
            "corrected frames show.",
        ),
    ] = None,
    trust: Annotated[
        Literal["frame", "class"],
        typer.Option(
            "--trust", help="frame: all labels of a corrected frame are used; class: only its edited or verified classes."
        ),
    ] = "frame",
    vote: Annotated[
        bool,
        typer.Option(
            "--vote/--no-vote",
            help="After --segment: let neighbouring frames vote on the class of each instrument; parts do not vote. "
            "Default: --vote.",
        ),
    ] = True,
    checkpoint: Checkpoint = None,
    encoder_weights: EncoderWeights = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Learn from the corrected frames of projects. The new checkpoint knows the classes that these frames show.

    All corrected frames take part, every time, so nothing is forgotten. Of --checkpoint only the image encoder matters.
    """
    from surgicalsam_training.config import parse_config

    if out is None and len(paths) > 1:
        raise typer.BadParameter("several projects need a folder for their checkpoint.", param_hint="--out")
    projects = [existing_project(path) for path in paths]
    settings: dict[str, Any] = {"data": projects, "trust": trust, "device": device}
    settings |= {"checkpoint": checkpoint, "encoder_weights": encoder_weights}
    if classes:
        settings |= {"classes": classes, "ignored_classes": _other_classes(projects, classes)}
    config = parse_config(settings)
    if all(_has_only_predictions(folder) for folder in projects):
        print(ONLY_PREDICTIONS, file=sys.stderr)
    learned = _learn(config, out)
    again = {}
    if segment:
        again = {
            str(folder): _segment(folder, learned, encoder_weights, device, forgets_others=not classes, vote=vote)
            for folder in projects
        }
    if as_json:
        counts = {
            "predicted_again": {folder: frames for folder, (frames, _) in again.items()},
            "voted": {folder: voted for folder, (_, voted) in again.items()},
        }
        print(json.dumps({**asdict(learned), "checkpoint": str(learned.checkpoint), **counts}))
        return
    print(result_text(learned))
    for folder, (frames, voted) in again.items():
        text = f"{counted(frames, 'frame')} predicted again in {folder}"
        print(text + (f"; the vote over time changed {counted(voted, 'region')}" if voted else ""))
    print(learned.checkpoint)


def result_text(learned: Learned) -> str:
    """What was learned, how good it is expected to be, and what is weak."""
    names = ", ".join(learned.classes)
    lines = [f"learned {names} from {counted(learned.frame_count, 'corrected frame')} in {in_time(learned.seconds)}"]
    if learned.expected_iou:
        lines.append("IoU on corrected frames that were left out in turn:")
        lines += [f"  {name:<26}{iou:9.1f}" for name, iou in learned.expected_iou.items()]
    return "\n".join([*lines, *learned.warnings])


def _has_only_predictions(folder: Path) -> bool:
    """Whether all corrected frames of a project were verified without a change."""
    from surgicalsam_napari.store import Project
    from surgicalsam_napari.store.corrections import corrected_frames, unchanged_frames

    with Project.open(folder, require_video=False) as project:
        return 0 < len(corrected_frames(project)) == len(unchanged_frames(project))


def _other_classes(projects: Sequence[Path], names: Sequence[str]) -> list[str]:
    """The names of the projects' classes that are not among these."""
    from surgicalsam_napari.store import Project

    found: dict[str, None] = {}
    for folder in projects:
        with Project.open(folder, require_video=False) as project:
            wanted = {known.id for name in names if (known := project.classes.find(name)) is not None}
            found |= dict.fromkeys(instrument.name for instrument in project.classes if instrument.id not in wanted)
    return list(found)


def _learn(config: TrainingConfig, out: Path | None) -> Learned:
    """Learn, with progress bars on stderr."""
    from surgicalsam_training.learn import Learned, learn_from, new_run
    from surgicalsam_training.run.run_folder import RunFolder

    run = RunFolder.create(out, config) if out is not None else new_run(config.data[0], config)
    learned = None
    with closing(learn_from(run)) as reports, progress() as advance:
        for report in reports:
            if isinstance(report, Learned):
                learned = report
            else:
                advance(report.phase, report.done, report.total)
    assert learned is not None
    return learned


def _segment(
    folder: Path,
    learned: Learned,
    encoder_weights: Path | None,
    device: str,
    *,
    forgets_others: bool,
    vote: bool,
) -> tuple[int, int]:
    """Predict the frames of a project that nobody corrected; their number, and how many regions the vote changed."""
    from surgicalsam_napari.session import Session
    from surgicalsam_napari.store.corrections import untouched_frames
    from surgicalsam_napari.tracking.predict_and_fill import predict_and_fill

    with Session() as session:
        project = session.open(folder)
        model = session.load_checkpoint(learned.checkpoint, encoder_weights=encoder_weights, device=device)
        frames, voted = untouched_frames(project), None
        if frames:
            voting_frames = None if vote else ()
            reports = predict_and_fill(project, model, frames, forgets_others=forgets_others, voting_frames=voting_frames)
            voted = with_outcome(reports, lambda report: f"{_doing(report)} {project.video.info.path.name}")
    return len(frames), 0 if voted is None else voted.changed


def _doing(report: object) -> str:
    """What a report of `predict_and_fill` is about."""
    from surgicalsam_napari.propagation.fill_between import FillReport
    from surgicalsam_napari.tracking.link_instances import TrackReport

    if isinstance(report, TrackReport):
        return VOTING
    return "filling" if isinstance(report, FillReport) else "predicting"
