"""How long an image encoder takes per frame on this machine, before it is there: from its arithmetic and a short probe."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from surgicalsam_napari.model.encoders import ENCODERS

if TYPE_CHECKING:
    import torch

PROBE_SIDES = (2048, 1024, 1024)  # of the matrix product: 4.3 GFLOP, 0.1 s on a slow CPU core
PROBE_SECONDS = 0.5
GPU_EFFICIENCY = 0.2  # of ViT-H on one H200, docs/speed.md; a GPU is fast enough that it matters little

_gigaflops: dict[str, float] = {}  # per second, by device


def probe(device: torch.device) -> float:
    """Measure the device's speed in a plain matrix product, in GFLOP/s; once, it takes about half a second."""
    if str(device) not in _gigaflops:
        _gigaflops[str(device)] = _matrix_product_speed(device)
    return _gigaflops[str(device)]


def guessed_seconds(encoder_id: str, device: torch.device) -> float | None:
    """About how long one embedding takes, without decoding the frame; None before `probe`, and for an unknown arithmetic."""
    spec, speed = ENCODERS[encoder_id], _gigaflops.get(str(device))
    if speed is None or not spec.gigaflops:
        return None
    return spec.gigaflops / (speed * (spec.efficiency if device.type == "cpu" else GPU_EFFICIENCY))


def _matrix_product_speed(device: torch.device) -> float:
    import torch

    rows, inner, columns = PROBE_SIDES
    kind = torch.float32 if device.type == "cpu" else torch.bfloat16 if device.type == "cuda" else torch.float16
    left, right = (torch.ones(shape, dtype=kind, device=device) for shape in ((rows, inner), (inner, columns)))
    until, fastest = time.perf_counter() + PROBE_SECONDS, float("inf")
    while time.perf_counter() < until or fastest == float("inf"):
        began = time.perf_counter()
        float((left @ right)[0, 0])  # reading a value waits for the device
        fastest = min(fastest, time.perf_counter() - began)
    return 2e-9 * rows * inner * columns / fastest
