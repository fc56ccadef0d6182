"""Prompt SAM with the boxes of a detector (paper, Tables 1 and 2: MaskTrack R-CNN + SAM, Mask2Former + SAM).

The paper's rule (section 8.3): a single box of a class is always used, whatever its score. Of several boxes, those with a
score greater than alpha are used, and their masks are united. If no box remains, the class has no mask. So the detector
decides which classes are present.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.surgical_sam import PromptedMask, SurgicalSAM
from surgicalsam_training.baselines.answers import frame_embedding, frame_geometry, mask_in_frame, painted
from surgicalsam_training.baselines.detections import Detection, Detections
from surgicalsam_training.baselines.oracle import answer_box
from surgicalsam_training.data.training_data import TrainingData
from surgicalsam_training.scoring.protocol import Asked

# section 8.3
MASKTRACK_RCNN_ALPHA, MASK2FORMER_ALPHA = 0.7, 0.5


def chosen_boxes(detections: Sequence[Detection], alpha: float) -> list[Detection]:
    """The boxes of one class in one frame that become prompts."""
    if len(detections) == 1:
        return list(detections)
    return [detection for detection in detections if detection.score > alpha]


def united(answers: Sequence[PromptedMask], geometry: FrameGeometry) -> tuple[np.ndarray, float]:
    """The union (H, W) bool of masks at the frame's size, and their highest predicted IoU."""
    masks = [mask_in_frame(answer.low_res_logits, geometry) for answer in answers]
    return np.logical_or.reduce(masks), max(answer.predicted_iou for answer in answers)


def predict_from_detections(
    model: SurgicalSAM,
    data: TrainingData,
    example_indices: Sequence[int],
    asked: Asked,
    *,
    detections: Detections,
    alpha: float = MASKTRACK_RCNN_ALPHA,
) -> Iterator[tuple[int, np.ndarray]]:
    """Detector + SAM. No oracle; a class without a box gets no mask.

    Parameters
    ----------
    detections : by example index, as `read_detections` gives them
    alpha : the boxes of a class that has several need a score greater than this
    """
    for example_index in example_indices:
        embedding, geometry = frame_embedding(model, data, example_index), frame_geometry(model, data, example_index)
        answers = {}
        for class_id in asked(example_index):
            boxes = chosen_boxes([d for d in detections.get(example_index, ()) if d.class_id == class_id], alpha)
            masks = [answer_box(model, embedding, clipped(box, geometry), geometry) for box in boxes]
            if masks:
                answers[class_id] = united(masks, geometry)
        yield example_index, painted(answers, geometry)


def clipped(detection: Detection, geometry: FrameGeometry) -> np.ndarray:
    """(4,): the box, clipped to the frame."""
    height, width = geometry.original_size
    return np.clip(np.array(detection.box), 0, [width, height, width, height])
