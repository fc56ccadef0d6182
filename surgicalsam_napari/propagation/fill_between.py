"""Fill between: carry the corrected masks of classes into all frames between their corrected frames, from both ends.

Beyond the first and the last corrected frame, a carried mask replaces a prediction as long as it is more reliable.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.formatting import counted
from surgicalsam_napari.inference.embed import embedded_batches
from surgicalsam_napari.model.digest import checkpoint_record
from surgicalsam_napari.propagation.carried_labels import MOST_FRAMES, CarriedLabels, GapCarrying, Witness
from surgicalsam_napari.propagation.carried_prediction import carried_prediction
from surgicalsam_napari.propagation.fill_beyond import Beyond, stretches_beyond
from surgicalsam_napari.propagation.label_carrier import Appearance
from surgicalsam_napari.propagation.propagate import LEAST_AGREEMENT
from surgicalsam_napari.store import Provenance
from surgicalsam_napari.store.corrections import Gap, gaps_between
from surgicalsam_napari.store.label_maps import present_ids
from surgicalsam_napari.store.provenance import is_by_person

if TYPE_CHECKING:
    from surgicalsam_napari.model.surgical_sam import SurgicalSAM
    from surgicalsam_napari.store import Project
    from surgicalsam_napari.store.disk.action import Action


@dataclass(frozen=True)
class FillReport:
    """A step of the work: `done` of `total` frames are finished.

    Attributes
    ----------
    frame_index : the frame that is finished
    agreement : by class id, the IoU to expect, 0 to 1, of the classes that were written; empty while the masks are on their
        way from the first end
    changed : whether any pixel of the project's labels changed
    """

    frame_index: int
    done: int
    total: int
    agreement: dict[int, float]
    changed: bool = False


@dataclass(frozen=True)
class FillOutcome:
    """What was done.

    Attributes
    ----------
    filled : frames in which a class was written
    gaps : the number of gaps that have such a frame
    beyond : those of them before the first or behind the last corrected frame
    left : frames in gaps that are left to the model: too far from the corrected frames, in another scene, or with a
        prediction that is more reliable
    """

    filled: tuple[int, ...]
    gaps: int
    left: tuple[int, ...]
    beyond: int = 0

    def __str__(self) -> str:
        filled = f"Filled {counted(len(self.filled) - self.beyond, 'frame')} in {counted(self.gaps, 'gap')}"
        filled += f", and {self.beyond:,} before and behind them." if self.beyond else "."
        if not self.left:
            return filled
        return f"{filled} {counted(len(self.left), 'frame')} left: too far from a corrected frame, or another scene."


def fill_between(
    project: Project,
    class_ids: Sequence[int],
    model: SurgicalSAM | None = None,
    *,
    frame_indices: Collection[int] | None = None,
    most_frames: int = MOST_FRAMES,
    witness: Witness | None = None,
    action: Action | None = None,
) -> Generator[FillReport, None, FillOutcome]:
    """Carry the corrected masks of classes into the frames between corrected frames, from both ends, as one action.

    Where the ends disagree, each pixel goes to the more reliable one. A corrected frame without a class is an end,
    too. Before the first and behind the last corrected frame, a mask replaces predictions as far as it is more reliable.
    Closing the generator keeps the finished frames. What a person painted or verified stays; predictions are replaced.
    The agreement is stored as predicted IoU and presence.

    Parameters
    ----------
    class_ids : of the project's class set
    model : its embeddings help where motion is fast; missing ones are computed. None for flow alone
    frame_indices : change these frames alone; by default all
    most_frames : the farthest that a corrected frame is carried; frames beyond are left to the model
    witness : see `carried_labels`
    action : an open action that the frames become a part of

    Raises
    ------
    ProjectError
        no class has two corrected frames with frames between them
    ClassSetError, VideoError, CheckpointError, DiskSpaceError, DeviceError, WorkFailed
        frames reported up to then stay as they are
    """
    gaps = gaps_to_fill(project, class_ids, frame_indices)
    if not gaps:
        raise ProjectError(_why_nothing_to_fill(project, class_ids))
    total = len({index for gap in gaps for index in gap.frame_indices})
    filling = _Filling(project, model, most_frames, witness, frame_indices)
    filled_gaps, seen = 0, set[int]()
    name = f"Fill {_listed(project, class_ids)} between corrected frames"
    with project.action(name, total, within=action) as recorded:
        for gap in gaps:
            filled_before = len(filling.filled)
            with closing(filling.steps(gap, recorded)) as steps:
                for frame_index, agreement, changed in steps:
                    seen |= {frame_index} if agreement is not None else set()
                    yield FillReport(frame_index, len(seen), total, agreement or {}, changed)
            filled_gaps += len(filling.filled) > filled_before
        in_gaps = len(filling.filled)
        for beyond in stretches_beyond(project, gaps, filling.appearance, most_frames):
            total += len(beyond.frame_indices)
            with closing(filling.steps(beyond, recorded)) as steps:
                for frame_index, agreement, changed in steps:
                    seen |= {frame_index} if agreement is not None else set()
                    yield FillReport(frame_index, len(seen), total, agreement or {}, changed)
    left = {index for gap in gaps for index in gap.frame_indices} - filling.filled
    filled = tuple(sorted(filling.filled))
    return FillOutcome(filled, filled_gaps, tuple(sorted(left)), len(filled) - in_gaps)


def gaps_to_fill(project: Project, class_ids: Sequence[int], frame_indices: Collection[int] | None = None) -> list[Gap]:
    """The gaps between corrected frames, each with the classes that an end shows; other classes are left to the model.

    Parameters
    ----------
    frame_indices : only gaps with one of these frames; by default all
    """
    gaps, wanted = [], None if frame_indices is None else set(frame_indices)
    for gap in gaps_between(project, class_ids):
        if wanted is not None and wanted.isdisjoint(gap.frame_indices):
            continue
        shown = {class_id for end in (gap.before, gap.after) for class_id in present_ids(project.labels[end])}
        if class_ids_shown := tuple(class_id for class_id in gap.class_ids if class_id in shown):
            gaps.append(Gap(gap.before, gap.after, class_ids_shown))
    return gaps


def _why_nothing_to_fill(project: Project, class_ids: Sequence[int]) -> str:
    listed = _listed(project, class_ids)
    if gaps_between(project, class_ids):
        return f"The corrected frames show {listed} nowhere, so there is nothing to carry. Paint it in one of them."
    return (
        f"Filling needs two corrected frames of {listed} with frames between them. Correct it in another frame, a few "
        "seconds away."
    )


class _Filling:
    """Fills one gap after the other.

    Attributes
    ----------
    filled : the frames in which a class was written
    """

    def __init__(
        self,
        project: Project,
        model: SurgicalSAM | None,
        most_frames: int,
        witness: Witness | None,
        frame_indices: Collection[int] | None,
    ) -> None:
        self._project, self._model = project, model
        self._frames = None if frame_indices is None else set(frame_indices)
        self._most_frames, self._witness = most_frames, witness
        self._checkpoint = 0 if model is None else project.record_checkpoint(checkpoint_record(model))
        self.filled: set[int] = set()

    def steps(self, gap: Gap | Beyond, action: Action) -> Generator[tuple[int, dict[int, float] | None, bool], None, None]:
        """The finished frame, the classes written there with their agreements, whether it changed; or a step without."""
        video, labels = self._project.video, self._project.labels
        ends = {end: _restricted(labels[end], gap.class_ids) for end in (gap.before, gap.after) if end is not None}
        carrying = GapCarrying(video, ends, self._most_frames, self.appearance, self._witness)
        with closing(carrying.into_gap(gap.before, gap.after, gap.frame_indices)) as steps:
            for carried in steps:
                if carried is None:
                    yield min(ends), None, False
                else:
                    yield carried.frame_index, *self._written(gap, carried, action)

    def _written(self, gap: Gap | Beyond, carried: CarriedLabels, action: Action) -> tuple[dict[int, float], bool]:
        if self._frames is not None and carried.frame_index not in self._frames:
            return {}, False
        agreement = {
            class_id: carried.agreement(class_id)
            for class_id in gap.class_ids
            if self._is_in_reach(gap, carried.frame_index, class_id)
            and self._is_better(carried.frame_index, class_id, carried.agreement(class_id))
        }
        if not agreement:
            return {}, False
        masks = _restricted(carried.label_map, tuple(agreement))
        prediction = carried_prediction(self._project, carried.frame_index, masks, agreement)
        changed = self._project.labels.write_prediction(carried.frame_index, prediction, self._checkpoint, action=action)
        self.filled.add(carried.frame_index)
        return agreement, changed

    def _is_in_reach(self, gap: Gap | Beyond, frame_index: int, class_id: int) -> bool:
        """Whether it is in a gap, or near enough and a model was asked for the class."""
        if isinstance(gap, Gap):
            return True
        is_asked = self._project.labels.provenance(frame_index, class_id) in (Provenance.PREDICTED, Provenance.ABSENT)
        return is_asked and abs(frame_index - gap.end) <= gap.reach[class_id]

    def _is_better(self, frame_index: int, class_id: int, agreement: float) -> bool:
        """Whether the carried mask may replace what is there: no work of a person, no prediction that is more reliable."""
        labels = self._project.labels
        provenance = labels.provenance(frame_index, class_id)
        if is_by_person(np.array(provenance)):
            return False
        is_predicted = provenance in (Provenance.PREDICTED, Provenance.ABSENT)
        return agreement >= LEAST_AGREEMENT or not is_predicted or agreement >= labels.predicted_iou(frame_index, class_id)

    @cached_property
    def appearance(self) -> Appearance | None:
        """The model's embeddings; None without a model."""
        if self._model is None:
            return None
        project, model = self._project, self._model

        def embedding_of(frame_index: int) -> np.ndarray:
            with closing(embedded_batches(project, model, [frame_index])) as batches:
                return next(batches)[1][0, : model.decoder_dim]

        return Appearance(embedding_of, model.input_size)


def _restricted(label_map: np.ndarray, class_ids: Sequence[int]) -> np.ndarray:
    """The label map with these classes alone."""
    return np.where(np.isin(label_map, class_ids), label_map, 0).astype(np.uint8)


def _listed(project: Project, class_ids: Sequence[int]) -> str:
    names = [project.classes.by_id(class_id).name for class_id in dict.fromkeys(class_ids)]
    return names[0] if len(names) == 1 else f"{len(names)} classes"
