"""Choose the device that computes, and describe it to the user."""

from __future__ import annotations

import torch

from surgicalsam_napari.errors import DeviceError


def choose_device(name: str = "auto") -> torch.device:
    """The device of this name; `auto` prefers CUDA, then Apple's MPS, then the CPU. A DeviceError if it does not exist."""
    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if has_cuda else "mps" if has_mps else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f'There is no device "{name}". Choose auto, cpu, cuda, cuda:1, … or mps.') from error
    if device.type == "cuda" and (not has_cuda or (device.index or 0) >= torch.cuda.device_count()):
        count = torch.cuda.device_count() if has_cuda else 0
        raise DeviceError(f'The device "{name}" does not exist: torch sees {count} CUDA devices. Choose auto or cpu.')
    if device.type == "mps" and not has_mps:
        raise DeviceError('The device "mps" does not exist: torch sees no Apple GPU. Choose auto or cpu.')
    if device.type not in ("cpu", "cuda", "mps"):
        raise DeviceError(f'The device "{name}" is not supported. Choose auto, cpu, cuda or mps.')
    return device


def describe_device(device: torch.device) -> str:
    """The device in words for the user: "CPU (2 threads)", "CUDA: NVIDIA A100"."""
    if device.type == "cuda":
        return f"CUDA: {torch.cuda.get_device_name(device)}"
    if device.type == "mps":
        return "Apple GPU (MPS)"
    threads = torch.get_num_threads()
    return f"CPU ({threads} thread{'s' if threads > 1 else ''})"


def check_fast(device: torch.device) -> None:
    """A DeviceError unless the device has bfloat16 in hardware: without, it is several times slower than float32."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    if device.type == "cpu" and has_amx():
        return
    raise DeviceError(
        f"The fast mode needs a device with bfloat16 in hardware; {describe_device(device)} has none. "
        "Use the exact mode: it is faster here."
    )
