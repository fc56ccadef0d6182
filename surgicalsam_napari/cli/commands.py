"""The command line: each command is a loop over a generator of `inference`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from surgicalsam_napari.cli.options import (
    AsJson,
    Checkpoint,
    Classes,
    Device,
    EncoderWeights,
    ExistingProject,
    Frames,
    ProjectFolder,
    Version,
    Videos,
    class_set_named,
    existing_project,
)
from surgicalsam_napari.cli.terminal import complain, one_line, progress, project_text, result_text, with_bar, with_progress
from surgicalsam_napari.errors import ClassSetError, SurgicalSAMError

if TYPE_CHECKING:
    from surgicalsam_napari.model.surgical_sam import SurgicalSAM
    from surgicalsam_napari.session import Session
    from surgicalsam_napari.store import Project

# torch, zarr and the like are imported by the commands that need them: `--help` and usage errors come at once

app = typer.Typer(
    help="Instrument masks over surgical video: name a class, get its masks.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
models_app = typer.Typer(invoke_without_command=True, help="List the known encoder weights, or download some.")
app.add_typer(models_app, name="models")

INTERRUPTED = 130
UsageError = typer.BadParameter.__mro__[1]  # typer exports no name for it


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code: 0 done, 1 an error the user can mend, 2 usage, 130 interrupted."""
    command = typer.main.get_command(app)
    try:
        code = command.main(args=arguments, prog_name="surgicalsam", standalone_mode=False)
    except SurgicalSAMError as error:
        return complain(str(error), 1)
    except UsageError as error:  # type: ignore[misc]
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "surgicalsam"
        message = error.format_message().rstrip(".")  # type: ignore[attr-defined]
        return complain(f"{message}. See {path} --help.", 2)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:
        print("stopped; run the same command again to go on", file=sys.stderr)
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
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Compute the image embeddings of videos, so that segmenting is quick later. Frames that have one are skipped."""
    with _session(classes, checkpoint, encoder_weights, device) as session:

        def embed_video(path: Path) -> dict:
            return _embed_video(session, path, frames, project_folder)

        _for_each_video(videos, embed_video, session, project_folder, as_json)


def _embed_video(session: Session, path: Path, frames: str, project_folder: Path | None) -> dict:
    from surgicalsam_napari.inference import embed_frames, parse_frames
    from surgicalsam_napari.store import EmbeddingStore

    project, model = session.open(path, project_folder=project_folder), session.model
    assert model is not None
    indices = parse_frames(frames, project.video.info.frame_count)
    _announce(project, model, indices)
    start, embedded = time.perf_counter(), 0
    for _report in with_progress(embed_frames(project, model, indices), f"embedding {path.name}"):
        embedded += 1
    stored = project.embeddings(model.encoder_digest, model.embedding_shape).valid_count
    return {
        "project": str(project.folder),
        "frames": len(indices),
        "embedded": embedded,
        "skipped": len(indices) - embedded,
        "embedding_bytes": stored * EmbeddingStore.bytes_per_frame(model.embedding_shape),
        "seconds": round(time.perf_counter() - start, 3),
    }


@app.command()
def segment(
    videos: Videos,
    class_names: Annotated[
        list[str] | None, typer.Option("--class", metavar="NAME", help="A class to segment; may be given several times.")
    ] = None,
    all_classes: Annotated[bool, typer.Option("--all", help="Every class that the checkpoint knows.")] = False,
    frames: Frames = "all",
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Also write an indexed PNG per frame (a folder per video if several)."),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Predict also what this checkpoint has predicted before.")] = False,
    checkpoint: Checkpoint = None,
    encoder_weights: EncoderWeights = None,
    classes: Classes = None,
    project_folder: ProjectFolder = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Segment instrument classes in videos, into the project folder of each. What a person painted is never changed."""
    if bool(class_names) == all_classes:
        raise typer.BadParameter("name the classes with --class NAME, or take --all.", param_hint="--class / --all")
    if out is not None and len(videos) > 1:
        _check_distinct_names(videos)
    class_set = class_set_named(classes)
    with _session(classes, checkpoint, encoder_weights, device) as session:

        def segment_video(path: Path) -> dict:
            session.open(path, project_folder=project_folder)
            if class_set is not None:
                session.use_class_set(class_set)
            folder = out if out is None or len(videos) == 1 else out / path.stem
            return _segment_video(session, path, class_names or [], frames, folder, again)

        _for_each_video(videos, segment_video, session, project_folder, as_json)


