"""Surfaces of instruments: skins (colour maps wrapped on tubes) and finishes (how they reflect light)."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from surgicalsam_napari.phantom.look import RGB
from surgicalsam_napari.phantom.raster import TONES, Finish

ROWS = 32  # skin rows per shaft radius of length
COLUMNS = 48  # skin columns from edge to edge
TISSUE_GLOW = np.array((0.30, 0.10, 0.10), np.float32)  # red light that the tissue reflects onto polished metal
BLOOD = np.array((0.30, 0.02, 0.03), np.float32)

_ACROSS = np.linspace(-1, 1, TONES, dtype=np.float32)


def _ridge(center: float, width: float) -> np.ndarray:
    return np.exp(-np.square((_ACROSS - center) / width))


def matte(tilt: float) -> Finish:
    """Plastic and rubber: a soft shade and a faint broad sheen; `tilt` (-1 to 1) is where it faces the light."""
    facing = np.sqrt(np.clip(1 - np.square(_ACROSS - 0.4 * tilt), 0.04, 1))
    gleam = 0.10 * _ridge(tilt * 0.5, 0.28) + 0.05 * _ridge(tilt * 0.5, 0.07)
    return Finish(0.22 + 0.85 * facing, gleam[:, None] * np.ones(3, np.float32))


def satin(tilt: float) -> Finish:
    """Brushed shafts: dark flanks, one wide bright band, a thin line of glare."""
    facing = np.sqrt(np.clip(1 - np.square(_ACROSS), 0.02, 1))
    band = _ridge(tilt * 0.6, 0.34)
    gleam = 0.10 * band + 0.16 * _ridge(tilt * 0.6 + 0.05, 0.06)
    glow = _ridge(-0.95, 0.16) + _ridge(0.95, 0.16)
    return Finish(
        0.25 + 0.5 * facing + 0.9 * band,
        gleam[:, None] * np.ones(3, np.float32) + (0.35 * glow)[:, None] * TISSUE_GLOW,
    )


def polished(tilt: float) -> Finish:
    """Bare steel: hard bright and dark bands, red light of the tissue at the flanks."""
    center = tilt * 0.45
    mirror = 0.30 + 1.25 * _ridge(center, 0.22) + 0.55 * _ridge(center - 0.62, 0.12) + 0.4 * _ridge(center + 0.6, 0.16)
    mirror -= 0.22 * _ridge(center + 0.34, 0.09) + 0.2 * _ridge(center - 0.36, 0.1)
    gleam = 0.42 * _ridge(center, 0.11) + 0.12 * _ridge(center - 0.62, 0.07)
    glow = _ridge(-0.9, 0.2) + _ridge(0.9, 0.2)
    return Finish(np.clip(mirror, 0.12, None), gleam[:, None] * np.ones(3, np.float32) + glow[:, None] * TISSUE_GLOW)


def plain_skin(rng: np.random.Generator, length: float, color: RGB, grain: float = 0.08, streak: float = 0.08) -> np.ndarray:
    """A skin of one colour with wear.

    Parameters
    ----------
    length : in shaft radii
    grain, streak : strength of speckle, and of scratches that run lengthwise

    Returns
    -------
    (rows, COLUMNS, 3) float32; row 0 lies at the tube's far end
    """
    rows = max(2, round(length * ROWS))
    wear = gaussian_filter(rng.standard_normal((rows, COLUMNS)), (1.5, 0.8)) * 2.5 * grain
    wear += gaussian_filter(rng.standard_normal((rows, COLUMNS)), (ROWS * 0.6, 0.7)) * 12 * streak
    wear += gaussian_filter(rng.standard_normal((rows, COLUMNS)), ROWS * 0.35) * 8 * grain
    return np.clip(1 + wear, 0.3, 1.9).astype(np.float32)[..., None] * np.array(color, np.float32)


def band(skin: np.ndarray, start: float, stop: float, color: RGB) -> None:
    """Paint a ring from `start` to `stop` (shaft radii from the far end), with dark joints at both sides."""
    first, last = round(start * ROWS), round(stop * ROWS)
    skin[first:last] = np.array(color, np.float32)
    for joint in (first, last):
        skin[max(0, joint - 1) : joint + 1] *= 0.4


def ribs(skin: np.ndarray, start: float, stop: float, pitch: float, depth: float) -> None:
    """Darken grooves that run round the tube, every `pitch` shaft radii."""
    rows = np.arange(round(start * ROWS), min(round(stop * ROWS), len(skin)))
    groove = np.square(np.sin(rows * (np.pi / (pitch * ROWS))))
    skin[rows] *= (1 - depth * groove)[:, None, None]


def flutes(skin: np.ndarray, start: float, stop: float, count: int, depth: float) -> None:
    """Darken grooves that run lengthwise, `count` of them from edge to edge."""
    groove = np.square(np.sin(np.linspace(0, np.pi * count, COLUMNS)))
    skin[round(start * ROWS) : round(stop * ROWS)] *= (1 - depth * groove)[None, :, None]


def lettering(rng: np.random.Generator, skin: np.ndarray, start: float, stop: float, color: RGB) -> None:
    """Draw print along the tube that looks like a manufacturer's name from a distance."""
    first, last = round(start * ROWS), min(round(stop * ROWS), len(skin))
    if last - first < ROWS:
        return
    mask = Image.new("L", (COLUMNS, last - first))
    pen = ImageDraw.Draw(mask)
    middle, row = COLUMNS * rng.uniform(0.4, 0.6), 3.0
    while row < last - first - 8:
        wide = rng.uniform(3.0, 7.0)
        tall = rng.uniform(4.0, 7.0)
        box = (middle - tall, row, middle + tall, row + wide)
        if rng.random() < 0.5:
            pen.arc(box, rng.uniform(0, 180), rng.uniform(200, 360), fill=255, width=2)
        else:
            pen.line((middle - tall, row, middle + tall, row + wide * rng.uniform(0, 0.4)), fill=255, width=2)
        row += wide + rng.uniform(2.0, 5.0)
    share = np.asarray(mask, np.float32)[..., None] / 255 * 0.75
    skin[first:last] += (np.array(color, np.float32) - skin[first:last]) * share


def stain(rng: np.random.Generator, skin: np.ndarray, amount: float) -> None:
    """Smear blood over a skin; `amount` 0 to 1 is about the share that is covered, most of it near the far end."""
    rows, columns, _ = skin.shape
    blots = gaussian_filter(rng.standard_normal((rows, columns)), (ROWS * 0.22, COLUMNS * 0.1))
    blots /= blots.std() + 1e-6
    blots -= np.linspace(0, 1.2, rows)[:, None]
    share = np.clip((blots - 1.4 + 2.2 * amount) * 2, 0, 0.85).astype(np.float32)[..., None]
    skin += (BLOOD - skin) * share
