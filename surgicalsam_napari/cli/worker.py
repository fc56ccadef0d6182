"""`surgicalsam worker`: embeds frames for other machines, and makes the TLS certificates for it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from surgicalsam_napari.cli.commands import app
from surgicalsam_napari.cli.options import AsJson, Device

if TYPE_CHECKING:
    from surgicalsam_napari.remote.worker import Worker


@app.command("worker")
def worker(
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen",
            metavar="HOST:PORT",
            help="Where to listen. Default: 0.0.0.0:8786 with certificates; 127.0.0.1:8786 without.",
        ),
    ] = None,
    certificates: Annotated[
        Path | None,
        typer.Option("--certificates", metavar="DIR", help="Folder with ca.pem and worker.pem. Without: only loopback."),
    ] = None,
    make: Annotated[
        Path | None,
        typer.Option(
            "--make-certificates",
            metavar="DIR",
            help="Make new certificates in this folder and exit: `worker` stays here, `client` goes to the other machines.",
        ),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--name",
            metavar="HOST",
            help="With --make-certificates: a name or IP address under which others reach this machine.",
        ),
    ] = None,
    device: Device = "auto",
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option("--checkpoint", metavar="FILE", help="Also offer this checkpoint's image encoder. May be repeated."),
    ] = None,
    encoder_weights: Annotated[
        Path | None,
        typer.Option(
            "--encoder-weights", metavar="FILE", help="Weights of SAM or a distilled SAM outside the models folder."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Embed frames for other machines, which name this one as their --device. It stores nothing. Ctrl+C stops it."""
    if make is not None:
        _make_certificates(make, names or [], as_json)
        return
    if names:
        raise typer.BadParameter("it belongs to --make-certificates.", param_hint="--name")
    from surgicalsam_napari.remote.address import DEFAULT_PORT, parse_address
    from surgicalsam_napari.remote.encoders_here import EncodersHere
    from surgicalsam_napari.remote.worker import Worker

    host = "127.0.0.1" if certificates is None else "0.0.0.0"
    address = parse_address(listen or f"{host}:{DEFAULT_PORT}")
    encoders = EncodersHere(device, checkpoint or (), encoder_weights)
    with Worker(address, encoders, certificates, lambda line: print(line, file=sys.stderr)) as server:
        _announce(server, certificates is not None, as_json)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)


def _announce(server: Worker, is_encrypted: bool, as_json: bool) -> None:
    record = {"address": str(server.address), "tls": is_encrypted, "device": server.encoders.device_name}
    how = "with TLS" if is_encrypted else "without TLS, for this machine only"
    text = f"listening at {record['address']}, {how}, on {record['device']}; Ctrl+C stops"
    print(json.dumps(record) if as_json else text, flush=True)


def _make_certificates(folder: Path, names: list[str], as_json: bool) -> None:
    from surgicalsam_napari.remote.certificates import VALID_DAYS, default_certificates, make_certificates

    own, others = make_certificates(folder, names)
    if as_json:
        print(json.dumps({"worker": str(own), "client": str(others), "valid_days": VALID_DAYS}))
        return
    print(
        f"{own}: stays on this machine. Start: surgicalsam worker --certificates {own}\n"
        f"{others}: copy it to each machine that may use this worker, as {default_certificates()}, or give it with "
        f"--certificates. Whoever has it can use this worker.\n"
        f"Valid for {VALID_DAYS} days, then make new ones."
    )