def _segment_video(session: Session, path: Path, class_names: list[str], frames: str, out: Path | None, again: bool) -> dict:
    from surgicalsam_napari.exchange.indexed_png import write_classes
    from surgicalsam_napari.inference import frames_to_segment, parse_frames

    project, model = session.project, session.model
    assert project is not None
    assert model is not None
    indices = parse_frames(frames, project.video.info.frame_count)
    class_ids = [project.classes.by_name(name).id for name in class_names] or _trained_class_ids(session)
    to_segment = indices if again else frames_to_segment(project, model, class_ids, indices)
    _announce(project, model, to_segment)
    if out is not None:
        write_classes(out, project.classes, path.name)  # first, so that a folder that cannot be written shows at once
    start = time.perf_counter()
    for _report in with_progress(session.segment(class_ids, to_segment), f"segmenting {path.name}"):
        pass
    seconds = time.perf_counter() - start
    if out is not None:
        _write_label_maps(project, indices, class_ids if class_names else project.classes.ids, out)
    return {
        "project": str(project.folder),
        "classes": [project.classes.by_id(class_id).name for class_id in class_ids],
        "frames": len(indices),
        "segmented": len(to_segment),
        "skipped": len(indices) - len(to_segment),
        "frames_with_class": _frames_with_class(project, class_ids, indices),
        "out": None if out is None else str(out),
        "seconds": round(seconds, 3),
    }


def _frames_with_class(project: Project, class_ids: Sequence[int], indices: Sequence[int]) -> dict[str, int]:
    """How many of these frames hold each class, predicted now or before or drawn by a person."""
    from surgicalsam_napari.store import Provenance

    table = project.labels.provenance_table()[list(indices)]
    columns = {class_id: table[:, project.classes.ids.index(class_id)] for class_id in class_ids}
    counts = {class_id: int((kinds > Provenance.ABSENT).sum()) for class_id, kinds in columns.items()}
    return {project.classes.by_id(class_id).name: count for class_id, count in counts.items()}


def _announce(project: Project, model: SurgicalSAM, indices: Sequence[int]) -> None:
    from surgicalsam_napari.inference.units import in_units
    from surgicalsam_napari.store import EmbeddingStore, free_bytes

    missing = len(project.embeddings(model.encoder_digest, model.embedding_shape).missing(list(indices)))
    if missing:
        needed = in_units(missing * EmbeddingStore.bytes_per_frame(model.embedding_shape))
        free = in_units(free_bytes(project.folder))
        print(f"{missing} frames to embed: {needed} in {project.folder}, {free} free", file=sys.stderr)


def _trained_class_ids(session: Session) -> list[int]:
    trained = session.trained_class_ids()
    untrained = [instrument.name for instrument in session.classes if instrument.id not in trained]
    assert session.model is not None
    if not trained:
        raise ClassSetError(
            f"{session.model.name} knows none of this project's classes ({', '.join(session.classes.names)}); it knows "
            f"{', '.join(session.model.classes.names)}. Choose another checkpoint, or give its class set with --classes."
        )
    if untrained:
        print(f"not yet trained, left out: {', '.join(untrained)}", file=sys.stderr)
    return trained


def _write_label_maps(project: Project, indices: Sequence[int], class_ids: Sequence[int], out: Path) -> None:
    """Label maps of these frames as they are in the project, a person's edits included; other classes are left out."""
    import numpy as np

    from surgicalsam_napari.exchange.indexed_png import write_label_map

    for index in with_bar(indices, f"writing {out}"):
        label_map = np.asarray(project.labels[index])
        write_label_map(out, index, np.where(np.isin(label_map, class_ids), label_map, 0), project.classes)


@app.command()
def info(
    project_path: ExistingProject,
    as_json: AsJson = False,
) -> None:
    """Say what is in a project: video, classes, what was predicted, edited and verified, embeddings, checkpoints."""
    from surgicalsam_napari.store import Project

    project = Project.open(existing_project(project_path), require_video=False)
    try:
        record = _project_record(project)
    finally:
        project.close()
    print(json.dumps(record) if as_json else project_text(record))


