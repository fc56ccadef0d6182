"""Simple heads on the image embedding, trained on a few labelled frames: what learning should at least reach."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from surgicalsam_napari.model.geometry import FrameGeometry

STEPS, BATCH, WIDTH = 300, 4, 48
HEADS = ("linear_head", "small_head")


class SimpleHead:
    """A head of all classes and background; cross-entropy and dice, 300 steps of AdamW, no augmentation.

    Parameters
    ----------
    name : one of HEADS: a linear map of each position, or three small convolutions
    embeddings : (N, D, h, w), of the labelled frames
    label_maps : N of (H, W) uint8
    input_size : side of the encoder's square
    """

    def __init__(
        self,
        name: str,
        embeddings: np.ndarray,
        label_maps: Sequence[np.ndarray],
        class_ids: Sequence[int],
        input_size: int,
        steps: int = STEPS,
    ) -> None:
        torch.manual_seed(0)
        self._class_ids = np.array([0, *class_ids], np.uint8)
        self._input_size = input_size
        inputs = torch.from_numpy(embeddings).float()
        self._mean = inputs.mean((0, 2, 3), keepdim=True)
        self._deviation = inputs.std((0, 2, 3), keepdim=True) + 1e-5
        self._net = _network(name, inputs.shape[1], len(self._class_ids))
        targets = torch.stack([self._target(label_map, 2 * inputs.shape[-1]) for label_map in label_maps])
        self._train(self._standard(inputs), targets, 1e-2 if name == "linear_head" else 2e-3, steps)

    def _standard(self, embeddings: Tensor) -> Tensor:
        return (embeddings - self._mean) / self._deviation

    def _target(self, label_map: np.ndarray, side: int) -> Tensor:
        """(side, side) int64, positions in `_class_ids`: the label in the middle of each cell of the padded square."""
        height, width = FrameGeometry(label_map.shape, self._input_size).resized_size  # type: ignore[arg-type]
        position_of = np.zeros(256, np.uint8)
        position_of[self._class_ids] = np.arange(len(self._class_ids))
        square = np.zeros((self._input_size, self._input_size), np.uint8)
        resized = Image.fromarray(position_of[label_map]).resize((width, height), Image.Resampling.NEAREST)
        square[:height, :width] = np.asarray(resized)
        cell = self._input_size // side
        return torch.from_numpy(square[cell // 2 :: cell, cell // 2 :: cell].astype(np.int64))

    def _train(self, inputs: Tensor, targets: Tensor, learning_rate: float, steps: int) -> None:
        optimizer = torch.optim.AdamW(self._net.parameters(), learning_rate, weight_decay=1e-2)
        for _step in range(steps):
            batch = torch.randint(0, len(inputs), (BATCH,))
            logits = self._net(inputs[batch])
            loss = F.cross_entropy(logits, targets[batch]) + _dice_loss(logits.softmax(1), targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    @torch.inference_mode()
    def label_map(self, embedding: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """(H, W) uint8 of a frame of this size, from its embedding (D, h, w)."""
        height, width = FrameGeometry(size, self._input_size).resized_size
        logits = self._net(self._standard(torch.from_numpy(embedding)[None].float()))
        logits = F.interpolate(logits, (self._input_size, self._input_size), mode="bilinear")[..., :height, :width]
        return self._class_ids[F.interpolate(logits, size, mode="bilinear")[0].argmax(0).numpy()]


def _network(name: str, depth: int, outputs: int) -> nn.Module:
    double = nn.Upsample(scale_factor=2, mode="bilinear")
    if name == "linear_head":
        return nn.Sequential(nn.Conv2d(depth, outputs, 1), double)
    return nn.Sequential(
        *(nn.Conv2d(depth, WIDTH, 1), nn.ReLU(), nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.ReLU(), double),
        *(nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.ReLU(), nn.Conv2d(WIDTH, outputs, 1)),
    )


def _dice_loss(probability: Tensor, targets: Tensor) -> Tensor:
    """Mean over the classes without background; both (B, C, s, s) and (B, s, s)."""
    truth = F.one_hot(targets, probability.shape[1]).permute(0, 3, 1, 2)
    shared, total = (probability * truth).sum((0, 2, 3)), (probability**2).sum((0, 2, 3)) + truth.sum((0, 2, 3))
    return (1 - (2 * shared + 1) / (total + 1))[1:].mean()
