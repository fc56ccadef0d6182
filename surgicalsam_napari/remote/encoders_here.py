"""The worker's image encoders: loaded from its own disk by name and digest, one at a time, and used by one thread."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import nn

from surgicalsam_napari.errors import SurgicalSAMError, WorkerRefused
from surgicalsam_napari.model.checkpoint import load_checkpoint, read_checkpoint_info
from surgicalsam_napari.model.device import choose_device, describe_device
from surgicalsam_napari.model.embedding import compute_embeddings
from surgicalsam_napari.model.encoders import ENCODERS
from surgicalsam_napari.model.image_encoder import build_image_encoder, load_encoder_weights
from surgicalsam_napari.model.zoo import bundled_checkpoint, find_weights, how_to_get
from surgicalsam_napari.remote.protocol import EncoderName

MOST_REFUSALS = 64  # that are remembered: a wrong request does not load weights each time


class EncodersHere:
    """Encoders on this machine's disk: that of the bundled model, known weights, and those of the given files.

    Parameters
    ----------
    device : auto, cpu, cuda, cuda:1, … or mps
    checkpoints : files whose image encoder may be used, too
    encoder_weights : a checkpoint of SAM or a distilled SAM outside the models folder
    """

    def __init__(self, device: str = "auto", checkpoints: Sequence[Path] = (), encoder_weights: Path | None = None) -> None:
        self.device = choose_device(device)
        self._checkpoints = [bundled_checkpoint(), *(path.expanduser() for path in checkpoints)]
        self._encoder_weights = None if encoder_weights is None else encoder_weights.expanduser()
        self._loaded: tuple[EncoderName, nn.Module] | None = None
        self._refused: dict[EncoderName, str] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encoder")

    @property
    def device_name(self) -> str:
        return describe_device(self.device)

    def load(self, encoder: EncoderName) -> Future[None]:
        """Load the weights of this encoder; the result is a WorkerRefused if they are not on this machine."""
        return self._thread.submit(self._load_only, encoder)

    def embed(self, encoder: EncoderName, frames: np.ndarray, dtype: str) -> Future[np.ndarray]:
        """The embeddings (B, D, h, w) of prepared frames (B, h, w, 3) uint8, as soon as the earlier ones are computed."""
        return self._thread.submit(self._embed, encoder, frames, dtype)

    def close(self) -> None:
        """Drop what waits."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _load_only(self, encoder: EncoderName) -> None:
        self._module(encoder)

    def _embed(self, encoder: EncoderName, frames: np.ndarray, dtype: str) -> np.ndarray:
        # a frame whose longer side is that of the square stays as it is when it is prepared again
        return compute_embeddings(self._module(encoder), encoder.id, frames, self.device, dtype)

    def _module(self, encoder: EncoderName) -> nn.Module:
        if encoder in self._refused:
            raise WorkerRefused(self._refused[encoder])
        if self._loaded is None or self._loaded[0] != encoder:
            self._loaded = None  # freed before the next one is loaded: both might not fit
            try:
                module = self._read(encoder)
            except WorkerRefused as error:
                if len(self._refused) < MOST_REFUSALS:
                    self._refused[encoder] = str(error)
                raise
            torch.set_flush_denormal(True)  # in this thread; trained weights give many, which are slow on CPUs
            self._loaded = encoder, module.eval().requires_grad_(False).to(self.device)
        return self._loaded[1]

    def _read(self, encoder: EncoderName) -> nn.Module:
        """The encoder with these weights, from the first file that has them."""
        found: list[str] = []
        for path in self._checkpoints:
            info = read_checkpoint_info(path)
            if info.encoder_id == encoder.id and info.includes_encoder:
                if info.encoder_digest == encoder.digest:
                    model = load_checkpoint(path, device="cpu")
                    assert model.image_encoder is not None
                    return model.image_encoder
                found.append(info.encoder_digest)
        for file in self._weight_files(encoder.id):
            module = build_image_encoder(encoder.id)
            try:
                digest = load_encoder_weights(module, file, encoder.id)
            except SurgicalSAMError:
                continue  # weights of another encoder
            if digest == encoder.digest:
                return module
            found.append(digest)
        title, name = ENCODERS[encoder.id].title, ENCODERS[encoder.id].weights
        remedy = "" if name is None else f" On its machine: {how_to_get(name)}"
        has = f"has the weights {', '.join(dict.fromkeys(found))}" if found else "has no weights of it"
        raise WorkerRefused(
            f"The worker should have {title} with the weights {encoder.digest}; it {has}. Give it the same file, "
            f"with --encoder-weights or --checkpoint of `surgicalsam worker`.{remedy}"
        )

    def _weight_files(self, encoder_id: str) -> list[Path]:
        name = ENCODERS[encoder_id].weights
        if name is None:
            return []
        return [path for path in (self._encoder_weights, find_weights(name)) if path is not None]
