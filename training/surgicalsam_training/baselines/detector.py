"""A detector's boxes as prompts of SAM (paper, Tables 1 and 2: MaskTrack R-CNN + SAM, Mask2Former + SAM).

The paper's rule (section 8.3): the only box of a class is taken as it is, whatever its score; of several, those whose score
is greater than alpha are taken (here: alpha or more), and their masks are united. If none is, the class has no mask. So the
detector decides which classes are there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.surgical_sam import PromptedMask, SurgicalSAM
from surgicalsam_training.baselines.answers import frame_embedding, frame_geometry, merged
from surgicalsam_training.baselines.detections import Detection, Detections
from surgicalsam_training.baselines.oracle import answer_box
from surgicalsam_training.data.training_data import TrainingData
from surgicalsam_training.scoring.protocol import Asked

ALPHA = 0.7  # section 8.3: 0.7 for MaskTrack R-CNN, 0.5 for Mask2Former


def chosen_boxes(detections: Sequence[Detection], alpha: float) -> list[Detection]:
    """The boxes of one class in one frame that become prompts."""
    if len(detections) == 1:
        return list(detections)
    return [detection for detection in detections if detection.score >= alpha]


def united(answers: Sequence[PromptedMask]) -> PromptedMask:
    """One mask from several: the larger logit of each pixel, and the highest predicted IoU."""
    logits = torch.stack([answer.low_res_logits for answer in answers]).amax(0)
    return PromptedMask(logits, max(answer.predicted_iou for answer in answers))


def predict_from_detections(
    model: SurgicalSAM,
    data: TrainingData,
    example_indices: Sequence[int],
    asked: Asked,
    *,
    detections: Detections,
    alpha: float = ALPHA,
) -> Iterator[tuple[int, np.ndarray]]:
    """Detector + SAM. No oracle; a class that is asked for and has no box gets no mask.

    Parameters
    ----------
    detections : by example index, as `read_detections` gives them
    alpha : the score that one of several boxes must reach
    """
    for example_index in example_indices:
        embedding, geometry = frame_embedding(model, data, example_index), frame_geometry(model, data, example_index)
        answers = {}
        for class_id in asked(example_index):
            boxes = chosen_boxes([d for d in detections.get(example_index, ()) if d.class_id == class_id], alpha)
            answered = [answer_box(model, embedding, within(box, geometry), geometry) for box in boxes]
            if answered:
                answers[class_id] = united(answered)
        yield example_index, merged(answers, geometry)


def within(detection: Detection, geometry: FrameGeometry) -> np.ndarray:
    """(4,) the box without what lies outside the frame."""
    height, width = geometry.original_size
    return np.clip(np.array(detection.box), 0, [width, height, width, height])
