"""`embed` and `segment` with a worker on another machine as their --device: what they print, and what if it is lost."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from surgicalsam_napari.cli.terminal import one_line
from surgicalsam_napari.errors import WorkerError

if TYPE_CHECKING:
    from surgicalsam_napari.cli.cluster import ModelOptions
    from surgicalsam_napari.model.surgical_sam import SurgicalSAM
    from surgicalsam_napari.remote.encoder import IfLost, WorkerState
    from surgicalsam_napari.session import Session

AFTERWARDS = {
    "wait": "Waiting: the run goes on by itself when the worker is back. Ctrl+C stops it; finished frames are kept.",
    "local": "The run goes on with this machine.",
}

SLOW = (
    "The line to {address} is slow: {there:.1f} frames a second. This machine alone would embed about {here:.1f}. {remedy}"
)
Report = TypeVar("Report")


def load_with_worker(session: Session, options: ModelOptions) -> None:
    """Load the model with its worker, and say what leaves this machine; with --if-lost local, do without a lost worker."""
    from surgicalsam_napari.inference.encoder_speed import probe
    from surgicalsam_napari.model.device import describe_device
    from surgicalsam_napari.remote.encoder import RemoteEncoder
    from surgicalsam_napari.remote.loading import what_leaves, worker_text

    def load(device: str) -> SurgicalSAM:
        return session.load_checkpoint(
            options.checkpoint,
            encoder_weights=options.encoder_weights,
            device=device,
            fast=options.fast,
            certificates=options.certificates,
        )

    try:
        model = load(options.device)
    except WorkerError as error:
        if options.if_lost != "local":
            raise
        _say(f"{error} {AFTERWARDS['local']}")
        model = load("auto")
        _say(f"{model.name} ({model.encoder_id}) on {describe_device(model.device)}")
        return
    assert isinstance(model.embedder, RemoteEncoder)
    model.embedder.if_lost = options.if_lost
    model.embedder.on_lost = lambda reason: _on_lost(reason, options.if_lost, options.device)
    _say(f"{model.name} ({model.encoder_id}) on {options.device}: {worker_text(model.embedder.state)}")
    _say(what_leaves(None, model.encoder_id))
    probe(model.device)  # to notice a line that is slower than this machine


def with_slow_line_noticed(reports: Iterator[Report], model: SurgicalSAM) -> Iterator[Report]:
    """The same reports; says once that the line is slower than this machine, which goes on alone with --if-lost local."""
    from surgicalsam_napari.remote.encoder import RemoteEncoder
    from surgicalsam_napari.remote.slow_line import faster_here

    is_noticed = False
    for report in reports:
        if not is_noticed and (speeds := faster_here(model)) is not None:
            is_noticed = True
            assert isinstance(model.embedder, RemoteEncoder)
            goes_on_here = model.embedder.if_lost == "local"
            remedy = AFTERWARDS["local"] if goes_on_here else "Stop it with Ctrl+C, and run it again with --device auto."
            _say(SLOW.format(address=model.embedder.state.address, there=speeds[0], here=speeds[1], remedy=remedy))
            if goes_on_here:
                model.embedder.go_on_here()
        yield report


def device_record(model: SurgicalSAM) -> dict[str, Any]:
    """Device and, if there is one, worker for the JSON result."""
    from surgicalsam_napari.model.device import describe_device

    state = _state(model)
    if state is None:
        return {"device": describe_device(model.device)}
    return {
        "device": f"{state.address} ({state.device})",
        "worker": {
            "address": state.address,
            "tls": state.is_encrypted,
            "latency_ms": round(1000 * state.latency, 2),
            "frames": state.frames,
            "bytes_sent": state.sent,
            "bytes_received": state.received,
            "frames_per_second": None if state.frames_per_second is None else round(state.frames_per_second, 2),
            "went_on_here": state.is_here,
        },
    }


def print_traffic(model: SurgicalSAM) -> None:
    """Say on stderr what the line to the worker carried."""
    from surgicalsam_napari.remote.loading import traffic_text

    state = _state(model)
    if state is not None and (text := traffic_text(state)):
        _say(f"{state.address}: {text}")


def _state(model: SurgicalSAM) -> WorkerState | None:
    from surgicalsam_napari.remote.encoder import RemoteEncoder

    return model.embedder.state if isinstance(model.embedder, RemoteEncoder) else None


def _on_lost(reason: str | None, if_lost: IfLost, address: str) -> None:
    _say(f"The worker at {address} is back." if reason is None else f"{reason} {AFTERWARDS.get(if_lost, '')}")


def _say(text: str) -> None:
    print(one_line(text), file=sys.stderr)
