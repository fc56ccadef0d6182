"""Simple ways to get masks from corrected frames: copying them, and carrying them by dense optical flow (OpenCV's DIS)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np
from annotated_video import AnnotatedVideo

from surgicalsam_napari.video import VideoReader

LARGEST = 255  # a share of 1, stored as uint8


def nearest(corrected: Sequence[int], frame_index: int) -> int:
    """The nearest corrected frame; of two the earlier one."""
    return min(corrected, key=lambda frame: (abs(frame - frame_index), frame))


class FlowCarrier:
    """Carries the masks of one frame along neighbouring frames, by dense inverse search flow ("medium") at full size.

    Parameters
    ----------
    label_map : (H, W) uint8, of the first frame
    picture : (H, W, 3) uint8, the first frame
    """

    def __init__(self, label_map: np.ndarray, picture: np.ndarray, class_ids: Sequence[int]) -> None:
        self.class_ids = tuple(class_ids)
        self.shares = np.stack([(label_map == class_id).astype(np.float32) for class_id in class_ids])
        self._grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        self._dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        height, width = label_map.shape
        self._columns, self._rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))

    def step(self, picture: np.ndarray) -> np.ndarray:
        """Carry the masks into the next frame; returns the shares there, (C, H, W) float32 from 0 to 1."""
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        flow = self._dis.calc(grey, self._grey, None)  # from each pixel of the new frame to its place in the last one
        columns, rows = self._columns + flow[..., 0], self._rows + flow[..., 1]
        for share in self.shares:
            if share.any():
                share[:] = cv2.remap(share, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        self._grey = grey
        return self.shares

    def label_map(self) -> np.ndarray:
        return label_map_of(self.shares, self.class_ids)


def label_map_of(shares: np.ndarray, class_ids: Sequence[int]) -> np.ndarray:
    """(H, W) uint8: the largest share of each pixel, the rest being background; shares (C, H, W) from 0 to 1."""
    with_background = np.concatenate([1 - shares.sum(axis=0, keepdims=True), shares])
    return np.array([0, *class_ids], np.uint8)[with_background.argmax(axis=0)]


def carried_by_flow(video: AnnotatedVideo, corrected: Sequence[int]) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Each frame that is not corrected, and its label map by flow from the nearest corrected frame and from both sides.

    From both sides: the shares, weighted by the distance to the other side. Before the first and after the last corrected
    frame there is one side only.
    """
    class_ids = video.classes.ids
    with VideoReader(video.path) as reader:
        for before, after in zip([None, *corrected], [*corrected, None], strict=True):
            backward = dict(_backward(video, reader, before, after))
            for frame, forward in _forward(video, reader, before, after):
                if forward is None or frame not in backward:
                    shares = backward[frame] / np.float32(LARGEST) if forward is None else forward
                    labels = label_map_of(shares, class_ids)
                    yield frame, labels, labels
                    continue
                assert before is not None and after is not None
                from_after = backward.pop(frame) / np.float32(LARGEST)
                weight = (after - frame) / (after - before)
                one_side = forward if frame - before <= after - frame else from_after
                both = weight * forward + (1 - weight) * from_after
                yield frame, label_map_of(one_side, class_ids), label_map_of(both, class_ids)


def _backward(
    video: AnnotatedVideo, reader: VideoReader, before: int | None, after: int | None
) -> Iterator[tuple[int, np.ndarray]]:
    """Frames between two corrected frames, and their shares (C, H, W) as uint8, carried from the later one."""
    if after is None:
        return
    frames = range(after - 1, -1 if before is None else before, -1)
    pictures = {frame: reader.frame(frame) for frame in reversed(frames)}  # a video is quick to read only forward
    carrier = FlowCarrier(video.truth(after), reader.frame(after), video.classes.ids)
    for frame in frames:
        yield frame, np.rint(LARGEST * carrier.step(pictures.pop(frame))).astype(np.uint8)


def _forward(
    video: AnnotatedVideo, reader: VideoReader, before: int | None, after: int | None
) -> Iterator[tuple[int, np.ndarray | None]]:
    """Frames between two corrected frames, and their shares (C, H, W), carried from the earlier one, or None without one."""
    frames = range(0 if before is None else before + 1, video.frame_count if after is None else after)
    if before is None:
        yield from ((frame, None) for frame in frames)
        return
    carrier = FlowCarrier(video.truth(before), reader.frame(before), video.classes.ids)
    for frame in frames:
        yield frame, carrier.step(reader.frame(frame))


def flow_from(video: AnnotatedVideo, start: int, frames: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
    """These frames, neighbours from `start` on, and their label maps by flow from there."""
    with VideoReader(video.path) as reader:
        carrier = FlowCarrier(video.truth(start), reader.frame(start), video.classes.ids)
        for frame in frames:
            carrier.step(reader.frame(frame))
            yield frame, carrier.label_map()
