"""Beyond the first and the last corrected frame: how far a carried mask is more reliable than the model's own.

Carrying is measured where the truth is known: from one corrected frame to the next. Its loss of IoU is taken to grow evenly
with the distance. On real video it grows faster in places, so a mask is carried beyond the last corrected frame only until
half of the model's loss is to be expected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from surgicalsam_napari.inference.frame_selection import prefetched_frames
from surgicalsam_napari.propagation.label_carrier import Appearance, LabelCarrier, label_map_of
from surgicalsam_napari.store import Provenance
from surgicalsam_napari.store.corrections import Gap
from surgicalsam_napari.store.label_maps import present_ids

if TYPE_CHECKING:
    from surgicalsam_napari.store import Project

LEAST_LOSS = 0.02  # of an IoU: nothing counts as more certain
SHARE_OF_LOSS = 0.5  # of the model's loss
LEAST_PREDICTED = 3  # frames; with fewer, nothing is known about the model


@dataclass(frozen=True)
class Beyond:
    """Frames on the outer side of a corrected frame.

    Attributes
    ----------
    end : the corrected frame
    step : 1 if the frames are later, -1 if they are earlier
    reach : by class id, the farthest frame to carry to, as a distance from the corrected frame
    """

    end: int
    step: int
    reach: Mapping[int, int]

    @property
    def class_ids(self) -> tuple[int, ...]:
        return tuple(self.reach)

    @property
    def before(self) -> int | None:
        return self.end if self.step > 0 else None

    @property
    def after(self) -> int | None:
        return self.end if self.step < 0 else None

    @property
    def frame_indices(self) -> range:
        """Ascending."""
        farthest = max(self.reach.values())
        return range(self.end + 1, self.end + 1 + farthest) if self.step > 0 else range(self.end - farthest, self.end)


def stretches_beyond(
    project: Project, gaps: Sequence[Gap], appearance: Appearance | None, most_frames: int
) -> Iterator[Beyond]:
    """The frames beyond the outermost gaps of each class in which a carried mask should replace the model's.

    Frames without a prediction of the class are left alone: nobody asked for it there.
    """
    for step in (1, -1):
        outermost: dict[Gap, list[int]] = {}
        for class_id in dict.fromkeys(class_id for gap in gaps for class_id in gap.class_ids):
            own = [gap for gap in gaps if class_id in gap.class_ids]
            outermost.setdefault(own[-1] if step > 0 else own[0], []).append(class_id)
        for gap, class_ids in outermost.items():
            if reach := _reach(project, gap, class_ids, step, appearance, most_frames):
                yield Beyond(gap.after if step > 0 else gap.before, step, reach)


def _reach(
    project: Project, gap: Gap, class_ids: Sequence[int], step: int, appearance: Appearance | None, most_frames: int
) -> dict[int, int]:
    near, far = (gap.after, gap.before) if step > 0 else (gap.before, gap.after)
    distance, truth = gap.after - gap.before, project.labels[near]
    room = project.video.info.frame_count - 1 - near if step > 0 else near
    limit, shown = min(most_frames, room), present_ids(truth)
    predicted = {class_id: _predicted_loss(project, class_id, near, step, limit) for class_id in class_ids}
    asked = [class_id for class_id in class_ids if class_id in shown and predicted[class_id] is not None]
    if not asked or distance > most_frames:
        return {}
    carried = _carried(project, far, near, step, asked, appearance)
    reach = {}
    for class_id in asked:
        mask, true = carried == class_id, truth == class_id
        loss = max(1 - np.count_nonzero(mask & true) / np.count_nonzero(mask | true), LEAST_LOSS)
        model_loss = predicted[class_id]
        assert model_loss is not None
        if farthest := min(int(distance * SHARE_OF_LOSS * model_loss / loss), limit):
            reach[class_id] = farthest
    return reach


def _predicted_loss(project: Project, class_id: int, end: int, step: int, limit: int) -> float | None:
    """1 - the mean predicted IoU of the class in the frames beyond an end; None if the model was hardly asked there."""
    frames = np.arange(end + step, end + step * (limit + 1), step)
    column = project.classes.ids.index(class_id)
    is_predicted = project.labels.provenance_table()[frames, column] == Provenance.PREDICTED
    if np.count_nonzero(is_predicted) < LEAST_PREDICTED:
        return None
    return float(1 - np.nanmean(project.labels.table("predicted_iou")[frames[is_predicted], column]))


def _carried(
    project: Project, far: int, near: int, step: int, class_ids: Sequence[int], appearance: Appearance | None
) -> np.ndarray:
    """(H, W) uint8: the labels of one corrected frame carried to the next."""
    label_map = project.labels[far]
    labels = (0, *class_ids)
    label_map = np.where(np.isin(label_map, class_ids), label_map, 0).astype(np.uint8)
    path = range(far + step, near + step, step)
    with closing(prefetched_frames(project.video, [far, *path])) as frames:
        carrier = LabelCarrier(next(frames), label_map, labels, appearance, far)
        for frame_index, frame in zip(path, frames, strict=True):
            fields = carrier.carry(frame, frame_index)
    return label_map_of(fields, labels, label_map.shape)
