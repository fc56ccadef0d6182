"""Effects on the picture of the tissue: shadows, smoke, blur, vignette and sensor noise."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter

SHADOW_STEP = 4  # shadows are soft: computed at a quarter of the size
SMOKE_CELLS = 64  # width of the coarse picture of the smoke


def stretched(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(h, w) float32 resampled to `size` = (H, W)."""
    image = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR))


def contact_shadow(cover: np.ndarray, offset: tuple[float, float], softness: float, strength: float) -> np.ndarray:
    """(H, W) factor on the tissue: the instruments' cover, moved by `offset` (x, y) and softened; frame widths."""
    height, width = cover.shape
    coarse = cover[SHADOW_STEP // 2 :: SHADOW_STEP, SHADOW_STEP // 2 :: SHADOW_STEP]
    scale = coarse.shape[1]
    pad = math.ceil(max(map(abs, offset)) * scale) + 1
    padded = np.pad(coarse, pad, mode="edge")
    dx, dy = round(offset[0] * scale), round(offset[1] * scale)
    rows, columns = coarse.shape
    moved = padded[pad - dy : pad - dy + rows, pad - dx : pad - dx + columns]
    return stretched(1 - strength * gaussian_filter(moved, softness * scale, truncate=2.5), (height, width))


def vignette(size: tuple[int, int], center: tuple[float, float], strength: float) -> np.ndarray:
    """(H, W) float32 factor: the light cone of the endoscope, fading from `center` (frame widths)."""
    height, width = size
    x = (np.arange(width, dtype=np.float32) + 0.5)[None, :] / width - center[0]
    y = (np.arange(height, dtype=np.float32) + 0.5)[:, None] / width - center[1]
    away = (np.square(x) + np.square(y)) / 0.36
    return (1 / np.square(1 + 0.75 * strength * away)).astype(np.float32)


class Smoke:
    """Drifting plumes of cautery smoke; `density` 0 to 1 is their opacity at the thickest."""

    def __init__(self, rng: np.random.Generator):
        tile = np.zeros((2 * SMOKE_CELLS, 2 * SMOKE_CELLS))
        for sigma in (12, 6, 3):
            layer = gaussian_filter(rng.standard_normal(tile.shape), sigma, mode="wrap")
            tile += layer / layer.std() * sigma / 12
        self._tile = np.clip(0.5 + 0.28 * tile, 0, 1).astype(np.float32)
        self._start = rng.uniform(0, 2 * SMOKE_CELLS, 2)
        self._drift = rng.uniform(-14, 14, 2)
        self._tone = np.array((180, 176, 182), np.float32) * np.float32(rng.uniform(0.8, 1.05))

    def over(self, rgb: np.ndarray, time: float, density: float) -> None:
        """Add the smoke at `time` (seconds) to (H, W, 3) grey levels, in place."""
        height, width = rgb.shape[:2]
        rows = math.ceil(SMOKE_CELLS * height / width)
        top, left = np.mod(self._start + self._drift * time, 2 * SMOKE_CELLS)
        whole = np.take(self._tile, np.arange(int(top), int(top) + rows + 1), axis=0, mode="wrap")
        whole = np.take(whole, np.arange(int(left), int(left) + SMOKE_CELLS + 1), axis=1, mode="wrap")
        box = (left % 1, top % 1, left % 1 + SMOKE_CELLS, top % 1 + rows)
        image = Image.fromarray(whole).resize((width, height), Image.Resampling.BILINEAR, box=box)
        share = (np.asarray(image) * density)[..., None]
        rgb += (self._tone - rgb) * share


def smeared(values: np.ndarray, shift: tuple[float, float]) -> np.ndarray:
    """Motion blur of (H, W, C): the mean over a straight move by `shift` (x, y) pixels, centred; border pixels repeat."""
    far = max(map(abs, shift))
    taps = min(9, 1 + 2 * round(far / 2))
    pad = math.ceil(far / 2)
    height, width = values.shape[:2]
    padded = np.pad(values, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    total = np.zeros_like(values)
    for place in np.linspace(-0.5, 0.5, taps):
        left, top = pad - round(shift[0] * place), pad - round(shift[1] * place)
        total += padded[top : top + height, left : left + width]
    total *= np.float32(1 / taps)
    return total


def defocused(image: np.ndarray, radius: float) -> np.ndarray:
    """(H, W, 3) uint8 blurred by `radius` pixels."""
    if radius < 0.35:
        return image
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


class SensorNoise:
    """Noise of one camera: a tile sampled once; each frame uses another part of it."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int], grey_levels: float):
        rows, columns = size[0] + 64, size[1] + 64
        luma = rng.standard_normal((rows, columns, 1), dtype=np.float32)
        chroma = rng.standard_normal((rows, columns, 3), dtype=np.float32)
        self._tile = (luma + 0.6 * chroma) * np.float32(grey_levels)
        self._seed = int(rng.integers(2**31))
        self._size = size

    def add(self, grey: np.ndarray, index: int) -> None:
        """Add the noise of frame `index` to (H, W, 3) grey levels in place."""
        top, left = np.random.default_rng((self._seed, index)).integers(64, size=2)
        grey += self._tile[top : top + self._size[0], left : left + self._size[1]]
