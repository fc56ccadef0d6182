"""How good a learning is: the IoU on corrected frames that were left out in turn."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import torch

from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.pixel_head import PRESENCE_THRESHOLD, PixelHead
from surgicalsam_napari.model.upsampling import label_map_of
from surgicalsam_training.learn.frames import CorrectedFrames
from surgicalsam_training.reports import FEWEST_TO_JUDGE
from surgicalsam_training.scoring.metrics import Pair, evaluate_label_maps

FEWEST_FRAMES = FEWEST_TO_JUDGE  # with fewer, leaving out half of them says little
CHECK_STEPS = 100  # for each half; fewer than a learning: the check need not be exact


def steps_to_check(frame_count: int) -> int:
    """The steps of a check of so many frames."""
    return 2 * CHECK_STEPS if frame_count >= FEWEST_FRAMES else 0


def expected_iou(frames: CorrectedFrames, seed: int) -> Generator[int, None, dict[str, float]]:
    """By class name, percent: the IoU on frames that were left out, one half of them after the other.

    Yields the number of steps done, of `steps_to_check`; with too few frames there are none, and the result is empty.
    """
    count = len(frames.data.frames)
    if not steps_to_check(count):
        return {}
    halves = [range(start, count, 2) for start in (0, 1)]
    pairs: list[Pair] = []
    for before, (learned, left_out) in zip((0, CHECK_STEPS), (halves, halves[::-1]), strict=True):
        head = frames.new_head(seed)
        for step in frames.fit(head, learned, CHECK_STEPS, seed):
            yield before + step
        pairs += [_label_maps(frames, head, example_index) for example_index in left_out]
    metrics = evaluate_label_maps(pairs, frames.classes.ids)
    by_name = {frames.classes.by_id(class_id).name: iou for class_id, iou in metrics.class_iou.items()}
    return {name: round(float(iou), 1) for name, iou in by_name.items() if not np.isnan(iou)}


@torch.inference_mode()
def _label_maps(frames: CorrectedFrames, head: PixelHead, example_index: int) -> Pair:
    """Prediction and truth of a frame, without the classes that are not annotated in it."""
    known = frames.data.known_class_ids(example_index) & set(frames.classes.ids)
    truth = frames.data.label_map(example_index)
    geometry = FrameGeometry(truth.shape, frames.model.input_size)
    rows = list(range(len(frames.classes)))
    visible = geometry.visible_grid(frames.model.embedding_shape[1:])
    decoded = head.decode(frames.embeddings([example_index]), rows, visible)
    assert decoded.presence is not None
    present = (decoded.presence[0] >= PRESENCE_THRESHOLD).nonzero()[:, 0].tolist()
    kept = np.zeros(256, np.uint8)
    kept[list(known)] = list(known)
    ids = [frames.classes.ids[row] for row in present]
    return kept[label_map_of(decoded.low_res_logits[0, present], ids, geometry)], kept[truth], known
