"""Join what was followed before and after an occlusion, or before leaving and after returning, to one track."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from surgicalsam_napari.tracking.frame_links import FAR_ENTRY
from surgicalsam_napari.tracking.looks import entry_distance
from surgicalsam_napari.tracking.tracklets import Stretch

MOST_DIFFERENT = 0.45  # looks that differ more belong to two instruments
MOST_OVERLAP = 10  # frames in which what is left of an instrument may still be followed beside its new region
SHORT = 4  # frames; what is seen so briefly must look nearly the same
SHORT_DIFFERENT = 0.25


def stitched(stretches: Sequence[Stretch]) -> list[list[Stretch]]:
    """The stretches of one scene, grouped to tracks, in the order of their first frames.

    Each one continues at most one earlier one of its class: the assignment with the most similar looks.
    """
    stretches = sorted(stretches, key=lambda stretch: (stretch.first, stretch.key))
    if not stretches:
        return []
    costs = _costs(stretches)
    rows, columns = linear_sum_assignment(costs)
    follows = {column: row for row, column in zip(rows.tolist(), columns.tolist(), strict=True) if costs[row, column] < 0}
    tracks: list[list[Stretch]] = []
    place: dict[int, int] = {}
    for index, stretch in enumerate(stretches):
        if index in follows:
            place[index] = place[follows[index]]
            tracks[place[index]].append(stretch)
        else:
            place[index] = len(tracks)
            tracks.append([stretch])
    return tracks


def _costs(stretches: Sequence[Stretch]) -> np.ndarray:
    """(N, N): the gain, negative, if the stretch of the column continues that of the row; 0 if it does not."""
    count = len(stretches)
    costs = np.zeros((count, count))
    for row, earlier in enumerate(stretches):
        for column in range(row + 1, count):
            later = stretches[column]
            is_later = (
                later.first > earlier.last - MOST_OVERLAP and later.last > earlier.last and later.first > earlier.first
            )
            if not is_later or later.class_id != earlier.class_id:
                continue
            most = _most_different(earlier, later)
            gap_cost = 0.05 * (1 - np.exp(-(max(later.first - earlier.last, 0)) / 250))
            costs[row, column] = min(earlier.end.difference(later.begin) + gap_cost - most, 0)
    return costs


def _most_different(earlier: Stretch, later: Stretch) -> float:
    """How different two stretches of one instrument may look; what enters where another one left may look like anything."""
    if min(len(earlier.classes), len(later.classes)) < SHORT:
        return SHORT_DIFFERENT
    distance = entry_distance(earlier.end, later.begin)
    return 1.0 if distance is not None and distance < FAR_ENTRY else MOST_DIFFERENT
