"""The entry point `main`, and the commands `embed`, `segment`, `info` and `demo`."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from surgicalsam_napari.cli.cluster import ModelOptions, run_on_cluster
from surgicalsam_napari.cli.damage import damage_lines, damage_of, damage_record
from surgicalsam_napari.cli.models import models_app
from surgicalsam_napari.cli.options import (
    AsJson,
    Certificates,
    Checkpoint,
    Classes,
    DeviceOrWorker,
    EncoderWeights,
    ExistingProject,
    Fast,
    Frames,
    OnCluster,
    ProjectFolder,
    Version,
    Videos,
    WhenLost,
    class_set_named,
    existing_project,
)
from surgicalsam_napari.cli.terminal import (
    one_line,
    print_error,
    print_notice,
    project_text,
    result_text,
    with_progress,
)
from surgicalsam_napari.cli.videos import VideoTask, embedding, segmenting
from surgicalsam_napari.cli.with_worker import device_record, load_with_worker, print_traffic, with_slow_line_noticed
from surgicalsam_napari.errors import SurgicalSAMError

if TYPE_CHECKING:
    from surgicalsam_napari.session import Session
    from surgicalsam_napari.store import Project

# the commands import torch, zarr etc. only when they need them, so that `--help` and usage errors appear at once

app = typer.Typer(
    help="Segment surgical instruments in video: name a class, get its masks.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(models_app, name="models")

INTERRUPTED = 130
UsageError = typer.BadParameter.__mro__[1]  # typer exports no name for it


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code: 0 done, 1 an error the user can fix, 2 usage, 130 interrupted."""
    command = typer.main.get_command(app)
    try:
        code = command.main(args=arguments, prog_name="surgicalsam", standalone_mode=False)
    except SurgicalSAMError as error:
        return print_error(str(error), 1)
    except OSError as error:  # a disk that fails, a path that cannot be, a link to itself
        what = f"{str(error.filename)[:200]} cannot" if error.filename else "A file cannot"
        return print_error(f"{what} be read or written ({error.strerror or error}). Check the path and the disk.", 1)
    except UsageError as error:  # type: ignore[misc]
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "surgicalsam"
        message = error.format_message().rstrip(".")  # type: ignore[attr-defined]
        return print_error(f"{message}. See {path} --help.", 2)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:
        print("stopped; run the same command again to resume", file=sys.stderr)
    return code if isinstance(code, int) else 0


@app.callback()
def _options(version: Version = False) -> None:
    pass


@app.command()
def embed(
    videos: Videos,
    frames: Frames = "all",
    checkpoint: Checkpoint = None,
    encoder_weights: EncoderWeights = None,
    classes: Classes = None,
    project_folder: ProjectFolder = None,
    device: DeviceOrWorker = "auto",
    certificates: Certificates = None,
    if_lost: WhenLost = "wait",
    fast: Fast = False,
    float32: Annotated[
        bool,
        typer.Option("--float32", help="Keep embeddings as float32: exact, twice the disk space. Else float16."),
    ] = False,
    cluster: OnCluster = None,
    as_json: AsJson = False,
) -> None:
    """Compute the image embeddings of videos, so that segmenting is fast later. Frames with an embedding are skipped."""
    _check_distinct_projects(videos, project_folder)
    options = ModelOptions(checkpoint, encoder_weights, device, class_set_named(classes), fast, certificates, if_lost)
    with _session(options, cluster) as session:
        _for_each_video(
            videos,
            embedding(session, frames, "float32" if float32 else None),
            session,
            project_folder,
            options,
            cluster,
            as_json,
        )


