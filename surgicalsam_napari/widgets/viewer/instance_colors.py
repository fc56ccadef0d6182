"""Colours for the instances of a class: that of the class, then others that are near it in hue and easy to distinguish."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import lru_cache
from itertools import product

import numpy as np
from skimage.color import deltaE_ciede2000, lab2rgb, rgb2lab

from surgicalsam_napari.store import Track, TrackTable

MOST_SHADES = 6  # of a class; with more tracks at one time, shades are used twice
HUES = (-0.35, 0.0, 0.35)  # radians away from the hue of the class; farther away, it would look like another class
LIGHTNESSES, CHROMAS = (48.0, 60.0, 72.0, 83.0, 93.0), (0.6, 1.2)  # CIELAB L; share of the chroma of the class
LEAST_CHROMA = 40.0  # a darker or lighter shade must not turn grey


@lru_cache(maxsize=256)
def shades(color: str, count: int = MOST_SHADES) -> tuple[str, ...]:
    """The colour of a class, "#rrggbb", and `count - 1` shades of it, each as far from those before as possible."""
    base = rgb2lab(np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255)
    chroma, hue = float(np.hypot(base[1], base[2])), float(np.arctan2(base[2], base[1]))
    wanted = max(chroma, LEAST_CHROMA) if chroma > 5 else chroma
    lab = np.array(
        [
            (light, share * wanted * np.cos(hue + turn), share * wanted * np.sin(hue + turn))
            for light, share, turn in product(LIGHTNESSES, CHROMAS, HUES)
        ]
    )
    with warnings.catch_warnings(action="ignore"):  # scikit-image warns of colours that no screen can show
        rgb = np.rint(np.clip(lab2rgb(lab), 0, 1) * 255).astype(int)
    lab, chosen = rgb2lab(rgb / 255), [color]
    nearest = deltaE_ciede2000(lab, base[None])
    while len(chosen) < count:
        best = int(np.argmax(nearest))
        chosen.append("#{:02x}{:02x}{:02x}".format(*rgb[best]))
        nearest = np.minimum(nearest, deltaE_ciede2000(lab, lab[best][None]))
    return tuple(chosen)


def shade_of_tracks(table: TrackTable, count: int = MOST_SHADES) -> dict[int, int]:
    """The number of the shade of each track, by track id: tracks of a class that overlap in time have different ones.

    A track gets the first shade that is free in its time; with more than `count` at one time, the one that was free first.
    """
    free_from: dict[int, list[int]] = {}  # by class: for each shade, the frame after its last track
    result = {}
    for track in sorted(table.tracks, key=lambda track: (track.first, track.id)):
        shade = _first_free(track, free_from.setdefault(track.class_id, [0] * count))
        free_from[track.class_id][shade] = max(track.last + 1, free_from[track.class_id][shade])
        result[track.id] = shade
    return result


def _first_free(track: Track, free_from: Sequence[int]) -> int:
    free = [shade for shade, frame_index in enumerate(free_from) if frame_index <= track.first]
    return free[0] if free else int(np.argmin(free_from))
