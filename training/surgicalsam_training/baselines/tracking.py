"""Prompt instruments with points when a new one appears, and follow them; replaces Track Anything of the paper.

The paper's rule (section 8.3): in the first frame every instrument is prompted with points from the truth, and followed. In
a frame with a new instrument, every instrument of that frame is prompted again, and all are followed from there. Here the
masks are followed by the appearance of their regions (`propagation.mask_carrier`), without the class prompt.

An instrument is new if it was not prompted the last time that points were given. So an instrument that leaves and returns
meanwhile is not new: the tracker has to find it. Label maps contain no instances: all instruments of a class are one.

The method is half an oracle: the truth gives the time and place of each appearance, and nothing after that. The method only
notices that an instrument has left when almost nothing of its mask remains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from surgicalsam_napari.model.surgical_sam import PromptedMask, SurgicalSAM
from surgicalsam_napari.propagation.mask_carrier import MaskCarrier
from surgicalsam_training.baselines.answers import frame_embedding, frame_geometry, mask_in_frame, merged, videos
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


Tracks = dict[int, MaskCarrier | None]  # by class id; None: its mask is empty or lost


def predict_by_tracking(
    model: SurgicalSAM,
    data: TrainingData,
    example_indices: Sequence[int],
    asked: Asked,
    *,
    points: int = 1,
    margin: float = EXTREME_MARGIN,
) -> Iterator[tuple[int, np.ndarray]]:
    """One or five points on each instrument when a new one appears, then tracking; sequence by sequence, frame by frame.

    Only instruments of asked classes are prompted and followed; a class that is not asked for in some frames is followed
    from the last frame that was.

    Parameters
    ----------
    points : 1 or 5
    margin : between the extreme points and the edge of the mask, in pixels of the frame
    """
    if points not in (1, 5):
        raise ValueError(f"An instrument should have 1 point or 5; got {points}. Choose 1 or 5.")
    points_of = one_point if points == 1 else partial(five_points, margin=margin)
    for video in videos(data, example_indices):
        yield from _tracked(model, data, video, asked, points_of)


def _tracked(
    model: SurgicalSAM, data: TrainingData, example_indices: Sequence[int], asked: Asked, points_of: PointsOf
) -> Iterator[tuple[int, np.ndarray]]:
    tracks: Tracks = {}
    for example_index in example_indices:
        asked_ids, present = asked(example_index), data.present_class_ids(example_index)
        shown = [class_id for class_id in asked_ids if class_id in present]
        if any(class_id not in tracks for class_id in shown):
            answers, tracks = _start(model, data, example_index, shown, points_of)
        else:
            followed = [class_id for class_id in asked_ids if class_id in tracks]
            answers = _carry(model, data, example_index, followed, tracks)
        yield example_index, merged(answers, frame_geometry(model, data, example_index))


def _start(
    model: SurgicalSAM, data: TrainingData, example_index: int, class_ids: Sequence[int], points_of: PointsOf
) -> tuple[dict[int, PromptedMask], Tracks]:
    """Prompt these classes with points."""
    embedding, geometry = frame_embedding(model, data, example_index), frame_geometry(model, data, example_index)
    answers: dict[int, PromptedMask] = {}
    tracks: Tracks = {}
    for class_id in class_ids:
        answer = answer_points(model, embedding, points_of(data.label_map(example_index) == class_id), geometry)
        mask = mask_in_frame(answer.low_res_logits, geometry)
        answers[class_id] = answer
        tracks[class_id] = MaskCarrier(model, embedding.numpy(), mask, None) if mask.any() else None
    return answers, tracks


def _carry(
    model: SurgicalSAM, data: TrainingData, example_index: int, class_ids: Sequence[int], tracks: Tracks
) -> dict[int, PromptedMask]:
    """The masks of these classes in this frame; a mask that is gone is lost until the class is prompted again."""
    answers: dict[int, PromptedMask] = {}
    embedding = frame_embedding(model, data, example_index).numpy()
    for class_id in class_ids:
        carrier = tracks[class_id]
        if carrier is None:
            continue
        carried = carrier.carry(embedding)
        if carried.is_gone:
            tracks[class_id] = None
        else:
            answers[class_id] = PromptedMask(carried.low_res_logits, carried.agreement)
    return answers
