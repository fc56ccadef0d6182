"""Propagation through an annotated video from one corrected frame, beside copying the mask and carrying it by flow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from annotated_video import AnnotatedVideo, by_class, class_ious
from simple_ways import flow_from
from tool_use import ToolUse, opened

from surgicalsam_napari.propagation.propagate import propagate_class


def measure_propagation(tool: ToolUse, starts: Sequence[int], distance: int) -> dict:
    """Percent by first frame, way and class, and `mean` over the first frames; starts that do not fit are left out."""
    video = tool.video
    result = {str(start): propagated(tool, start, distance) for start in fitting_starts(video, starts, distance)}
    ways = ("tool", "tool_until_stop", "copy", "flow")
    return {**result, "mean": {way: _mean([figures[way] for figures in result.values()], video) for way in ways}}


def fitting_starts(video: AnnotatedVideo, starts: Sequence[int], distance: int) -> list[int]:
    """The first labelled frame from each start on, if so many frames come after it."""
    first = [next((frame for frame in video.labelled if frame >= start), video.frame_count) for start in starts]
    return list(dict.fromkeys(frame for frame in first if frame + distance < video.frame_count))


def _mean(figures: list[dict[str, float | None]], video: AnnotatedVideo) -> dict[str, float | None]:
    found = {name: [one[name] for one in figures if one[name] is not None] for name in video.classes.names}
    return {name: round(float(np.mean(values)), 1) if values else None for name, values in found.items()}


def propagated(tool: ToolUse, start: int, distance: int) -> dict:
    """The figures of one first frame."""
    video, ids = tool.video, tool.video.classes.ids
    frames = range(start + 1, start + 1 + distance)
    corrected = video.truth(start)
    with tool.fresh() as session:
        tool.correct(session, [start])
        stops = dict(_propagate_all(tool, session, start, frames))
        labels = {frame: opened(session).labels[frame] for frame in frames if frame in video.by_index}
    by_flow = dict(flow_from(video, start, frames))
    ious: dict[str, list[np.ndarray]] = {"tool": [], "tool_until_stop": [], "copy": [], "flow": []}
    for frame in labels:
        truth = video.truth(frame)
        with_tool = class_ious(labels[frame], truth, ids)
        is_after = np.array([stops[class_id] is not None and frame >= stops[class_id] for class_id in ids])
        ious["tool"].append(with_tool)
        ious["tool_until_stop"].append(np.where(is_after, np.nan, with_tool))
        ious["copy"].append(class_ious(corrected, truth, ids))
        ious["flow"].append(class_ious(by_flow[frame], truth, ids))
    is_shown = [bool(np.any(corrected == class_id)) for class_id in ids]
    figures: dict = {
        way: by_class(video.classes, [np.where(is_shown, i, np.nan) for i in rows]) for way, rows in ious.items()
    }
    return {**figures, "stopped": {video.classes.by_id(class_id).name: stop for class_id, stop in stops.items()}}


def _propagate_all(tool, session, start: int, frames: Sequence[int]) -> Iterator[tuple[int, int | None]]:  # type: ignore[no-untyped-def]
    """Propagate each class that the first frame shows. Yields the class id and the frame of its stop, or None."""
    project = opened(session)
    for class_id in tool.video.classes.ids:
        stop = None
        if np.any(project.labels[start] == class_id):
            for report in propagate_class(project, tool.model, class_id, start, frames):
                stop = report.frame_index if report.stopped else None
        yield class_id, stop
