"""The texts of the timeline's tooltips."""

from __future__ import annotations

import numpy as np

from surgicalsam_napari.formatting import counted
from surgicalsam_napari.review.overview import Tally
from surgicalsam_napari.store.provenance import Provenance
from surgicalsam_napari.widgets.timeline.rows import TrackLine

WORDS = {
    Provenance.EMPTY: "not segmented",
    Provenance.ABSENT: "absent",
    Provenance.PREDICTED: "predicted",
    Provenance.EDITED: "edited",
    Provenance.VERIFIED: "verified",
}
# first the work of a person, because it is the rarest
ORDER = (Provenance.VERIFIED, Provenance.EDITED, Provenance.PREDICTED, Provenance.ABSENT, Provenance.EMPTY)


def in_frames(frames: range) -> str:
    """range(3, 4) -> "Frame 3", range(3, 9) -> "Frames 3 to 8"."""
    return f"Frame {frames[0]:,}" if len(frames) == 1 else f"Frames {frames[0]:,} to {frames[-1]:,}"


def in_cell(class_name: str, frames: range, tally: Tally, caveat: str = "") -> str:
    """ "Frame 123 - Large Needle Driver: predicted, confidence 0.87"; counts for several frames.

    Parameters
    ----------
    caveat : what the confidence is worth, in the frame with the lowest one
    """
    origins = [provenance for provenance in ORDER if provenance in tally.counts]
    if len(frames) == 1:
        text = WORDS[origins[0]]
    elif len(origins) == 1:
        text = "all " + WORDS[origins[0]]
    else:
        text = ", ".join(f"{tally.counts[provenance]:,} {WORDS[provenance]}" for provenance in origins)
    if tally.lowest_frame is not None:
        text += f", {'lowest ' if len(frames) > 1 else ''}confidence {tally.lowest_iou:.2f}"
        if len(frames) > 1:
            text += f" (frame {tally.lowest_frame:,})"
        text += f", {caveat}" if caveat else ""
    if tally.voted:
        text += ", changed by the vote over time" + (f" in {tally.voted:,}" if len(frames) > 1 else "")
    return f"{in_frames(frames)} - {class_name}: {text}"


def in_track(line: TrackLine, frames: range) -> str:
    """ "Frame 12 - Large Needle Driver 2", or that it is out of view there."""
    return f"{in_frames(frames)} - {line.title}" + ("" if line.frame_in(frames) is not None else ": out of view")


def on_track_name(line: TrackLine) -> str:
    """ "Large Needle Driver 2: 48 frames from 3 to 60. Click to go to the first one." """
    track = line.track
    frames = counted(track.frame_count, "frame")
    return f"{line.title}: {frames} from {track.first:,} to {track.last:,}. Click to go to the first one."


def in_marks_row(frames: range, mark: float, notes: list[tuple[int, str]]) -> str:
    """The review priority of the frames, and where and why a propagation stopped."""
    if np.isnan(mark):
        lines = [f"{in_frames(frames)} - no review mark"] if not notes else []
    else:
        lines = [f"{in_frames(frames)} - needs review: {'up to ' if len(frames) > 1 else ''}{mark:.0%}"]
    lines += [f"Frame {frame:,} - {text}" for frame, text in notes]
    return "\n".join(lines)
