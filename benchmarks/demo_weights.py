"""How good and how fast the bundled demo weights are, on phantom clips they were never trained on.

Every class is prompted in every frame, and presence decides; the metrics are those of `surgicalsam_training.metrics`.
The last line printed with `--json` is one JSON object (percent, frames per second, MB).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.model.zoo import demo_checkpoint
from surgicalsam_napari.phantom import PhantomScene
from surgicalsam_training.metrics import Metrics, evaluate_label_maps

FIRST_SEED = 300_000  # training takes scenes from 100,000, calibration from 200,000


class Stopwatch:
    """Seconds from frames to label maps, without the drawing of the phantom."""

    def __init__(self) -> None:
        self.seconds, self.frames = 0.0, 0


def segment_clip(model: SurgicalSAM, scene: PhantomScene, watch: Stopwatch) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(label map, truth) of each frame."""
    for frame in scene:
        started = time.perf_counter()
        (prediction,) = model.predict(model.embed([frame.image]), ENDOVIS2018.ids, frame.labels.shape)
        watch.seconds += time.perf_counter() - started
        watch.frames += 1
        yield prediction.label_map, frame.labels


def report(title: str, metrics: Metrics) -> None:
    print(f"{title}: Challenge IoU {metrics.challenge_iou:.1f}, mcIoU {metrics.mean_class_iou:.1f}, "
          f"false positives on absent classes {metrics.absent_false_positive_rate:.1f} %, "
          f"missed {metrics.missed_rate:.1f} %")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=None, help="default: the bundled demo weights")
    parser.add_argument("--clips", type=int, default=10)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--look", default="first", help='"second" is another hospital')
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    path = arguments.checkpoint or demo_checkpoint()
    model = load_checkpoint(path, device=arguments.device)
    model.predict(model.embed([np.zeros((512, 640, 3), np.uint8)]), ENDOVIS2018.ids, (512, 640))  # warm-up

    watch = Stopwatch()
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    for seed in range(FIRST_SEED, FIRST_SEED + arguments.clips):
        clip = list(segment_clip(model, PhantomScene(seed, frame_count=arguments.frames, look=arguments.look), watch))
        report(f"clip {seed}", evaluate_label_maps(clip, ENDOVIS2018.ids))
        pairs += clip
    metrics = evaluate_label_maps(pairs, ENDOVIS2018.ids)
    report("all clips", metrics)
    for instrument in ENDOVIS2018:
        print(f"  {instrument.name:26} {metrics.class_iou[instrument.id]:5.1f}")
    result = {
        "challenge_iou": round(metrics.challenge_iou, 2),
        "per_class_iou": {c.name: round(metrics.class_iou[c.id], 2) for c in ENDOVIS2018},
        "absent_false_positive_rate": round(metrics.absent_false_positive_rate, 2),
        "frames_per_second": round(watch.frames / watch.seconds, 2),
        "weights_megabytes": round(path.stat().st_size / 1e6, 2),
    }
    print(f"{result['frames_per_second']} frames/s on {model.device}, {result['weights_megabytes']} MB")
    if arguments.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
