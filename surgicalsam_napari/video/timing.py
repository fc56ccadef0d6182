"""The times of frames and their rate, from the times that a container states; also where recordings were joined."""

from __future__ import annotations

import numpy as np

_JOINT = 10  # a step back by more than so many usual ones is a joint; by less, the times are wrong
_PAUSE = 10  # a step longer than so many usual ones is a pause, or a joint
_USUAL, _MOST = 0.25, 0.8  # most steps differ by less from the median if the rate is constant; containers round times
_ROUNDING = 0.01  # the rate in the header is exact if it differs by less from the measured one


def joined_times(times: np.ndarray) -> np.ndarray | None:
    """Ascending times from times in the order of the frames: where they begin again, as in joined segments, go on.

    Parameters
    ----------
    times : (T,) int64 or float64

    Returns
    -------
    (T,) float64 from 0 on; a joint counts as one usual step. None if the times are wrong
    """
    steps = np.diff(times).astype(float)
    is_back = steps <= 0
    if is_back.any():
        usual = float(np.median(np.abs(steps)))
        if (steps[is_back] > -_JOINT * usual).any():
            return None
        steps[is_back] = usual
    return np.concatenate([[0.0], np.cumsum(steps)])


def frame_rate(seconds: np.ndarray | None, stated: float | None) -> float | None:
    """Frames per second, without pauses and joints; None if unknown.

    Parameters
    ----------
    seconds : (T,) when each frame is shown, ascending; None if unknown
    stated : by the container, which can be wrong, but is exact if it is right
    """
    steps = np.diff(seconds) if seconds is not None else np.empty(0)
    if not len(steps):
        return stated
    median = np.median(steps)
    is_usual = np.abs(steps / median - 1) < _USUAL
    measured = 1 / float(steps[is_usual if is_usual.mean() > _MOST else steps <= _PAUSE * median].mean())
    return stated if stated and abs(stated / measured - 1) < _ROUNDING else measured
