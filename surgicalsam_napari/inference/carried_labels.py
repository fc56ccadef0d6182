"""Carry corrected label maps into the frames near them by optical flow, from both sides; writes nothing.

A mask is carried as its signed distance: positive inside, in pixels. Distances can be averaged without losing thin parts
and moved without blurring the outline.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from surgicalsam_napari.inference.flow import FlowTracker, reduced
from surgicalsam_napari.inference.frame_selection import checked_frames, prefetched_frames
from surgicalsam_napari.store.label_maps import present_ids

if TYPE_CHECKING:
    from surgicalsam_napari.video import VideoReader

MOST_FRAMES = 200  # the farthest that a corrected frame is carried
FARTHEST = 31.0  # pixels of the working size; larger distances count as this
DISTANCE_STEP = 0.25  # pixels: the precision at which distances wait for the other side
NOISE = 2.0  # grey levels: a residual that also equal pictures have


@dataclass(frozen=True)
class CarriedLabels:
    """The labels carried into one frame.

    Attributes
    ----------
    label_map : (H, W) uint8
    reliability : (H, W) float32, 0 to 1: an estimate of the probability that the label is right
    """

    frame_index: int
    label_map: np.ndarray
    reliability: np.ndarray


def carried_labels(
    video: VideoReader,
    corrected: Mapping[int, np.ndarray],
    frame_indices: Sequence[int],
    *,
    most_frames: int = MOST_FRAMES,
) -> Iterator[CarriedLabels]:
    """Labels for these frames, carried from the corrected frames before and after each of them.

    Gap by gap; within a gap from the last frame to the first. Corrected frames, and frames farther than `most_frames` from
    each corrected frame, are left out.

    Parameters
    ----------
    corrected : by frame index, (H, W) uint8: complete label maps

    Raises
    ------
    VideoError
        a frame that the video does not have, or that cannot be decoded
    """
    wanted = set(checked_frames(list(frame_indices), video.info.frame_count))
    anchors = sorted(corrected)
    for before, after in zip([None, *anchors], [*anchors, None], strict=True):
        first = 0 if before is None else before + 1
        last = video.info.frame_count - 1 if after is None else after - 1
        gap = [index for index in range(first, last + 1) if index in wanted]
        if gap:
            yield from _carried_into_gap(video, corrected, before, after, gap, most_frames)


def _carried_into_gap(
    video: VideoReader,
    corrected: Mapping[int, np.ndarray],
    before: int | None,
    after: int | None,
    gap: Sequence[int],
    most_frames: int,
) -> Iterator[CarriedLabels]:
    ends = [corrected[end] for end in (before, after) if end is not None]
    class_ids = sorted({class_id for end in ends for class_id in present_ids(end)})
    from_before: dict[int, _Packed] = {}
    wanted = set(gap)
    if before is not None:
        frames = range(before + 1, min(gap[-1], before + most_frames) + 1)
        with closing(_carried_from(video, before, corrected[before], class_ids, frames)) as sides:
            from_before = {side.frame_index: _Packed(side) for side in sides if side.frame_index in wanted}
    if after is not None:
        frames = range(after - 1, max(gap[0], after - most_frames) - 1, -1)
        with closing(_carried_from(video, after, corrected[after], class_ids, frames)) as sides:
            for side in sides:
                if side.frame_index in wanted:
                    packed = from_before.pop(side.frame_index, None)
                    yield _blended([side] if packed is None else [packed.side, side], class_ids, video.info.size)
    for frame_index in sorted(from_before, reverse=True):  # too far from the later corrected frame
        yield _blended([from_before[frame_index].side], class_ids, video.info.size)


@dataclass(frozen=True)
class _Side:
    """What one corrected frame says about a frame.

    Attributes
    ----------
    distances : (C + 1, h, w) float32: signed distances of the background and of each class
    weight : (h, w) float32, the higher the better
    """

    frame_index: int
    distances: np.ndarray
    weight: np.ndarray


class _Packed:
    """A `_Side` that waits for the other side, in little memory."""

    def __init__(self, side: _Side) -> None:
        self._frame_index, self._shape = side.frame_index, side.distances.shape
        self._distances = zlib.compress(np.rint(side.distances / DISTANCE_STEP).astype(np.int8).tobytes(), 1)
        self._weight = side.weight.astype(np.float16)

    @property
    def side(self) -> _Side:
        steps = np.frombuffer(zlib.decompress(self._distances), np.int8).reshape(self._shape)
        return _Side(self._frame_index, steps * np.float32(DISTANCE_STEP), self._weight.astype(np.float32))


def _carried_from(
    video: VideoReader, anchor: int, label_map: np.ndarray, class_ids: Sequence[int], frame_indices: Sequence[int]
) -> Generator[_Side, None, None]:
    """The labels of a corrected frame in these frames, which follow it one by one in either direction."""
    with closing(prefetched_frames(video, [anchor, *frame_indices])) as frames:
        tracker = FlowTracker(next(frames))
        distances = signed_distances(label_map, [0, *class_ids], tracker.size)
        for frame_index, frame in zip(frame_indices, frames, strict=True):
            found = tracker.advance(frame)
            weight = 1 / ((found.residual + NOISE) ** 2 * abs(frame_index - anchor))
            yield _Side(frame_index, np.stack([found.carried(distance) for distance in distances]), weight)


def _blended(sides: Sequence[_Side], class_ids: Sequence[int], size: tuple[int, int]) -> CarriedLabels:
    total = sum(side.weight for side in sides)
    blended = sum(side.distances * side.weight for side in sides) / total
    labels = np.array([0, *class_ids], np.uint8)
    enlarged = np.stack([_enlarged(distance, size) for distance in blended])
    label_map = labels[enlarged.argmax(axis=0)]
    best = blended.argmax(axis=0)
    votes = sum(_share(side.distances, best) * side.weight for side in sides) / total
    fit = 1 / (1 + 1 / np.maximum(total, 1e-6) / 1e3)
    return CarriedLabels(sides[0].frame_index, label_map, _enlarged(votes * fit, size))


def _share(distances: np.ndarray, label_indices: np.ndarray) -> np.ndarray:
    """(h, w): the probability that a side gives to these labels; 0.5 on an outline, sharp within a pixel."""
    odds = np.exp(np.clip(distances, -8, 8))
    return np.take_along_axis(odds, label_indices[None], axis=0)[0] / odds.sum(axis=0)


def signed_distances(label_map: np.ndarray, values: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """(C, h, w) float32: for each value its signed distance in pixels of the working size, at most `FARTHEST`.

    Parameters
    ----------
    label_map : (H, W) uint8
    size : (h, w), the working size
    """
    share = size[0] / label_map.shape[0]
    distances = [reduced(_signed_distance(label_map == value), size) * np.float32(share) for value in values]
    return np.stack(distances).clip(-FARTHEST, FARTHEST)


def _signed_distance(mask: np.ndarray) -> np.ndarray:
    """(H, W) float32, in pixels: 0.5 in the outermost pixels of the mask, -0.5 in the pixels around it."""
    if not mask.any() or mask.all():
        return np.full(mask.shape, np.inf if mask.any() else -np.inf, np.float32)
    inside, outside = (
        cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for part in (mask, ~mask)
    )
    return np.where(mask, inside - 0.5, 0.5 - outside).astype(np.float32)


def _enlarged(field: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A field of the working size, (h, w), at the size of the frame."""
    return field if field.shape == size else cv2.resize(field, size[::-1], interpolation=cv2.INTER_LINEAR)
