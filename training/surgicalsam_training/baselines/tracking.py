"""Prompt each new instrument with points, and propagate its mask; replaces Track Anything of the paper.

When an instrument appears in a sequence, SAM is prompted with points from the truth. Its mask is then propagated into the
following frames (`propagation.mask_carrier`) by the appearance of its region, without the class prompt. In the paper
all instruments are prompted again when a new one appears (section 8.3); here only the new class gets points.

The method is half an oracle: the truth gives the time and place of each appearance, and nothing after that. The method only
notices that an instrument has left when almost nothing of its mask remains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from surgicalsam_napari.model.surgical_sam import PromptedMask, SurgicalSAM
from surgicalsam_napari.propagation.mask_carrier import MaskCarrier
from surgicalsam_training.baselines.answers import frame_embedding, frame_geometry, mask_in_frame, merged
from surgicalsam_training.baselines.oracle import EXTREME_MARGIN, answer_points, centroid, extremes
from surgicalsam_training.data.training_data import TrainingData
from surgicalsam_training.scoring.protocol import Asked

PointsOf = Callable[[np.ndarray], np.ndarray]  # mask (H, W) bool -> positive points (N, 2), x and y


def one_point(mask: np.ndarray) -> np.ndarray:
    """The centroid, (1, 2)."""
    return centroid(mask)[None]


def five_points(mask: np.ndarray, margin: float = EXTREME_MARGIN) -> np.ndarray:
    """The centroid and the four extremes, (5, 2); see `oracle.extremes`."""
    return np.concatenate([one_point(mask), extremes(mask, margin)])


@dataclass(frozen=True)
class Track:
    """An instrument that is followed through a sequence; `carrier` is None if its mask is empty or lost."""

    carrier: MaskCarrier | None


def predict_by_tracking(
    model: SurgicalSAM,
    data: TrainingData,
    example_indices: Sequence[int],
    asked: Asked,
    *,
    points: int = 1,
    margin: float = EXTREME_MARGIN,
) -> Iterator[tuple[int, np.ndarray]]:
    """One or five points on every instrument that appears, then propagation; sequence by sequence, frame by frame.

    An instrument appears in a frame that shows its class, if the frame is the first of its sequence, or if the previous
    frame in `example_indices` does not show the class or is not asked for it. It is then followed in every frame that is
    asked for its class.

    Parameters
    ----------
    points : 1 or 5
    margin : between the extreme points and the edge of the mask, in pixels of the frame
    """
    if points not in (1, 5):
        raise ValueError(f"An instrument should have 1 point or 5; got {points}. Choose 1 or 5.")
    points_of = one_point if points == 1 else partial(five_points, margin=margin)
    for sequence in dict.fromkeys(data.frames[example_index].sequence for example_index in example_indices):
        own = [example_index for example_index in example_indices if data.frames[example_index].sequence == sequence]
        yield from _tracked(
            model, data, sorted(own, key=lambda example_index: data.frames[example_index].frame_index), asked, points_of
        )


def _tracked(
    model: SurgicalSAM, data: TrainingData, example_indices: Sequence[int], asked: Asked, points_of: PointsOf
) -> Iterator[tuple[int, np.ndarray]]:
    tracks: dict[int, Track] = {}
    shown: set[int] = set()  # in the previous frame
    for example_index in example_indices:
        present, asked_ids = set(data.present_class_ids(example_index)), asked(example_index)
        answers: dict[int, PromptedMask] = {}
        followed: dict[int, Track] = {}
        for class_id in asked_ids:
            if class_id in present and (class_id not in shown or class_id not in tracks):
                answers[class_id], followed[class_id] = _start(model, data, example_index, class_id, points_of)
            elif class_id in tracks:
                followed[class_id] = tracks[class_id]
                carried = _carry(model, data, example_index, tracks[class_id])
                if carried is None:
                    followed[class_id] = Track(None)
                else:
                    answers[class_id] = carried
        tracks, shown = followed, present
        yield example_index, merged(answers, frame_geometry(model, data, example_index))


def _start(
    model: SurgicalSAM, data: TrainingData, example_index: int, class_id: int, points_of: PointsOf
) -> tuple[PromptedMask, Track]:
    embedding, geometry = frame_embedding(model, data, example_index), frame_geometry(model, data, example_index)
    answer = answer_points(model, embedding, points_of(data.label_map(example_index) == class_id), geometry)
    mask = mask_in_frame(answer.low_res_logits, geometry)
    return answer, Track(MaskCarrier(model, embedding.numpy(), mask, None) if mask.any() else None)


def _carry(model: SurgicalSAM, data: TrainingData, example_index: int, track: Track) -> PromptedMask | None:
    """The mask in this frame; None once it is lost, until the instrument appears again."""
    if track.carrier is None:
        return None
    carried = track.carrier.carry(frame_embedding(model, data, example_index).numpy())
    return None if carried.is_gone else PromptedMask(carried.low_res_logits, carried.agreement)