def _project_record(project: Project) -> dict:
    from surgicalsam_napari.store import Provenance

    table = project.labels.provenance_table()
    counts = {
        instrument.name: {kind.name.lower(): int((table[:, column] == kind).sum()) for kind in Provenance}
        for column, instrument in enumerate(project.classes)
    }
    manifest = project.manifest
    return {
        "project": str(project.folder),
        "video": str(manifest.video_path),
        "frames": project.labels.shape[0],
        "size": list(project.labels.shape[1:]),
        "class_set": project.classes.to_json(),
        "provenance": counts,
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


def _disk_bytes(folder: Path) -> int:
    """Bytes allocated, where the system tells (files of embeddings are sparse), else their lengths."""
    total = 0
    for path in folder.rglob("*"):
        if path.is_file():
            status = path.stat()
            total += status.st_blocks * 512 if hasattr(status, "st_blocks") else status.st_size
    return total


@models_app.callback()
def models(context: typer.Context, as_json: AsJson = False) -> None:
    """List the known encoder weights with their size and where they are."""
    if context.invoked_subcommand is not None:
        return
    from surgicalsam_napari.inference.units import in_units
    from surgicalsam_napari.model.zoo import KNOWN_WEIGHTS, find_weights, models_folder

    found = {name: find_weights(name) for name in KNOWN_WEIGHTS}
    if as_json:
        weights = [
            {
                "name": known.name,
                "title": known.title,
                "encoder_id": known.encoder_id,
                "size_bytes": known.size_bytes,
                "url": known.url,
                "path": None if found[name] is None else str(found[name]),
            }
            for name, known in KNOWN_WEIGHTS.items()
        ]
        print(json.dumps({"folder": str(models_folder()), "weights": weights}))
        return
    for name, known in KNOWN_WEIGHTS.items():
        print(f"{name:<12}{known.title:<28}{in_units(known.size_bytes):>9}   {found[name] or 'not downloaded'}")
    print(f"\nfolder: {models_folder()} (set SURGICALSAM_MODELS to use another)")


@models_app.command()
def download(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As listed by `surgicalsam models`.")],
    folder: Annotated[Path | None, typer.Option("--folder", metavar="DIR", help="Default: the models folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Download known weights; a download that was cut is gone on with."""
    from surgicalsam_napari.model.zoo import KNOWN_WEIGHTS, download_weights, find_weights

    if name not in KNOWN_WEIGHTS:
        known = ", ".join(KNOWN_WEIGHTS)
        raise typer.BadParameter(f'no known weights are called "{name}"; known are {known}.', param_hint="NAME")
    path = find_weights(name) if folder is None else None
    with progress(in_bytes=True) as advance:
        for report in [] if path is not None else download_weights(name, folder=folder):
            advance(f"downloading {name}", report.done_bytes, report.total_bytes)
            path = report.path
    print(json.dumps({"name": name, "path": str(path)}) if as_json else path)


@app.command()
def demo(
    output: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="Also write a screenshot, a video and the project here.")
    ] = None,
) -> None:
    """Open napari with a sample clip, and segment it."""
    from surgicalsam_napari.phantom import write_phantom_clip

    try:
        from surgicalsam_napari.widgets.demo import run_demo_window
    except (ImportError, RuntimeError) as error:  # a binding that is missing, or lacks a library of the system
        raise SurgicalSAMError(
            f'The window needs napari and a Qt binding, which do not load ({error}): pip install "surgicalsam-napari[all]".'
        ) from error
    print("preparing the sample clip", file=sys.stderr)
    run_demo_window(write_phantom_clip(output or _demo_folder()), output)


def _demo_folder() -> Path:
    import pooch

    return Path(pooch.os_cache("surgicalsam-napari")) / "demo"


@contextmanager
def _session(classes: str | None, checkpoint: Path | None, encoder_weights: Path | None, device: str) -> Iterator[Session]:
    """A session with its model loaded; project and model are let go at the end."""
    class_set = class_set_named(classes)
    from surgicalsam_napari.model.device import describe_device
    from surgicalsam_napari.session import Session

    with Session(class_set) as session:
        model = session.load_checkpoint(checkpoint, encoder_weights=encoder_weights, device=device)
        print(f"{model.name} ({model.encoder_id}) on {describe_device(model.device)}", file=sys.stderr)
        yield session


def _check_distinct_names(videos: Sequence[Path]) -> None:
    stems = [video.stem for video in videos]
    repeated = sorted({stem for stem in stems if stems.count(stem) > 1})
    if repeated:
        raise typer.BadParameter(
            f"several videos are called {', '.join(repeated)}, and would share a folder. Run them one by one.",
            param_hint="--out",
        )


def _for_each_video(
    videos: Sequence[Path], work: Callable[[Path], dict], session: Session, project_folder: Path | None, as_json: bool
) -> None:
    """Work on one video after the other, past those that fail; tell of each, and end with exit code 1 if any failed."""
    if project_folder is not None and project_folder.suffix == ".surgicalsam" and len(videos) > 1:
        raise typer.BadParameter("several videos cannot share a project; name a folder.", param_hint="--project-folder")
    from surgicalsam_napari.model.device import describe_device

    results: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    for path in videos:
        try:
            results.append({"video": str(path), **work(path)})
        except SurgicalSAMError as error:
            failures.append({"video": str(path), "error": one_line(str(error))})
            continue
        if not as_json:
            print(result_text(results[-1]))
    for failure in failures:
        name = Path(failure["video"]).name
        complain(failure["error"] if name in failure["error"] else f"{name}: {failure['error']}", 1)
    if as_json:
        assert session.model is not None
        device = describe_device(session.model.device)
        print(json.dumps({"device": device, "checkpoint": session.model.name, "videos": results, "failures": failures}))
    if failures:
        raise typer.Exit(1)
