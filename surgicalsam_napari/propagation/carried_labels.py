"""Labels carried from corrected frames into the frames between them, from both sides; nothing is written to a project."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np

from surgicalsam_napari.inference.frame_selection import checked_frames, prefetched_frames
from surgicalsam_napari.propagation.flow import scene_changes
from surgicalsam_napari.propagation.label_carrier import (
    Appearance,
    CarriedFields,
    LabelCarrier,
    combined,
    enlarged,
    expected_iou,
    label_map_of,
    most_probable,
    probabilities,
)
from surgicalsam_napari.store.label_maps import present_ids

if TYPE_CHECKING:
    from surgicalsam_napari.video import VideoReader

MOST_FRAMES = 200  # the farthest that a corrected frame is carried
DISTANCE_STEP = 0.25  # pixels: the precision of distances that wait for the other side
COARSE = 4  # the reduction of their smooth fields

Witness = Callable[[int, tuple[int, int]], CarriedFields | None]


@dataclass(frozen=True)
class CarriedLabels:
    """The labels carried into one frame.

    Attributes
    ----------
    labels : the C labels that can occur: 0, the background, and the classes
    fields : what the corrected frames say, at the working size
    size : (H, W) of the frame
    """

    frame_index: int
    labels: tuple[int, ...]
    fields: CarriedFields
    size: tuple[int, int]

    @cached_property
    def label_map(self) -> np.ndarray:
        """(H, W) uint8."""
        return label_map_of(self.fields, self.labels, self.size)

    @cached_property
    def reliability(self) -> np.ndarray:
        """(H, W) float32, 0 to 1: an estimate of the probability that the label is right."""
        return enlarged(self._probabilities.max(axis=0), self.size)

    def agreement(self, class_id: int) -> float:
        """The IoU to expect of a class's mask, 0 to 1; how sure its absence is if it has none."""
        if class_id not in self.labels:
            return float(self.fields.fit.mean())
        index = self.labels.index(class_id)
        mask = most_probable(self._probabilities) == index
        return expected_iou(self._probabilities[index], mask) if mask.any() else float(self._probabilities[0].mean())

    @cached_property
    def _probabilities(self) -> np.ndarray:
        return probabilities(self.fields)


def carried_labels(
    video: VideoReader,
    corrected: Mapping[int, np.ndarray],
    frame_indices: Sequence[int],
    *,
    most_frames: int = MOST_FRAMES,
    appearance: Appearance | None = None,
    witness: Witness | None = None,
) -> Generator[CarriedLabels, None, None]:
    """Labels for these frames, carried from the corrected frames before and after each of them.

    Gap by gap; within a gap from the last frame to the first. Left out are corrected frames, frames farther than
    `most_frames` from each corrected frame, and frames in another scene than the corrected frames next to them.

    Parameters
    ----------
    corrected : by frame index, (H, W) uint8: complete label maps
    appearance : the embeddings; by default the flow works alone
    witness : another opinion on a frame, at the working size (h, w); None where it has none

    Raises
    ------
    VideoError
        a frame that the video does not have, or that cannot be decoded
    """
    frame_count = video.info.frame_count
    wanted = set(checked_frames(list(frame_indices), frame_count)) - set(corrected)
    carrying = GapCarrying(video, corrected, most_frames, appearance, witness)
    anchors = sorted(corrected)
    for before, after in zip([None, *anchors], [*anchors, None], strict=True):
        first, last = (0 if before is None else before + 1), (frame_count if after is None else after) - 1
        if gap := [index for index in range(first, last + 1) if index in wanted]:
            with closing(carrying.into_gap(before, after, gap)) as steps:
                yield from (step for step in steps if step is not None)


@dataclass(frozen=True)
class GapCarrying:
    """Carries labels into one gap after the other; the attributes are the arguments of `carried_labels`."""

    video: VideoReader
    corrected: Mapping[int, np.ndarray]
    most_frames: int
    appearance: Appearance | None
    witness: Witness | None

    def into_gap(
        self, before: int | None, after: int | None, gap: Sequence[int]
    ) -> Generator[CarriedLabels | None, None, None]:
        """The labels in these ascending frames between two corrected frames; None for each other step of the work."""
        ends = [self.corrected[end] for end in (before, after) if end is not None]
        labels = (0, *sorted({class_id for end in ends for class_id in present_ids(end)}))
        wanted, earlier = set(gap), dict[int, _Packed]()
        if before is not None:
            path = range(before + 1, min(gap[-1], before + self.most_frames) + 1)
            with closing(self._from_end(before, labels, path)) as carried:
                for index, fields in carried:
                    if index in wanted:
                        earlier[index] = _Packed(fields)
                    yield None
        if after is not None:
            path = range(after - 1, max(gap[0], after - self.most_frames) - 1, -1)
            with closing(self._from_end(after, labels, path)) as carried:
                for index, fields in carried:
                    sides = [earlier.pop(index).fields, fields] if index in earlier else [fields]
                    yield self._blended(index, labels, sides) if index in wanted else None
        for index in sorted(earlier, reverse=True):  # too far from the later corrected frame
            yield self._blended(index, labels, [earlier.pop(index).fields])

    def _from_end(
        self, end: int, labels: Sequence[int], path: Sequence[int]
    ) -> Generator[tuple[int, CarriedFields], None, None]:
        """A corrected frame's labels in the frames next to it, one by one, until the scene changes."""
        with closing(prefetched_frames(self.video, [end, *path])) as frames:
            previous = next(frames)
            carrier = LabelCarrier(previous, self.corrected[end], labels, self.appearance, end)
            for index, frame in zip(path, frames, strict=True):
                if scene_changes(previous, frame):
                    return
                yield index, carrier.carry(frame, index)
                previous = frame

    def _blended(self, index: int, labels: tuple[int, ...], sides: list[CarriedFields]) -> CarriedLabels:
        opinion = None if self.witness is None else self.witness(index, sides[0].weight.shape)
        return CarriedLabels(index, labels, combined(sides if opinion is None else [*sides, opinion]), self.video.info.size)


class _Packed:
    """`CarriedFields` that wait for the other side, in little memory."""

    def __init__(self, fields: CarriedFields) -> None:
        self._shape = fields.distances.shape
        steps = np.rint(fields.distances / DISTANCE_STEP).astype(np.int8)
        self._distances = zlib.compress(steps.tobytes(), 1)
        height, width = self._shape[1:]
        coarse = max(width // COARSE, 1), max(height // COARSE, 1)
        self._smooth = [
            cv2.resize(field, coarse, interpolation=cv2.INTER_AREA).astype(np.float16)
            for field in (np.log(fields.weight), fields.fit)
        ]

    @property
    def fields(self) -> CarriedFields:
        steps = np.frombuffer(zlib.decompress(self._distances), np.int8).reshape(self._shape)
        weight, fit = (enlarged(field.astype(np.float32), self._shape[1:]) for field in self._smooth)
        return CarriedFields(steps * np.float32(DISTANCE_STEP), np.exp(weight), fit)
