"""Scores tracked masks with TrackEval. Runs in an environment of its own (the extra `interop`).

    python score_by_trackeval.py MAPS.npz

The input has `truth` and `predicted`, track ids (V, T, H, W) of V videos. The last line of the output is JSON: the scores of
all videos together. Nothing of surgicalsam_napari is imported here.
"""

from __future__ import annotations

import json
import sys

import numpy as np
from pycocotools import mask as coco_mask
from trackeval.datasets import MOTSChallenge
from trackeval.metrics import CLEAR, HOTA, Identity


def encoded(maps: np.ndarray, numbers: dict[int, int]) -> tuple[list[np.ndarray], list[list[dict]]]:
    """Consecutive ids and masks of each frame."""
    ids, masks = [], []
    for frame in maps:
        found = [int(id) for id in np.unique(frame) if id]
        ids.append(np.array([numbers.setdefault(id, len(numbers)) for id in found], int))
        masks.append([coco_mask.encode(np.asfortranarray((frame == id).astype(np.uint8))) for id in found])
    return ids, masks


def video_data(truth: np.ndarray, predicted: np.ndarray) -> dict:
    """A video as the metrics of TrackEval take it; the overlaps are computed by TrackEval's reader of MOTS."""
    true_numbers: dict[int, int] = {}
    predicted_numbers: dict[int, int] = {}
    gt_ids, gt_masks = encoded(truth, true_numbers)
    tracker_ids, tracker_masks = encoded(predicted, predicted_numbers)
    return {
        "gt_ids": gt_ids,
        "tracker_ids": tracker_ids,
        "similarity_scores": [
            np.asarray(MOTSChallenge._calculate_mask_ious(true, given, is_encoded=True, do_ioa=False)).reshape(
                len(true), len(given)
            )
            for true, given in zip(gt_masks, tracker_masks, strict=True)
        ],
        "num_gt_dets": sum(map(len, gt_ids)),
        "num_tracker_dets": sum(map(len, tracker_ids)),
        "num_gt_ids": len(true_numbers),
        "num_tracker_ids": len(predicted_numbers),
        "num_timesteps": len(truth),
    }


def main() -> None:
    with np.load(sys.argv[1]) as maps:
        videos = [video_data(truth, predicted) for truth, predicted in zip(maps["truth"], maps["predicted"], strict=True)]
    combined = {}
    for metric in (HOTA(), Identity(), CLEAR()):
        combined |= metric.combine_sequences({str(n): metric.eval_sequence(video) for n, video in enumerate(videos)})
    scores = {name: float(np.mean(combined[name])) for name in ("HOTA", "DetA", "AssA", "IDF1", "IDSW")}
    print(json.dumps(scores))


if __name__ == "__main__":
    main()
