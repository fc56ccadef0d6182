"""From cached embeddings to stored label maps, one class and all seven: the paper's model size and the demo weights.

    python benchmarks/speed/speed_decoding.py [--repeats 5] [--json]

The plain way reads each frame's embedding from a float32 `.npy`, decodes a prompt at a time, and saves the label map with
`np.save`; ours is `segment_frames` on a project, history and provenance included. SAM's size has random weights, whose masks
are noise all over the frame: the worst case for resizing. Presence is switched off on our side, for the plain way has none.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import plain
import torch
from paired import Paired, paired

from surgicalsam_napari.inference import segment_frames
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.checkpoint import build_parts, load_checkpoint
from surgicalsam_napari.model.encoders import ENCODERS
from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.model.upsampling import label_map_of
from surgicalsam_napari.model.zoo import demo_checkpoint
from surgicalsam_napari.phantom import PhantomScene
from surgicalsam_napari.store import Project
from surgicalsam_napari.video import VideoReader, write_video

CLASSES = ENDOVIS2018
SIZE = (1024, 1280)


def untrained_model() -> SurgicalSAM:
    """The paper's model without its image encoder: 64 x 64 x 256, seven classes, n = 2; random weights, always the same."""
    torch.manual_seed(0)
    parts = build_parts(ENCODERS["vit_h"], len(CLASSES), tokens_per_class=2)
    model = SurgicalSAM(
        CLASSES, "vit_h", "random", image_encoder=None, presence_threshold=-torch.inf, name="random", **parts
    )
    return model.eval().requires_grad_(False)


def demo_model() -> SurgicalSAM:
    model = load_checkpoint(demo_checkpoint(), device="cpu")
    model.presence_threshold = -torch.inf
    return model


