"""Times in a video as text, h:mm:ss.ff with hundredths of a second, and the frame that is shown at a time."""

from __future__ import annotations

import re

import numpy as np

from surgicalsam_napari.errors import VideoError

_HALF_UNIT = 0.005  # seconds; a time code is rounded, so the frame may begin this much later
_WRITTEN = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:[.,]\d*)?|[.,]\d+)")


def in_time_code(seconds: float) -> str:
    """83.4 -> "0:01:23.40"."""
    hundredths = round(seconds * 100)
    minutes, rest = divmod(hundredths, 6000)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest // 100:02d}.{rest % 100:02d}"


def from_time_code(text: str) -> float:
    """The seconds of h:mm:ss.ff, m:ss or seconds alone; a VideoError for any other text."""
    written = _WRITTEN.fullmatch(text.strip())
    if written is None:
        raise VideoError(f'A time is written as h:mm:ss.ff, m:ss or seconds; got "{text}". Write for example 0:01:23.40.')
    hours, minutes, seconds = written.groups(default="0")
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds.replace(",", "."))


def frame_at(times: np.ndarray, seconds: float) -> int:
    """The frame that is shown at this time; the last one for a time after the end.

    Parameters
    ----------
    times : (T,) seconds at which each frame begins, ascending (`VideoReader.frame_times`)
    """
    return max(int(np.searchsorted(times, seconds + _HALF_UNIT, side="right")) - 1, 0)
