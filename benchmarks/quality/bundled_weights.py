"""Accuracy and speed of the bundled weights on phantom clips that were not used for training.

Every class is prompted in every frame, and presence decides whether it gets a mask. The metrics are those of
`surgicalsam_training.scoring.metrics`.
`--prompts` measures the second decoder instead: one point or one box for each instrument class in every tenth frame. It
also counts the clicks until an IoU of 0.85 and 0.90, starting from an empty mask and from the predicted mask. Each click is
in the middle of the largest error.
`--real IMAGES LABELS` scores the weights on a folder of real frames, with 8-bit grey masks of EndoVis 2018 class ids.
The last line printed with `--json` is one JSON object (percent, frames per second, MB).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from scipy.ndimage import distance_transform_edt

sys.path.append(str(Path(__file__).parents[1]))
from common.options import new_parser, parse, print_json

from surgicalsam_napari.inference.refine import Box, Click, Refinement
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.model.encoders import DEFAULT_CHECKPOINT
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.model.zoo import checkpoint_path
from surgicalsam_napari.phantom import PhantomFrame, PhantomScene
from surgicalsam_napari.video import VideoReader
from surgicalsam_training.scoring.metrics import Metrics, evaluate_label_maps

GOOD_IOU = (0.85, 0.9)
MOST_CLICKS = 20
FIRST_SEED = 300_000  # training uses scenes from 100,000 on, calibration from 200,000 on


class Stopwatch:
    """Seconds from frames to label maps, without rendering the phantom."""

    def __init__(self) -> None:
        self.seconds, self.frames = 0.0, 0


def segment_clip(
    model: SurgicalSAM, frames: Iterable[PhantomFrame], watch: Stopwatch
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(label map, truth) of each frame."""
    for frame in frames:
        started = time.perf_counter()
        (prediction,) = model.predict(model.embed([frame.image]), ENDOVIS2018.ids, frame.labels.shape)
        watch.seconds += time.perf_counter() - started
        watch.frames += 1
        yield prediction.label_map, frame.labels


def real_frames(images: Path, labels: Path) -> Iterator[PhantomFrame]:
    """Frames from one folder with masks from another, both in the order of the numbers in their names."""
    with VideoReader(images) as pictures, VideoReader(labels) as masks:
        for index in range(len(pictures)):
            yield PhantomFrame(pictures.frame(index), masks.frame(index)[..., 0])


@dataclass(frozen=True)
class Correcting:
    """One instrument class in one frame, corrected by careful clicks.

    Attributes
    ----------
    point_iou, box_iou : from an empty mask, with one click in the middle of the instrument or with its exact box
    from_nothing, from_answer : IoU before the first click and after each, from an empty mask and from the predicted mask
    """

    point_iou: float
    box_iou: float
    from_nothing: list[float]
    from_answer: list[float]


def correct_clip(model: SurgicalSAM, scene: PhantomScene) -> Iterator[Correcting]:
    """Each class in every tenth frame."""
    for index in range(0, len(scene), 10):
        frame = scene.frame(index)
        embeddings = model.embed([frame.image])
        (prediction,) = model.predict(embeddings, ENDOVIS2018.ids, frame.labels.shape)
        for class_id in np.unique(frame.labels[frame.labels > 0]):
            truth = frame.labels == class_id
            rows, columns = np.nonzero(truth)
            boxed = Refinement(model, embeddings[0], np.zeros_like(truth))
            boxed.set_box(Box(rows.min(), columns.min(), rows.max() + 1, columns.max() + 1))
            from_nothing = click_through(Refinement(model, embeddings[0], np.zeros_like(truth)), truth)
            from_answer = click_through(Refinement(model, embeddings[0], prediction.label_map == class_id), truth)
            yield Correcting(from_nothing[1], iou(boxed.mask, truth), from_nothing, from_answer)


def click_through(refinement: Refinement, truth: np.ndarray) -> list[float]:
    """IoU before the first click and after each click; every click is in the middle of the largest error.

    It ends at the highest IoU of GOOD_IOU, or after MOST_CLICKS.
    """
    mask = refinement.mask
    ious = [iou(mask, truth)]
    while ious[-1] < max(GOOD_IOU) and len(ious) <= MOST_CLICKS:
        missing, extra = (distance_transform_edt(np.pad(wrong, 1))[1:-1, 1:-1] for wrong in (truth & ~mask, mask & ~truth))
        depth = np.maximum(missing, extra)
        row, column = np.unravel_index(depth.argmax(), depth.shape)
        refinement.add_click(Click(float(row), float(column), bool(truth[row, column])))
        mask = refinement.mask
        ious.append(iou(mask, truth))
    return ious


def iou(mask: np.ndarray, truth: np.ndarray) -> float:
    return float((mask & truth).sum() / (mask | truth).sum())


