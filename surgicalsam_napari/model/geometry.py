"""Convert frames to the padded square of an encoder, and logits back to the frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

PIXEL_MEAN = (123.675, 116.28, 103.53)  # SAM's, of 8-bit RGB
PIXEL_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class FrameGeometry:
    """Original frame <-> padded square <-> low-resolution logits.

    The frame is resized so that its longer side is `input_size`, and padded with zeros right and below (as in SAM).

    Attributes
    ----------
    original_size : (H, W) of the frame
    input_size : side of the padded square in pixels; 1024 for SAM's encoders
    """

    original_size: tuple[int, int]
    input_size: int = 1024

    @property
    def resized_size(self) -> tuple[int, int]:
        """(H, W) of the frame within the padded square: 1024x1280 gives 819x1024."""
        height, width = self.original_size
        scale = self.input_size / max(height, width)
        return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)

    def visible_grid(self, grid: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of an embedding grid (h, w) that masks in the frame depend on: 52 of 64 rows for 1024x1280.

        They cover the frame in the padded square, and one logit more, which bilinear resizing reads.
        """
        reached = (
            int((side - 0.5) * 4 * cells / self.input_size - 0.5) + 2
            for side, cells in zip(self.resized_size, grid, strict=True)
        )
        rows, columns = (min(-(-logits // 4), cells) for logits, cells in zip(reached, grid, strict=True))
        return rows, columns

    def to_input(self, frames: Sequence[np.ndarray] | np.ndarray, device: torch.device | str = "cpu") -> Tensor:
        """Resize, normalise and pad.

        Parameters
        ----------
        frames : B frames (H, W, 3) uint8 RGB, all of `original_size`

        Returns
        -------
        (B, 3, input_size, input_size) float32
        """
        resized = torch.stack([torch.from_numpy(self.resized(frame)) for frame in frames]).permute(0, 3, 1, 2)
        return normalise_and_pad(_moved(resized, torch.device(device)), self.input_size)

    def resized(self, picture: np.ndarray) -> np.ndarray:
        """A picture at `resized_size`, by Pillow's bilinear filter as in the authors' code; smaller is antialiased.

        Parameters
        ----------
        picture : (H, W) or (H, W, 3) uint8, of `original_size`
        """
        if picture.shape[:2] != self.original_size:
            raise ValueError(f"This geometry is for frames of {self.original_size}; got {picture.shape[:2]}.")
        height, width = self.resized_size
        return np.array(Image.fromarray(np.asarray(picture)).resize((width, height), Image.Resampling.BILINEAR))

    def to_frame(self, low_res_logits: Tensor) -> Tensor:
        """Resize low-resolution logits to the original frame with the reference's two bilinear steps.

        Parameters
        ----------
        low_res_logits : (..., h, w), of the whole padded square

        Returns
        -------
        (..., H, W)
        """
        leading = low_res_logits.shape[:-2]
        logits = low_res_logits.reshape(-1, 1, *low_res_logits.shape[-2:])
        square = F.interpolate(logits, (self.input_size, self.input_size), mode="bilinear", align_corners=False)
        height, width = self.resized_size
        frame = F.interpolate(square[..., :height, :width], self.original_size, mode="bilinear", align_corners=False)
        return frame.reshape(*leading, *self.original_size)


def _moved(batch: Tensor, device: torch.device) -> Tensor:
    """Copy to the device; to a GPU from page-locked memory, so that the copy does not wait for the GPU's computation."""
    return batch.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else batch.to(device)


def normalise_and_pad(images: Tensor, input_size: int) -> Tensor:
    """(B, 3, h, w) 8-bit values to SAM's normalised (B, 3, input_size, input_size), zeros right and below."""
    mean = torch.tensor(PIXEL_MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(PIXEL_STD, device=images.device).view(3, 1, 1)
    normalised = (images.float() - mean) / std
    return F.pad(normalised, (0, input_size - images.shape[-1], 0, input_size - images.shape[-2]))
