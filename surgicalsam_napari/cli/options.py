"""Options and arguments that several commands share, and the functions that read them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

import surgicalsam_napari
from surgicalsam_napari import instruments
from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.instruments import CLASS_SETS, ClassSet
from surgicalsam_napari.model.encoders import is_checkpoint_name


def _checked_frames_text(text: str) -> str:
    from surgicalsam_napari.inference.frame_selection import FRAMES_EXPECTATION, is_frames_text

    if not is_frames_text(text):
        raise typer.BadParameter(f'{FRAMES_EXPECTATION}; got "{text}".')
    return text


def _print_version(asked: bool) -> None:
    if asked:
        print(f"surgicalsam-napari {surgicalsam_napari.__version__}")
        raise typer.Exit


def _checked_cluster(address: str | None) -> str | None:
    if address is not None and address.startswith("local:") and not re.fullmatch(r"local:[1-9]\d*", address):
        raise typer.BadParameter(f'"local:N" needs a number of processes, such as local:2; got "{address}".')
    return address


def _bundled_or_file(checkpoint: Path | None) -> Path | None:
    """A bundled checkpoint's file instead of its name; other paths are left for the command to check."""
    if checkpoint is None or not is_checkpoint_name(checkpoint):
        return checkpoint
    from surgicalsam_napari.model.zoo import checkpoint_path

    return checkpoint_path(checkpoint)


Version = Annotated[
    bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version and exit.")
]
Videos = Annotated[list[Path], typer.Argument(metavar="VIDEO...", help="Videos, folders of images, or project folders.")]
Frames = Annotated[
    str,
    typer.Option(
        "--frames", metavar="FRAMES", callback=_checked_frames_text, help='"all", a frame number, or start:stop:step.'
    ),
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint",
        metavar="FILE",
        callback=_bundled_or_file,
        help="A file, or light (the default): the bundled weights.",
    ),
]
EncoderWeights = Annotated[
    Path | None,
    typer.Option(
        "--encoder-weights", metavar="FILE", help="Weights of SAM or a distilled SAM, if not in the models folder."
    ),
]
Classes = Annotated[
    str | None,
    typer.Option("--classes", metavar="YAML", help=f"Class set: a YAML file, or one of {', '.join(CLASS_SETS)}."),
]
FramePattern = Annotated[
    str | None,
    typer.Option(
        "--frame-pattern",
        metavar="PATTERN",
        help='How to read the names of the frames if that is not clear, such as "{video}_{frame}_*" or "case-{time}".',
    ),
]
Overlaps = Annotated[
    str | None,
    typer.Option(
        "--overlaps",
        metavar="ORDER",
        help="Which of two overlapping masks is on top: file-order (the later one), larger-below (the smaller one), or the "
        "name of a class.",
    ),
]
Unannotated = Annotated[
    Literal["alone", "empty"],
    typer.Option("--unannotated", help="Frames without any annotation: leave them alone, or they show no instrument."),
]
ProjectFolder = Annotated[
    Path | None,
    typer.Option("--project-folder", metavar="DIR", help="Folder for the projects. Default: next to the videos."),
]
ExistingProject = Annotated[Path, typer.Argument(metavar="PROJECT", help="A project folder, or the video it belongs to.")]
Device = Annotated[
    str, typer.Option("--device", metavar="NAME", help="Compute device: auto, cpu, cuda, cuda:1, ... or mps.")
]
DeviceOrWorker = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="NAME",
        help="Compute device: auto, cpu, cuda, cuda:1, ... or mps; or HOST:PORT of a `surgicalsam worker`, which then "
        "embeds the frames.",
    ),
]
Certificates = Annotated[
    Path | None,
    typer.Option(
        "--certificates",
        metavar="DIR",
        help="For a worker: the folder with this machine's certificates. Default: the one used with it before.",
    ),
]
WhenLost = Annotated[
    Literal["wait", "local", "stop"],
    typer.Option(
        "--if-lost",
        help="If the worker no longer answers: wait until it does, go on with this machine, or stop. Finished frames stay.",
    ),
]
Fast = Annotated[bool, typer.Option("--fast", help="Use bfloat16: nearly the same masks. Only for GPUs, and CPUs with AMX.")]
OnCluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ADDRESS",
        callback=_checked_cluster,
        help="Run on a Dask cluster: the address of its scheduler, or local:N for N processes on this machine.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as a JSON object, in the last line of output.")]


def class_set_named(classes: str | None) -> ClassSet | None:
    """The class set that --classes names: a known set, or a YAML file; a ClassSetError if it is neither."""
    if classes is None:
        return None
    return instruments.class_set_named(classes)


def existing_project(path: Path) -> Path:
    """The project folder that a PROJECT argument means; a ProjectError if there is none."""
    from surgicalsam_napari.store.locating import is_project_folder, project_of  # here, because it imports PyAV and NumPy

    folder = path if is_project_folder(path) else project_of(path)
    if not folder.is_dir():
        raise ProjectError(
            f"There is no project {folder}. Give a .surgicalsam folder, or create a project with `surgicalsam segment`."
        )
    return folder