def clicks_needed(curves: list[list[float]], good: float) -> float:
    """Mean number of clicks until an IoU of `good`; a curve that does not reach it counts as MOST_CLICKS."""
    return float(np.mean([next((n for n, value in enumerate(curve) if value >= good), MOST_CLICKS) for curve in curves]))


def correcting_summary(results: list[Correcting]) -> dict[str, float]:
    """IoU and shares in percent, and numbers of clicks; a curve that ended early keeps its last IoU."""
    summary = {
        "point_iou": round(100 * float(np.mean([result.point_iou for result in results])), 2),
        "box_iou": round(100 * float(np.mean([result.box_iou for result in results])), 2),
    }
    for start in ("from_nothing", "from_answer"):
        curves = [getattr(result, start) for result in results]
        for count in (0, 1, 3, 5, 10, 20):
            ious = [curve[min(count, len(curve) - 1)] for curve in curves]
            summary[f"{start}_iou_{count}_clicks"] = round(100 * float(np.mean(ious)), 2)
        for good in GOOD_IOU:
            summary[f"{start}_clicks_to_{good:.2f}"] = round(clicks_needed(curves, good), 2)
            summary[f"{start}_never_{good:.2f}"] = round(100 * float(np.mean([max(curve) < good for curve in curves])), 2)
    return summary


def report(title: str, metrics: Metrics) -> None:
    print(f"{title}: Challenge IoU {metrics.challenge_iou:.1f}, mcIoU {metrics.mean_class_iou:.1f}, "
          f"false positives on absent classes {metrics.absent_false_positive_rate:.1f} %, "
          f"missed {metrics.missed_rate:.1f} %")  # fmt: skip


def instrument_iou(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """IoU of all instruments against background in percent, mean over the frames that show an instrument."""
    shown = [(labels > 0, truth > 0) for labels, truth in pairs if truth.any()]
    return 100 * float(np.mean([(labels & truth).sum() / (labels | truth).sum() for labels, truth in shown]))


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, default=None, help="a file; default: the bundled weights")
    parser.add_argument("--clips", type=int, default=10)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--look", default="first", help='"second" is another domain')
    parser.add_argument("--real", type=Path, nargs=2, metavar=("IMAGES", "LABELS"), help="score real frames instead")
    parser.add_argument("--prompts", action="store_true", help="measure point and box prompts instead of class prompts")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parse(parser, quick={"clips": 1, "frames": 2, "threads": 1})
    torch.set_num_threads(arguments.threads)
    path = checkpoint_path(arguments.checkpoint or DEFAULT_CHECKPOINT)
    model = load_checkpoint(path, device=arguments.device)
    model.predict(model.embed([np.zeros((512, 640, 3), np.uint8)]), ENDOVIS2018.ids, (512, 640))  # warm-up

    if arguments.prompts:
        seeds = range(FIRST_SEED, FIRST_SEED + arguments.clips)
        scenes = (PhantomScene(seed, frame_count=arguments.frames, look=arguments.look) for seed in seeds)
        print_json(correcting_summary([result for scene in scenes for result in correct_clip(model, scene)]))
        return

    watch = Stopwatch()
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    clips: dict[str, Iterable[PhantomFrame]] = {
        f"clip {seed}": PhantomScene(seed, frame_count=arguments.frames, look=arguments.look)
        for seed in range(FIRST_SEED, FIRST_SEED + arguments.clips)
    }
    if arguments.real is not None:
        clips = {"real frames": real_frames(*arguments.real)}
    for title, frames in clips.items():
        clip = list(segment_clip(model, frames, watch))
        report(title, evaluate_label_maps(clip, ENDOVIS2018.ids))
        pairs += clip
    metrics = evaluate_label_maps(pairs, ENDOVIS2018.ids)
    report("all clips", metrics)
    for instrument in ENDOVIS2018:
        print(f"  {instrument.name:26} {metrics.class_iou[instrument.id]:5.1f}")
    result = {
        "challenge_iou": round(metrics.challenge_iou, 2),
        "per_class_iou": {c.name: round(metrics.class_iou[c.id], 2) for c in ENDOVIS2018},
        "absent_false_positive_rate": round(metrics.absent_false_positive_rate, 2),
        "instrument_iou": round(instrument_iou(pairs), 2),
        "frames_per_second": round(watch.frames / watch.seconds, 2),
        "weights_megabytes": round(path.stat().st_size / 1e6, 2),
    }
    print(f"all instruments against background: IoU {result['instrument_iou']}")
    print(f"memory in use: {psutil.Process().memory_info().rss / 1e9:.2f} GB, phantom frames and masks included")
    print(f"{result['frames_per_second']} frames/s on {model.device}, {result['weights_megabytes']} MB")
    if arguments.json:
        print_json(result)


if __name__ == "__main__":
    main()
