"""The class of an instrument by the vote of its frames: single wrong frames are put right, a lasting change stays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

CHANGE_COST = 40.0  # votes: a class that holds on for fewer frames inside a track is a mistake
CERTAIN = 1e6  # the weight of what a person said


@dataclass(frozen=True)
class Vote:
    """What one frame says about the class of an instrument.

    Attributes
    ----------
    weight : 0 to 1, how sure it is: predicted IoU times presence
    is_certain : a person edited or verified the class in this frame
    """

    class_id: int
    weight: float
    is_certain: bool = False


def voted_classes(votes: Mapping[int, Vote]) -> dict[int, int]:
    """The class of an instrument in each frame of a track.

    It is the sequence of classes with the highest sum of votes, where each change of class costs `CHANGE_COST` votes. What a
    person said always stays.

    Parameters
    ----------
    votes : by frame index
    """
    if not votes:
        return {}
    frames = sorted(votes)
    class_ids = sorted({vote.class_id for vote in votes.values()})
    place = {class_id: column for column, class_id in enumerate(class_ids)}
    best = np.zeros(len(class_ids))
    came_from = np.zeros((len(frames), len(class_ids)), int)
    for row, index in enumerate(frames):
        vote = votes[index]
        leader = int(best.argmax())
        changes = best[leader] - CHANGE_COST > best
        came_from[row] = np.where(changes, leader, np.arange(len(class_ids)))
        best = np.where(changes, best[leader] - CHANGE_COST, best)
        best[place[vote.class_id]] += CERTAIN if vote.is_certain else vote.weight
    chosen, column = dict[int, int](), int(best.argmax())
    for row in range(len(frames) - 1, -1, -1):
        chosen[frames[row]] = class_ids[column]
        column = came_from[row, column]
    return chosen
