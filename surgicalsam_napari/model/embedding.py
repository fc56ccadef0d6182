"""Compute image embeddings with an image encoder on this machine, and what computes them elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import nn

from surgicalsam_napari.errors import DeviceError
from surgicalsam_napari.model.device import describe_device
from surgicalsam_napari.model.encoders import ENCODERS
from surgicalsam_napari.model.geometry import FrameGeometry


class Embedder(Protocol):
    """Computes the image embeddings of a model in place of its own image encoder: on another machine."""

    @property
    def is_elsewhere(self) -> bool:
        """Whether the next frames are embedded on another machine; False if a person decided to go on here."""
        ...

    @property
    def is_waiting(self) -> bool:
        """Whether frames wait for the other machine, which does not answer."""
        ...

    def embed(self, frames: Sequence[np.ndarray], dtype: np.dtype) -> np.ndarray:
        """As `SurgicalSAM.embed`, in any thread; may wait for the other machine."""
        ...

    def give_up(self) -> None:
        """Let every `embed` that waits or is under way fail now; later ones are not affected."""
        ...

    def close(self) -> None:
        """As `give_up`, and release the connection."""
        ...


@torch.inference_mode()
def compute_embeddings(
    encoder: nn.Module,
    encoder_id: str,
    frames: Sequence[np.ndarray] | np.ndarray,
    device: torch.device,
    dtype: np.dtype | str = "float16",
    *,
    fast: bool = False,
) -> np.ndarray:
    """Image embeddings; a batch too large for the GPU is halved.

    As float16 they are computed in bf16 or fp16 on CUDA, else in float32; as float32 always in float32.

    Parameters
    ----------
    frames : B frames (H, W, 3) uint8 RGB of one size
    dtype : float16, or float32 to lose nothing
    fast : on a CPU compute in bfloat16, too

    Returns
    -------
    (B, D, h, w) of `dtype`

    Raises
    ------
    DeviceError
        one frame alone does not fit into the device's memory
    """
    try:
        return _embed_batch(encoder, encoder_id, frames, device, np.dtype(dtype), fast)
    except torch.cuda.OutOfMemoryError as error:
        if len(frames) == 1:
            raise DeviceError(_out_of_memory_message(encoder_id, device)) from error
    torch.cuda.empty_cache()
    half = len(frames) // 2
    halves = frames[:half], frames[half:]
    return np.concatenate([compute_embeddings(encoder, encoder_id, part, device, dtype, fast=fast) for part in halves])


def _embed_batch(
    encoder: nn.Module,
    encoder_id: str,
    frames: Sequence[np.ndarray] | np.ndarray,
    device: torch.device,
    dtype: np.dtype,
    fast: bool,
) -> np.ndarray:
    geometry = FrameGeometry(frames[0].shape[:2], ENCODERS[encoder_id].input_size)
    images = geometry.to_input(frames, device)
    on_cuda = device.type == "cuda"
    half_type = torch.float16 if on_cuda and not torch.cuda.is_bf16_supported() else torch.bfloat16
    is_half = dtype == np.float16
    with torch.autocast(device.type, dtype=half_type, enabled=is_half and (on_cuda or fast)):
        embeddings = encoder(images)
    return embeddings.to(torch.float16 if is_half else torch.float32).cpu().numpy()


def _out_of_memory_message(encoder_id: str, device: torch.device) -> str:
    needed = ENCODERS[encoder_id].memory_megabytes
    smaller = [spec for spec in ENCODERS.values() if spec.memory_megabytes < needed]
    remedy = "Choose the device cpu."
    if smaller:
        fitting = max(smaller, key=lambda spec: spec.memory_megabytes)
        remedy = f"{fitting.title} needs about {fitting.memory_megabytes} MB: choose a checkpoint for it, or the device cpu."
    title = ENCODERS[encoder_id].title
    return f"{title} needs about {needed} MB for one frame, more than {describe_device(device)} has free. {remedy}"
