"""What the list of videos says: counts, times, states, and the remedy where a video cannot be opened or segmented."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from surgicalsam_napari.formatting import counted
from surgicalsam_napari.store.ownership import Owner
from surgicalsam_napari.widgets.start.segmentation_queue import QueuedVideo, QueueState
from surgicalsam_napari.widgets.start.summaries import Listed

if TYPE_CHECKING:
    from surgicalsam_napari.tracking.segment_video import VideoOutcome

OPEN_HERE, IN_USE, NO_VIDEO, UNREADABLE = "Open here", "In use", "Video not found", "Cannot be read"


def day_and_time(when: datetime, now: datetime | None = None) -> str:
    """ "today 14:05", "yesterday 14:05", "3 Nov 14:05", "3 Nov 2025", in local time."""
    when = when.astimezone()
    now = datetime.now().astimezone() if now is None else now
    days = {now.date(): "today", now.date() - timedelta(days=1): "yesterday"}
    if when.date() in days:
        return f"{days[when.date()]} {when:%H:%M}"
    day = f"{when.day} {when:%b}"
    return f"{day} {when:%H:%M}" if when.year == now.year else f"{day} {when.year}"


def moment(opened: str | None) -> datetime | None:
    """The remembered text as a time; None for none, and for one that cannot be read."""
    with suppress(ValueError):
        return None if opened is None else datetime.fromisoformat(opened)
    return None


def facts(listed: Listed, opened: datetime | None) -> str:
    """One line for the start page: "60 frames · 12 corrected · today 14:05", or why it cannot be opened."""
    summary = listed.summary
    if summary is None:
        return UNREADABLE if listed.problem else "…"
    if not summary.is_video_found:
        return f"{NO_VIDEO}: click to find it"
    parts = [counted(summary.frame_count, "frame")]
    parts += [f"{summary.corrected:,} corrected"] if summary.corrected else []
    parts += [f"{summary.verified:,} verified"] if summary.verified else []
    parts += [f"{summary.parts_corrected:,} with parts"] if summary.parts_corrected else []
    if summary.owner is not None:
        parts.append(f"in use by {summary.owner.user}")
    elif opened is not None:
        parts.append(day_and_time(opened))
    return " · ".join(parts)


def state(listed: Listed, queued: QueuedVideo | None, *, is_open: bool) -> str:
    """A few words for the last column of the list."""
    if queued is not None and queued.state is not QueueState.CANCELLED:
        return _queue_state(queued)
    if listed.problem:
        return UNREADABLE
    if is_open:
        return OPEN_HERE
    summary = listed.summary
    if summary is None:
        return "…"
    if not summary.is_video_found:
        return NO_VIDEO
    if summary.owner is not None:
        return f"{IN_USE} by {summary.owner.user}"
    if queued is not None:
        is_among_frames = queued.total and not queued.is_voting
        return f"Cancelled after {queued.done:,} of {queued.total:,}" if is_among_frames else "Cancelled"
    return ""


def explanation(listed: Listed, queued: QueuedVideo | None, *, is_open: bool) -> str:
    """What the state means, and what to do; empty if there is nothing to say."""
    if queued is not None and queued.state is QueueState.FAILED:
        return f"{listed.name} was not segmented. {queued.error}"
    if queued is not None and queued.state is QueueState.DONE and queued.outcome is not None:
        return f"{listed.name}: {found(queued.outcome)}"
    if listed.problem:
        return listed.problem
    summary = listed.summary
    if summary is None or is_open:
        return ""
    if not summary.is_video_found:
        return (
            f"The video of this project was at {summary.video} and is not there. Its labels are safe. Connect its disk, or "
            "show where the video is now."
        )
    if summary.owner is not None:
        return f"{in_use(summary.owner)} Close it there to edit or segment it here. Opened now, it is read-only."
    return cancelled(queued) if queued is not None and queued.state is QueueState.CANCELLED else ""


def in_use(owner: Owner) -> str:
    """ "anna on or-pc has this project open, since today 10:42." """
    since = owner.since
    with suppress(ValueError):
        since = day_and_time(datetime.fromisoformat(since))
    return f"{owner.user} on {owner.host} has this project open, since {since}."


def found(outcome: VideoOutcome) -> str:
    """ "found Large Needle Driver in 48, Clip Applier in 3 of 60 frames; not found: …; 3 verified frames left alone."."""
    counts = sorted(outcome.frames_with_class.items(), key=lambda entry: -entry[1])
    shown = ", ".join(f"{name} in {count:,}" for name, count in counts if count)
    missing = ", ".join(name for name, count in counts if not count)
    frames = counted(outcome.frame_count, "frame")
    parts = [f"found {shown} of {frames}"] if shown else []
    parts += [f"not found: {missing}" if shown else f"found nothing in {frames}. It looked for {missing}"] if missing else []
    parts += [f"{counted(outcome.verified, 'verified frame')} left alone"] if outcome.verified else []
    before = outcome.frame_count - outcome.segmented
    parts += [f"{counted(before, 'frame')} done before"] if before > outcome.verified else []
    text = "; ".join(parts) + "."
    return f"{text} {outcome.vote}" if outcome.vote is not None and outcome.vote.changed else text


def cancelled(queued: QueuedVideo) -> str:
    """What a cancel has left."""
    if not queued.total:
        return "Cancelled before its first frame. Press Segment to start it again."
    if queued.is_voting:
        return "Cancelled during the vote over time; all frames are segmented. Press Segment to vote again."
    return f"Cancelled after {queued.done:,} of {counted(queued.total, 'frame')}. Press Segment to go on from there."


def _queue_state(queued: QueuedVideo) -> str:
    if queued.state is QueueState.WAITING:
        return "Waiting"
    if queued.state is QueueState.FAILED:
        return "Not segmented"
    if queued.state is QueueState.DONE and queued.outcome is not None:
        shown = sum(count > 0 for count in queued.outcome.frames_with_class.values())
        return f"Found {shown} class{'' if shown == 1 else 'es'}" if shown else "Nothing found"
    if queued.is_voting:
        return f"Vote over time: {queued.done / queued.total:.0%}"
    return f"Frame {queued.done:,} of {queued.total:,}" if queued.total else "Starting…"


def summary_line(videos: list[QueuedVideo]) -> str:
    """The end of a queue: "2 of 3 videos segmented. 1 failed: select it to see why."."""
    done = sum(video.state is QueueState.DONE for video in videos)
    failed = sum(video.state is QueueState.FAILED for video in videos)
    text = f"{done} of {counted(len(videos), 'video')} segmented."
    if failed:
        text += f" {failed} could not be: select {'it' if failed == 1 else 'them'} to see why."
    if any(video.state is QueueState.CANCELLED for video in videos):
        text += " Cancelled: Segment goes on from there."
    return text
