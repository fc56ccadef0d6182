"""Select frames, order them, and decode them ahead of the model."""

from __future__ import annotations

import re
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from surgicalsam_napari.errors import VideoError

if TYPE_CHECKING:
    from surgicalsam_napari.video import VideoReader

FRAMES_SYNTAX = re.compile(r"\s*(all|-?\d+|(-?\d+)?:(-?\d+)?(:\d*[1-9]\d*)?)\s*", re.IGNORECASE)
LONGEST = 100  # characters of three numbers
FRAMES_EXPECTATION = 'Frames are "all", one index like 12, or start:stop:step like 0:500:5 (from 0, stop not included)'
LARGEST_WINDOW = 32  # frames decoded at a time
WINDOW_MEGABYTES = 64  # memory of the frames decoded ahead; a second window of this size is in use


def is_frames_text(text: str) -> bool:
    """Whether `parse_frames` can read this text, whatever the video."""
    return FRAMES_SYNTAX.fullmatch(text) is not None


def parse_frames(text: str, frame_count: int) -> range:
    """Frame indices from "all", "12" or "0:500:5"; a slice is read as in Python, and may end beyond the last frame.

    Raises
    ------
    VideoError
        the text is none of these, or selects no frame of a video of `frame_count` frames
    """
    text = text.strip()
    if not is_frames_text(text):
        raise VideoError(f'{FRAMES_EXPECTATION}; got "{text}". Use one of these forms.')
    if text.casefold() == "all":
        return range(frame_count)
    if len(text) > LONGEST:
        raise VideoError(f"{FRAMES_EXPECTATION}; got a text of {len(text):,} characters. Use smaller numbers.")
    if ":" in text:
        start, stop, step = (int(part) if part else None for part in (text.split(":") + [""])[:3])
        indices = range(*slice(start, stop, step).indices(frame_count))
    else:
        index = int(text) + (frame_count if text.startswith("-") else 0)
        indices = range(index, index + 1) if 0 <= index < frame_count else range(0)
    if not indices:
        raise VideoError(f'"{text}" selects no frame: the video has the frames 0 to {frame_count - 1}. Choose among these.')
    return indices


def outward_order(indices: Sequence[int], center: int) -> list[int]:
    """The frame nearest to `center` first, then alternately after and before it, outward."""
    return sorted(set(indices), key=lambda index: (abs(index - center), index < center))


def checked_frames(frame_indices: Sequence[int], frame_count: int) -> list[int]:
    """The indices in their order, each once; a VideoError for one that the video does not have."""
    distinct = list(dict.fromkeys(int(index) for index in frame_indices))
    for index in distinct:
        if not 0 <= index < frame_count:
            raise VideoError(f"The video has the frames 0 to {frame_count - 1}; got {index}. Choose among these.")
    return distinct


def prefetched_frames(video: VideoReader, frame_indices: Sequence[int]) -> Generator[np.ndarray, None, None]:
    """Frames in the given order, decoded ahead by a separate thread.

    The first frame is decoded alone, so that it is ready at once. Then windows of growing length are decoded, each in
    ascending order: in outward order, the decoder would seek back to a keyframe for every second frame.

    Yields
    ------
    (H, W, 3) uint8 RGB for each index

    Raises
    ------
    VideoError
        when the frame that cannot be decoded is due, not before
    """
    stopped = threading.Event()

    def decode(window: Sequence[int]) -> dict[int, np.ndarray | VideoError]:
        frames: dict[int, np.ndarray | VideoError] = {}
        for index in sorted(window):
            if stopped.is_set():
                break
            try:
                frames[index] = video.frame(index)
            except VideoError as error:
                frames[index] = error
        return frames

    windows = list(_growing_windows(frame_indices, _largest_window(video)))
    with ThreadPoolExecutor(1, thread_name_prefix="frames") as decoder:
        try:
            pending = decoder.submit(decode, windows[0]) if windows else None
            for window, following in zip(windows, [*windows[1:], None], strict=True):
                assert pending is not None
                frames = pending.result()
                pending = decoder.submit(decode, following) if following else None
                for index in window:
                    frame = frames.pop(index)
                    if isinstance(frame, VideoError):
                        raise frame
                    yield frame
        finally:
            stopped.set()


def _growing_windows(frame_indices: Sequence[int], largest: int) -> Iterator[Sequence[int]]:
    start, length = 0, 1
    while start < len(frame_indices):
        yield frame_indices[start : start + length]
        start, length = start + length, min(2 * length, largest)


def _largest_window(video: VideoReader) -> int:
    height, width = video.info.size
    return int(np.clip(WINDOW_MEGABYTES * 2**20 // (height * width * 3), 1, LARGEST_WINDOW))