@app.command()
def segment(
    videos: Videos,
    class_names: Annotated[
        list[str] | None, typer.Option("--class", metavar="NAME", help="Class to segment. May be given several times.")
    ] = None,
    all_classes: Annotated[bool, typer.Option("--all", help="Segment every class that the checkpoint knows.")] = False,
    frames: Frames = "all",
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Also write an indexed PNG per frame (several videos: a folder each)."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also predict frames that this checkpoint has already predicted.")
    ] = False,
    vote: Annotated[
        bool,
        typer.Option(
            "--vote/--no-vote",
            help="After three or more frames in a row, let them vote on the class of each instrument; parts do not vote. "
            "Default: --vote.",
        ),
    ] = True,
    checkpoint: Checkpoint = None,
    encoder_weights: EncoderWeights = None,
    classes: Classes = None,
    project_folder: ProjectFolder = None,
    device: DeviceOrWorker = "auto",
    certificates: Certificates = None,
    if_lost: WhenLost = "wait",
    fast: Fast = False,
    cluster: OnCluster = None,
    as_json: AsJson = False,
) -> None:
    """Segment instrument classes in videos and store the masks in their projects. Pixels that a person painted stay."""
    if bool(class_names) == all_classes:
        raise typer.BadParameter("name the classes with --class NAME, or use --all.", param_hint="--class / --all")
    if out is not None and len(videos) > 1:
        _check_distinct_names(videos)
    _check_distinct_projects(videos, project_folder)

    def folder_of(path: Path) -> Path | None:
        return out if out is None or len(videos) == 1 else out / path.stem

    options = ModelOptions(checkpoint, encoder_weights, device, class_set_named(classes), fast, certificates, if_lost)
    with _session(options, cluster) as session:
        task = segmenting(session, class_names or [], frames, again, options.classes, folder_of, vote=vote)
        _for_each_video(videos, task, session, project_folder, options, cluster, as_json)


@app.command()
def info(
    project_path: ExistingProject,
    as_json: AsJson = False,
) -> None:
    """Show what a project contains: video, classes, predicted, edited and verified frames, embeddings, checkpoints.

    Ends with 1 if something in it is damaged, and names it.
    """
    from surgicalsam_napari.store import Project

    project = Project.open(existing_project(project_path), require_video=False)
    try:
        record = _project_record(project)
        found = damage_of(project)
    finally:
        project.close()
    record["damaged"] = [damage_record(damage) for damage in found]
    print(json.dumps(record) if as_json else project_text(record))
    for line in damage_lines(found):
        print(line, file=sys.stderr)
    if found:
        raise typer.Exit(1)


def _project_record(project: Project) -> dict:
    from surgicalsam_napari.store.checking import project_and_parts

    manifest = project.manifest
    parts = project_and_parts(project)[0][1:]
    return {
        "project": str(project.folder),
        "video": str(manifest.video_path),
        "frames": project.labels.shape[0],
        "size": list(project.labels.shape[1:]),
        "class_set": project.classes.to_json(),
        "provenance": _counts(project),
        **({"parts": {"project": str(parts[0].folder), "provenance": _counts(parts[0])}} if parts else {}),
        "embeddings": [
            {
                "encoder_digest": store.encoder_digest,
                "shape": list(store.shape[1:]),
                "frames": store.valid_count,
                "bytes": store.disk_bytes,
            }
            for store in project.embedding_stores()
        ],
        "checkpoints": list(manifest.checkpoints),
        "disk_bytes": _disk_bytes(project.folder),
    }


def _counts(project: Project) -> dict[str, dict[str, int]]:
    """By class and provenance, the number of frames."""
    from surgicalsam_napari.store import Provenance

    table = project.labels.provenance_table()
    return {
        instrument.name: {kind.name.lower(): int((table[:, column] == kind).sum()) for kind in Provenance}
        for column, instrument in enumerate(project.classes)
    }


def _disk_bytes(folder: Path) -> int:
    """Allocated bytes if the system reports them, else file sizes; a file shared with snapshots counts once."""
    sizes = {}
    for parent, _folders, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # a run may be writing meanwhile
                status = os.stat(os.path.join(parent, name))
                allocated = status.st_blocks * 512 if hasattr(status, "st_blocks") else status.st_size
                sizes[status.st_dev, status.st_ino] = allocated
    return sum(sizes.values())


