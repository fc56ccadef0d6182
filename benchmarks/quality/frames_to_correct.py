"""How many frames a person corrects until nearly all frames are good: chosen by the review queue, or evenly spread."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from annotated_video import class_ious, good_share
from correcting import spread
from tool_use import ToolUse, drain, fill_between, learn, opened, segment_untouched

from surgicalsam_napari.review import MaskJumps, ReviewQueue
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project
from surgicalsam_napari.store.corrections import corrected_frames

ENOUGH = 0.95  # share of frames in which every class is good


def measure_correcting(tool: ToolUse, shares: Sequence[float], progress: Callable[[str], None], *, is_quick: bool) -> dict:
    """For each way of choosing: `reached`, the percent of corrected frames at which enough frames are good, or None; and
    `good`, the percent of good frames by the percent of corrected frames, up to there.

    Parameters
    ----------
    shares : percent of the labelled frames, ascending
    """
    counts = [math.ceil(share / 100 * len(tool.video.labelled)) for share in shares]
    result: dict = {"shares_tried": list(shares)}
    for way, rounds in (("review_queue", rounds_by_queue), ("evenly", rounds_evenly)):
        figures: dict = {"reached": None, "good": {}}
        for share, good in zip(shares, rounds(tool, counts, is_quick=is_quick), strict=False):
            figures["good"][f"{share:g}"] = round(100 * good, 1)
            progress(f"{way}: {share:g} % of the frames corrected, {100 * good:.1f} % good")
            if good >= ENOUGH:
                figures["reached"] = share
                break
        result[way] = figures
    return result


def rounds_by_queue(tool: ToolUse, counts: Sequence[int], *, is_quick: bool) -> Iterator[float]:
    """The share of good frames after each batch: the first evenly spread, the others from the head of the review queue."""
    labelled = tool.video.labelled
    with tool.fresh() as session:
        for count in counts:
            project = opened(session)
            left = count - len(corrected_frames(project))
            is_first = count == counts[0]
            batch = evenly(labelled, count) if is_first else head_of_queue(project, labelled, left)
            tool.correct(session, batch)
            yield _learned_and_filled(tool, session, is_quick=is_quick)


def rounds_evenly(tool: ToolUse, counts: Sequence[int], *, is_quick: bool) -> Iterator[float]:
    """The share of good frames with so many evenly spread corrected frames, each time in a new project."""
    for count in counts:
        with tool.fresh() as session:
            tool.correct(session, evenly(tool.video.labelled, count))
            good = _learned_and_filled(tool, session, is_quick=is_quick)
        yield good


def evenly(labelled: Sequence[int], count: int) -> list[int]:
    return [labelled[position] for position in spread(count, len(labelled))]


def head_of_queue(project: Project, labelled: Sequence[int], count: int) -> list[int]:
    """The next frames of the review queue that are not corrected; if it shows too few, the most suspicious others."""
    jumps = MaskJumps(project.labels, project.video.info.frame_count, project.classes.ids)
    drain(jumps.fill())
    queue = ReviewQueue.of(project, jumps)
    priority = queue.priority()
    open_frames = set(labelled) - set(corrected_frames(project))
    shown = list(iter(queue.next, None))
    others = sorted(open_frames.difference(shown), key=lambda frame: -priority[frame])
    return [frame for frame in [*shown, *others] if frame in open_frames][:count]


def _learned_and_filled(tool: ToolUse, session: Session, *, is_quick: bool) -> float:
    learn(session, tool.checkpoint, is_quick=is_quick)
    segment_untouched(session)
    fill_between(session)
    labels, video = opened(session).labels, tool.video
    return good_share([class_ious(labels[frame], video.truth(frame), video.classes.ids) for frame in video.labelled])
