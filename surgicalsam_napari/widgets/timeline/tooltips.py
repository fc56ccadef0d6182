"""What the timeline's tooltips say."""

from __future__ import annotations

import numpy as np

from surgicalsam_napari.review.overview import Tally
from surgicalsam_napari.store.provenance import Provenance

WORDS = {
    Provenance.EMPTY: "not segmented",
    Provenance.ABSENT: "absent",
    Provenance.PREDICTED: "predicted",
    Provenance.EDITED: "edited",
    Provenance.VERIFIED: "verified",
}
# what a person has done first, for there is least of it
ORDER = (Provenance.VERIFIED, Provenance.EDITED, Provenance.PREDICTED, Provenance.ABSENT, Provenance.EMPTY)


def in_frames(frames: range) -> str:
    """range(3, 4) -> "Frame 3", range(3, 9) -> "Frames 3 to 8"."""
    return f"Frame {frames[0]:,}" if len(frames) == 1 else f"Frames {frames[0]:,} to {frames[-1]:,}"


def in_cell(class_name: str, frames: range, tally: Tally) -> str:
    """ "Frame 123 - Large Needle Driver: predicted, expected IoU 0.87"; of several frames, how many of each."""
    origins = [provenance for provenance in ORDER if provenance in tally.counts]
    if len(frames) == 1:
        what = WORDS[origins[0]]
    elif len(origins) == 1:
        what = "all " + WORDS[origins[0]]
    else:
        what = ", ".join(f"{tally.counts[provenance]:,} {WORDS[provenance]}" for provenance in origins)
    if tally.lowest_frame is not None:
        what += f", expected IoU {tally.lowest_iou:.2f}"
        if len(frames) > 1:
            what += f" at the lowest, in frame {tally.lowest_frame:,}"
    return f"{in_frames(frames)} - {class_name}: {what}"


def in_marks_row(frames: range, mark: float, notes: list[tuple[int, str]]) -> str:
    """How much the frames are worth a look, and where a propagation stopped and why."""
    if np.isnan(mark):
        lines = [f"{in_frames(frames)} - no review mark"] if not notes else []
    else:
        lines = [f"{in_frames(frames)} - worth a look: {'up to ' if len(frames) > 1 else ''}{mark:.0%}"]
    lines += [f"Frame {frame:,} - {text}" for frame, text in notes]
    return "\n".join(lines)
