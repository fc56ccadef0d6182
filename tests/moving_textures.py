"""Generated clips for tests: a textured rectangle that moves over another texture, with its exact mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

MARGIN = 60
TISSUE, METAL = (170, 80, 70), (150, 155, 160)  # mean colours


def texture(seed: int, size: tuple[int, int], colour: tuple[int, int, int] = TISSUE) -> np.ndarray:
    """A random picture with structures of a few pixels, (h, w, 3) uint8, `MARGIN` larger than `size` on each side."""
    noise = np.random.default_rng(seed).normal(size=(size[0] + 2 * MARGIN, size[1] + 2 * MARGIN))
    smooth = gaussian_filter(noise, 2)
    return np.clip(np.array(colour) + 40 * (smooth / smooth.std())[..., None], 0, 255).astype(np.uint8)


def window(picture: np.ndarray, row: int, column: int, size: tuple[int, int]) -> np.ndarray:
    """The picture seen from a place, in pixels from its middle."""
    return picture[MARGIN + row : MARGIN + row + size[0], MARGIN + column : MARGIN + column + size[1]]


def scene(background: np.ndarray, tool: np.ndarray, shift: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The rectangle moved to the right by `shift`, or out of the picture: the frame and its mask."""
    frame, mask = window(background, 0, 0, size).copy(), np.zeros(size, bool)
    rows, columns = slice(50, 100), slice(max(40 + shift, 0), max(110 + shift, 0))
    if columns.stop:
        frame[rows, columns] = tool[MARGIN + 50 : MARGIN + 100, MARGIN + columns.start - shift :][:, : columns.stop][
            :, : min(columns.stop, size[1]) - columns.start
        ]
        mask[rows, columns] = True
    return frame, mask


def write_clip(folder: Path, frames: list[np.ndarray]) -> Path:
    """A folder of images that is read as a video."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"frame{index:03d}.png")
    return folder


def iou(first: np.ndarray, second: np.ndarray) -> float:
    return float((first & second).sum() / max((first | second).sum(), 1))
