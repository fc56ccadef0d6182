"""`surgicalsam models`: lists the weights and shared models of this machine; downloads, adds, shares and removes them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from surgicalsam_napari.cli.options import AsJson
from surgicalsam_napari.cli.terminal import progress

if TYPE_CHECKING:
    from surgicalsam_napari.model.downloading import DownloadReport
    from surgicalsam_napari.model.shared_models import SharedModel

models_app = typer.Typer(
    invoke_without_command=True, help="List the weights and shared models of this machine; download, add and share them."
)
SharedName = Annotated[str, typer.Argument(metavar="NAME", help="A name from the list of `surgicalsam models`.")]


@models_app.callback()
def models(context: typer.Context, as_json: AsJson = False) -> None:
    """List the known encoder weights and the shared models, with their size and location."""
    if context.invoked_subcommand is not None:
        return
    from surgicalsam_napari.formatting import in_bytes
    from surgicalsam_napari.model.shared_models import shared_models
    from surgicalsam_napari.model.zoo import KNOWN_WEIGHTS, OTHER_WEIGHTS, KnownWeights, Weights, find_weights, models_folder

    all_weights: dict[str, Weights] = {**KNOWN_WEIGHTS, **OTHER_WEIGHTS}
    paths = {name: find_weights(name) for name in all_weights}
    shared = shared_models()
    if as_json:
        weights = [
            {
                "name": known.name,
                "title": known.title,
                "encoder_id": known.encoder_id,
                "size_bytes": known.size_bytes if isinstance(known, KnownWeights) else None,
                "url": known.url,
                "licence": known.licence,
                "can_be_downloaded": isinstance(known, KnownWeights),
                "path": None if paths[name] is None else str(paths[name]),
            }
            for name, known in all_weights.items()
        ]
        record = {"folder": str(models_folder()), "weights": weights, "shared": list(map(_record, shared.values()))}
        print(json.dumps(record))
        return
    for name, known in all_weights.items():
        size = in_bytes(known.size_bytes) if isinstance(known, KnownWeights) else "–"
        missing = "not downloaded" if isinstance(known, KnownWeights) else f"not here; get it in a browser: {known.url}"
        use = "" if known.is_commercial else f" ({known.licence}: not for commercial use)"
        print(f"{name:<21}{known.title:<21}{size:>9}   {paths[name] or missing}{use}")
    if shared:
        print("\nshared models, for --checkpoint")
    for model in shared.values():
        place = model.path if model.is_here else f"not downloaded: surgicalsam models download {model.name}"
        print(f"{model.name:<20} {model.label:<20}{in_bytes(model.size_bytes):>9}   {place}")
    print(f"\nfolder: {models_folder()} (set SURGICALSAM_MODELS to use another folder)")


@models_app.command()
def download(
    name: SharedName,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", metavar="DIR", help="Download known weights to this folder. Default: the models folder."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Download known weights or a shared model. An interrupted download is resumed."""
    from surgicalsam_napari.model.shared_models import download_model, shared_models
    from surgicalsam_napari.model.zoo import KNOWN_WEIGHTS, OTHER_WEIGHTS, download_weights, find_weights, how_to_get

    shared = shared_models()
    if name in OTHER_WEIGHTS:
        title = OTHER_WEIGHTS[name].title
        raise typer.BadParameter(f"{title} cannot be downloaded by this program. {how_to_get(name)}", param_hint="NAME")
    if name not in KNOWN_WEIGHTS and name not in shared:
        known = ", ".join([*KNOWN_WEIGHTS, *shared])
        raise typer.BadParameter(f'there are no weights named "{name}"; choose one of {known}.', param_hint="NAME")
    path: Path | None
    if name in shared:
        if folder is not None:
            raise typer.BadParameter(
                "a shared model is kept in the models folder; leave out --folder.", param_hint="--folder"
            )
        path = _downloaded(name, download_model(name)) or shared[name].path
    else:
        path = find_weights(name) if folder is None else None
        if not KNOWN_WEIGHTS[name].is_commercial:
            print(f"{KNOWN_WEIGHTS[name].licence}: not for commercial use.", file=sys.stderr)
        path = path or _downloaded(name, download_weights(name, folder=folder))
    print(json.dumps({"name": name, "path": str(path)}) if as_json else path)


def _downloaded(name: str, reports: Iterator[DownloadReport]) -> Path | None:
    path = None
    with progress(counts_bytes=True) as advance:
        for report in reports:
            advance(f"downloading {name}", report.done_bytes, report.total_bytes)
            path = report.path
    return path


@models_app.command()
def add(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|URL",
            help="A .safetensors checkpoint, a .json list of models, the address of one, or a folder made by `share`.",
        ),
    ],
    sha256: Annotated[
        str | None, typer.Option("--sha256", metavar="DIGEST", help="SHA-256 of the checkpoint; needed for an address.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name for --checkpoint. Default: that of the file.")
    ] = None,
    replaces: Annotated[bool, typer.Option("--replace", help="Replace a model of the same name.")] = False,
    as_json: AsJson = False,
) -> None:
    """Add models that others share; then `--checkpoint NAME` and the window use them by name."""
    from surgicalsam_napari.model.shared_models import add_models

    added = add_models(source, sha256=sha256, name=name, replaces=replaces)
    if as_json:
        print(json.dumps({"added": list(map(_record, added))}))
        return
    for model in added:
        use = f"--checkpoint {model.name}" if model.is_here else f"surgicalsam models download {model.name}"
        print(f"{model.name}: {model.label}. Next: {use}")


@models_app.command()
def share(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A .safetensors checkpoint, or its name.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new or empty folder.")],
    licence: Annotated[
        str, typer.Option("--licence", metavar="ID", help="Licence of the weights, such as cc-by-4.0 (an SPDX identifier).")
    ],
    description: Annotated[
        str,
        typer.Option("--description", metavar="TEXT", help="What it was trained on, and for which pictures it is meant."),
    ] = "",
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name for --checkpoint. Default: that of the file.")
    ] = None,
) -> None:
    """Write a checkpoint and its card into a folder for publication: on a model hub, a web server or a shared disk."""
    from surgicalsam_napari.model.model_card import share_model

    print(share_model(checkpoint, folder, name=name, licence=licence, description=description))


@models_app.command()
def remove(name: SharedName) -> None:
    """Remove a shared model from this machine."""
    from surgicalsam_napari.model.shared_models import remove_model

    remove_model(name)
    print(f"{name} was removed")


def _record(model: SharedModel) -> dict[str, Any]:
    return {**model.model_dump(mode="json"), "path": str(model.path) if model.is_here else None}
