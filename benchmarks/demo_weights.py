"""How good and how fast the bundled demo weights are, on phantom clips they were never trained on.

Every class is prompted in every frame, and presence decides; the metrics are those of `surgicalsam_training.metrics`.
`--prompts` measures the second decoder: one point, or a box, for each instrument class in each frame.
`--real IMAGES LABELS` scores them on a folder of real frames instead, with 8-bit grey masks of EndoVis 2018 class ids.
The last line printed with `--json` is one JSON object (percent, frames per second, MB).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import psutil
import torch
from scipy.ndimage import distance_transform_edt

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.mask_decoder import decode_masks
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.model.zoo import demo_checkpoint
from surgicalsam_napari.phantom import PhantomFrame, PhantomScene
from surgicalsam_napari.video import VideoReader
from surgicalsam_training.metrics import Metrics, evaluate_label_maps

FIRST_SEED = 300_000  # training takes scenes from 100,000, calibration from 200,000


class Stopwatch:
    """Seconds from frames to label maps, without the drawing of the phantom."""

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
    """The frames of a folder with the masks of another, both in the order of the numbers in their names."""
    with VideoReader(images) as pictures, VideoReader(labels) as masks:
        for index in range(len(pictures)):
            yield PhantomFrame(pictures.frame(index), masks.frame(index)[..., 0])


@torch.inference_mode()
def prompted_iou(model: SurgicalSAM, scene: PhantomScene) -> Iterator[tuple[float, float]]:
    """IoU with one point (the innermost of the mask) and with the exact box, for each class in every tenth frame."""
    decoder = model.sam_mask_decoder
    assert decoder is not None
    for index in range(0, len(scene), 10):
        frame = scene.frame(index)
        geometry = FrameGeometry(frame.labels.shape, model.input_size)
        scale = geometry.resized_size[1] / frame.labels.shape[1]
        embedding = torch.from_numpy(model.embed([frame.image])).float()
        for class_id in np.unique(frame.labels[frame.labels > 0]):
            mask = frame.labels == class_id
            rows, columns = np.nonzero(mask)
            y, x = np.unravel_index(distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1].argmax(), mask.shape)
            point = torch.tensor([[[x + 0.5, y + 0.5]]]) * scale
            box = torch.tensor([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]) * scale
            prompts = (((point, torch.ones(1, 1)), None), (None, box))
            ious = []
            for points, boxes in prompts:
                sparse, dense = model.prompt_encoder(points, boxes, None)
                decoded = decode_masks(decoder, embedding, model.prompt_encoder.get_dense_pe(), sparse, dense)
                found = (geometry.to_frame(decoded.low_res_logits)[0] > 0).numpy()
                ious.append((found & mask).sum() / (found | mask).sum())
            yield ious[0], ious[1]


def report(title: str, metrics: Metrics) -> None:
    print(f"{title}: Challenge IoU {metrics.challenge_iou:.1f}, mcIoU {metrics.mean_class_iou:.1f}, "
          f"false positives on absent classes {metrics.absent_false_positive_rate:.1f} %, "
          f"missed {metrics.missed_rate:.1f} %")  # fmt: skip


def instrument_iou(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Mean over frames with an instrument of the IoU of all instruments against background, in percent."""
    shown = [(found > 0, there > 0) for found, there in pairs if there.any()]
    return 100 * float(np.mean([(found & there).sum() / (found | there).sum() for found, there in shown]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=None, help="default: the bundled demo weights")
    parser.add_argument("--clips", type=int, default=10)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--look", default="first", help='"second" is another hospital')
    parser.add_argument("--real", type=Path, nargs=2, metavar=("IMAGES", "LABELS"), help="score real frames instead")
    parser.add_argument("--prompts", action="store_true", help="measure points and boxes instead of classes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    path = arguments.checkpoint or demo_checkpoint()
    model = load_checkpoint(path, device=arguments.device)
    model.predict(model.embed([np.zeros((512, 640, 3), np.uint8)]), ENDOVIS2018.ids, (512, 640))  # warm-up

    if arguments.prompts:
        scenes = [PhantomScene(seed) for seed in range(FIRST_SEED, FIRST_SEED + arguments.clips)]
        point, box = np.mean([iou for scene in scenes for iou in prompted_iou(model, scene)], axis=0)
        print(json.dumps({"point_iou": round(100 * point, 2), "box_iou": round(100 * box, 2)}))
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
        print(json.dumps(result))


if __name__ == "__main__":
    main()