def smooth_embeddings(model: SurgicalSAM, count: int) -> torch.Tensor:
    """(count, D, h, w) float16: noise with the smoothness of an embedding."""
    channels, height, width = model.embedding_shape
    noise = torch.randn(count, channels, height // 4, width // 4, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(noise, (height, width), mode="bicubic").half()


class PlainWay:
    """A folder of `.npy` embeddings, and one of label maps."""

    def __init__(self, folder: Path, model: SurgicalSAM, embeddings: np.ndarray) -> None:
        self.folder = folder
        self.model = plain.PlainSurgicalSAM(model)
        for index, embedding in enumerate(embeddings):
            np.save(folder / f"embedding{index}.npy", embedding.transpose(1, 2, 0).astype(np.float32))

    def segment(self, frame_index: int, class_ids: list[int]) -> None:
        embedding = plain.read_embedding(self.folder / f"embedding{frame_index}.npy")
        rows = [class_id - 1 for class_id in class_ids]
        np.save(self.folder / f"labels{frame_index}.npy", self.model.label_map(embedding, rows, class_ids, SIZE))

    def label_map(self, frame_index: int) -> np.ndarray:
        return np.load(self.folder / f"labels{frame_index}.npy")


@contextmanager
def both_ways(model: SurgicalSAM, embeddings: np.ndarray) -> Iterator[tuple[PlainWay, Project]]:
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "clip.mp4"
        write_video(video, np.zeros((len(embeddings), *SIZE, 3), np.uint8))
        with Project.create(Path(folder) / "clip.surgicalsam", VideoReader(video), CLASSES) as project:
            project.embeddings(model.encoder_digest, model.embedding_shape).write(range(len(embeddings)), embeddings)
            yield PlainWay(Path(folder), model, embeddings), project


def phantom_embeddings(model: SurgicalSAM, count: int) -> np.ndarray:
    """(count, D, h, w) float16, of a scene with instruments."""
    scene = PhantomScene(307, SIZE, count)
    return np.concatenate([model.embed([frame.image]) for frame in scene])


def iou(found: np.ndarray, plainly: np.ndarray, class_ids: list[int]) -> float:
    """The lowest IoU of a class that either label map has."""
    scores = []
    for class_id in class_ids:
        a, b = found == class_id, plainly == class_id
        if (a | b).any():
            scores.append((a & b).sum() / (a | b).sum())
    return float(min(scores, default=1.0))


def decoding(name: str, model: SurgicalSAM, embeddings: np.ndarray, class_ids: list[int], repeats: int) -> dict[str, object]:
    """Figures of `name`; every frame is segmented once by either way, so that each has new pixels to write."""
    frames_at_a_time = len(embeddings) // (repeats + 1)
    with both_ways(model, embeddings) as (plain_way, project):
        turns = {"plain": iter(range(len(embeddings))), "ours": iter(range(len(embeddings)))}

        def next_frames(way: str) -> list[int]:
            return [next(turns[way]) for _ in range(frames_at_a_time)]

        def ours() -> None:
            with closing(segment_frames(project, model, class_ids, next_frames("ours"))) as reports:
                for _ in reports:
                    pass

        def plainly() -> None:
            for frame_index in next_frames("plain"):
                plain_way.segment(frame_index, class_ids)

        times = paired(plainly, ours, repeats)
        done = range(frames_at_a_time * (repeats + 1))
        maps = [(project.labels[frame_index], plain_way.label_map(frame_index)) for frame_index in done]
    flipped = sum(int((found != plainly).sum()) for found, plainly in maps)
    return {
        **figures(name, times, frames_at_a_time),
        f"{name}_flipped_pixels_per_million": round(1e6 * flipped / (len(maps) * np.prod(SIZE)), 3),
        f"{name}_lowest_iou": round(min(iou(*pair, class_ids) for pair in maps), 6),
    }


def figures(name: str, times: Paired, units: int = 1) -> dict[str, object]:
    """The ratio, its spread, and milliseconds of either way per unit of work."""
    return {
        name: round(times.ratio, 2),
        f"{name}_spread": [round(ratio, 2) for ratio in times.ratios],
        f"{name}_plain_ms": round(times.plain_ms / units, 3),
        f"{name}_ours_ms": round(times.ours_ms / units, 3),
    }


def label_maps(repeats: int) -> dict[str, object]:
    """Logits of seven classes, as the demo weights find instruments, at SAM's 256 x 256, to a label map."""
    model = demo_model()
    decoded = model.decode(torch.from_numpy(phantom_embeddings(model, 4)), CLASSES.ids)
    logits = torch.nn.functional.interpolate(decoded.low_res_logits, scale_factor=2, mode="bilinear")
    geometry = FrameGeometry(SIZE)
    quality = decoded.predicted_iou.numpy()

    def plainly() -> list[np.ndarray]:
        masks = [[(plain.to_frame(one[None, None], SIZE) > 0).int()[0, 0].numpy() for one in frame] for frame in logits]
        return [plain.merged(frame, scores.tolist(), CLASSES.ids) for frame, scores in zip(masks, quality, strict=True)]

    def ours() -> list[np.ndarray]:
        return [label_map_of(frame, scores, CLASSES.ids, geometry) for frame, scores in zip(logits, quality, strict=True)]

    flipped = sum(int((a != b).sum()) for a, b in zip(plainly(), ours(), strict=True))
    times = paired(plainly, ours, repeats)
    return {**figures("label_map", times, len(logits)), "label_map_flipped_pixels": flipped}


def fast_mode(count: int = 8) -> dict[str, object]:
    """What the fast mode (bfloat16) costs: IoU with the exact masks of the demo weights, from frame to label map."""
    model = load_checkpoint(demo_checkpoint(), device="cpu")
    frames = [frame.image for frame in PhantomScene(307, SIZE, count)]
    maps = {}
    for model.is_fast in (False, True):  # set by hand: `use_fast` refuses where it is no faster, and this is not timed
        maps[model.is_fast] = [found.label_map for found in model.predict(model.embed(frames), CLASSES.ids, SIZE)]
    pairs = list(zip(maps[True], maps[False], strict=True))
    shared = [iou(fast, exact, [class_id]) for fast, exact in pairs for class_id in np.unique(exact).tolist() if class_id]
    return {
        "fast_mean_iou": round(float(np.mean(shared)), 5),
        "fast_lowest_iou": round(min(shared), 5),
        "fast_flipped_pixels_per_million": round(1e6 * float(np.mean([(a != b).mean() for a, b in pairs])), 1),
    }


def measure(repeats: int = 5) -> dict[str, object]:
    """`decode_one_class`, `decode_all_classes` (also `…_demo`), and `label_map`."""
    found: dict[str, object] = {}
    sam, demo = untrained_model(), demo_model()
    few, many = 2 * (repeats + 1), 6 * (repeats + 1)
    with torch.inference_mode():
        large, small = smooth_embeddings(sam, many).numpy(), phantom_embeddings(demo, many)
        found |= decoding("decode_one_class", sam, large, [3], repeats)
        found |= decoding("decode_all_classes", sam, large[:few], list(CLASSES.ids), repeats)
        found |= decoding("decode_one_class_demo", demo, small, [3], repeats)
        found |= decoding("decode_all_classes_demo", demo, small, list(CLASSES.ids), repeats)
        found |= label_maps(4 * repeats)
        found |= fast_mode()
    return found


def run(measure: Callable[[int], dict[str, object]], about: str | None, repeats: int) -> None:
    """The command line of a script that measures: prints its figures, with `--json` as one object."""
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=repeats, help="counted pairs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print one JSON object, last line")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    found = measure(options.repeats)
    print(json.dumps(found) if options.json else "\n".join(f"{key}: {value}" for key, value in found.items()))


if __name__ == "__main__":
    run(measure, __doc__, repeats=5)