@app.command()
def demo(
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="Also write a screenshot, a video and the project to this folder."),
    ] = None,
) -> None:
    """Open napari with a sample clip and segment it."""
    from surgicalsam_napari.phantom.clip import sample_clip, write_phantom_clip

    try:
        from surgicalsam_napari.widgets.demo import run_demo_window
    except (ImportError, RuntimeError) as error:  # a binding is missing, or needs a missing system library
        raise SurgicalSAMError(
            f"The window needs napari and a Qt binding, but they cannot be loaded ({error}). "
            'Install them: pip install "surgicalsam-napari[all]".'
        ) from error
    print("preparing the sample clip", file=sys.stderr)
    run_demo_window(sample_clip() if output is None else write_phantom_clip(output), output)


@contextmanager
def _session(options: ModelOptions, cluster: str | None) -> Iterator[Session]:
    """A session with its model loaded; project and model are closed at the end."""
    from surgicalsam_napari.model.device import describe_device
    from surgicalsam_napari.remote.address import is_address
    from surgicalsam_napari.session import Session

    if cluster is not None and is_address(options.device):
        raise typer.BadParameter(
            "a worker embeds frames for one machine; the workers of a cluster compute on their own.", param_hint="--device"
        )
    with Session(options.classes) as session:
        if cluster is not None:
            session.use_model(options.load_here())
        elif is_address(options.device):
            load_with_worker(session, options)
        else:
            model = session.load_checkpoint(
                options.checkpoint, encoder_weights=options.encoder_weights, device=options.device, fast=options.fast
            )
            print(f"{model.name} ({model.encoder_id}) on {describe_device(model.device)}", file=sys.stderr)
        if session.model is not None and session.model.caution:
            print(session.model.caution, file=sys.stderr)
        yield session


def _check_distinct_projects(videos: Sequence[Path], project_folder: Path | None) -> None:
    if project_folder is not None and project_folder.suffix == ".surgicalsam" and len(videos) > 1:
        raise typer.BadParameter(
            "several videos cannot share one project; give a folder for their projects.", param_hint="--project-folder"
        )


def _check_distinct_names(videos: Sequence[Path]) -> None:
    stems = [video.stem for video in videos]
    repeated = sorted({stem for stem in stems if stems.count(stem) > 1})
    if repeated:
        raise typer.BadParameter(
            f"several videos are named {', '.join(repeated)} and would share one folder. Run them one by one.",
            param_hint="--out",
        )


def _for_each_video(
    videos: Sequence[Path],
    task: VideoTask,
    session: Session,
    project_folder: Path | None,
    options: ModelOptions,
    cluster: str | None,
    as_json: bool,
) -> None:
    """Work on all videos, even if some fail; report each failure, and exit with code 1 if there is one."""
    if cluster is None:
        failures = _run_here(videos, task, session, project_folder, as_json)
    else:
        failures = run_on_cluster(cluster, videos, task, session, project_folder, options, as_json)
    for failure in failures:
        name = Path(failure["video"]).name
        print_error(failure["error"] if name in failure["error"] else f"{name}: {failure['error']}", 1)
    if failures:
        raise typer.Exit(1)


def _run_here(
    videos: Sequence[Path], task: VideoTask, session: Session, project_folder: Path | None, as_json: bool
) -> list[dict[str, str]]:
    """Work on one video after the other, in this process; returns the failures, with video and error."""
    model = session.model
    assert model is not None
    results: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    for path in videos:
        try:
            project = session.open(path, project_folder=project_folder)
            print_notice(project)
            selected = task.select(path, project)
            start = time.perf_counter()
            reports = with_progress(task.run(project, selected), partial(task.title, path=path))
            for _report in with_slow_line_noticed(reports, model):
                pass
            results.append({"video": str(path), **task.record(path, project, selected, time.perf_counter() - start)})
        except SurgicalSAMError as error:
            failures.append({"video": str(path), "error": one_line(str(error))})
            continue
        if not as_json:
            print(result_text(results[-1]))
    if as_json:
        print(json.dumps({**device_record(model), "checkpoint": model.name, "videos": results, "failures": failures}))
    else:
        print_traffic(model)
    return failures
