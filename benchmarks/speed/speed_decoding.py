"""Time from cached embeddings to stored label maps, for one class and all seven, with the paper's model size and light's.

    python benchmarks/speed/speed_decoding.py [--repeats 5] [--json]

The plain implementation reads each frame's embedding from a float32 `.npy` file, decodes one prompt at a time, and saves the
label map with `np.save`. Ours is `segment_frames` on a project, history and provenance included. The model of SAM's size has
random weights; its masks are noise over the whole frame, the worst case for resizing. Presence is disabled on our side,
because the plain implementation has none. Where masks overlap, ours gives a pixel to the class with the highest logit, the
authors' code to the most certain mask. Pixels are therefore compared after merging our logits in the authors' way.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import plain
import torch

sys.path.append(str(Path(__file__).parents[1]))
from common.measuring import figures, paired, run
from random_model import CLASSES, QUICK_SIZE, SIZE, smooth_embeddings, untrained_model

from surgicalsam_napari.inference import segment_frames
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.model.upsampling import label_map_of
from surgicalsam_napari.model.zoo import bundled_checkpoint
from surgicalsam_napari.phantom import PhantomScene
from surgicalsam_napari.store import Project
from surgicalsam_napari.video import VideoReader, write_video


def light_model() -> SurgicalSAM:
    model = load_checkpoint(bundled_checkpoint(), device="cpu")
    model.presence_threshold = -torch.inf
    return model


class PlainImplementation:
    """The plain implementation, with `.npy` files of embeddings and label maps in one folder."""

    def __init__(self, folder: Path, model: SurgicalSAM, embeddings: np.ndarray, size: tuple[int, int]) -> None:
        self.folder, self.size = folder, size
        self.model = plain.PlainSurgicalSAM(model)
        for index, embedding in enumerate(embeddings):
            np.save(folder / f"embedding{index}.npy", embedding.transpose(1, 2, 0).astype(np.float32))

    def segment(self, frame_index: int, class_ids: list[int]) -> None:
        embedding = plain.read_embedding(self.folder / f"embedding{frame_index}.npy")
        rows = [class_id - 1 for class_id in class_ids]
        np.save(self.folder / f"labels{frame_index}.npy", self.model.label_map(embedding, rows, class_ids, self.size))

    def label_map(self, frame_index: int) -> np.ndarray:
        return np.load(self.folder / f"labels{frame_index}.npy")


@contextmanager
def both_implementations(
    model: SurgicalSAM, embeddings: np.ndarray, size: tuple[int, int]
) -> Iterator[tuple[PlainImplementation, Project]]:
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "clip.mp4"
        write_video(video, np.zeros((len(embeddings), *size, 3), np.uint8))
        with Project.create(Path(folder) / "clip.surgicalsam", VideoReader(video), CLASSES) as project:
            project.embeddings(model.encoder_digest, model.embedding_shape).write(range(len(embeddings)), embeddings)
            yield PlainImplementation(Path(folder), model, embeddings, size), project


def phantom_embeddings(model: SurgicalSAM, count: int, size: tuple[int, int]) -> np.ndarray:
    """(count, D, h, w) float16, of a scene with instruments."""
    scene = PhantomScene(307, size, count)
    return np.concatenate([model.embed([frame.image]) for frame in scene])


def merged_as_plain(
    model: SurgicalSAM, project: Project, frame_index: int, class_ids: list[int], size: tuple[int, int]
) -> np.ndarray:
    """(H, W) uint8: our masks of a stored frame, the most certain one on top."""
    embedding = project.embeddings(model.encoder_digest, model.embedding_shape).read([frame_index])
    decoded = model.decode(torch.from_numpy(embedding), class_ids, size)
    geometry = FrameGeometry(size, model.input_size)
    return label_map_of(decoded.low_res_logits[0], class_ids, geometry, decoded.predicted_iou[0].numpy())


def iou(label_map: np.ndarray, other: np.ndarray, class_ids: list[int]) -> float:
    """The lowest IoU of the classes that are in one of the label maps."""
    scores = []
    for class_id in class_ids:
        a, b = label_map == class_id, other == class_id
        if (a | b).any():
            scores.append((a & b).sum() / (a | b).sum())
    return float(min(scores, default=1.0))


def decoding(
    name: str, model: SurgicalSAM, embeddings: np.ndarray, class_ids: list[int], repeats: int, size: tuple[int, int]
) -> dict[str, object]:
    """Figures of `name`. Each implementation segments every frame once, so that it always has new pixels to write."""
    frames_at_a_time = len(embeddings) // (repeats + 1)
    with both_implementations(model, embeddings, size) as (plain_implementation, project):
        frames = {"plain": iter(range(len(embeddings))), "ours": iter(range(len(embeddings)))}

        def next_frames(implementation: str) -> list[int]:
            return [next(frames[implementation]) for _ in range(frames_at_a_time)]

        def run_ours() -> None:
            with closing(segment_frames(project, model, class_ids, next_frames("ours"))) as reports:
                for _ in reports:
                    pass

        def run_plain() -> None:
            for frame_index in next_frames("plain"):
                plain_implementation.segment(frame_index, class_ids)

        times = paired(run_plain, run_ours, repeats)
        done = range(frames_at_a_time * (repeats + 1))
        maps = [
            (merged_as_plain(model, project, frame_index, class_ids, size), plain_implementation.label_map(frame_index))
            for frame_index in done
        ]
    flipped = sum(int((label_map != plain_map).sum()) for label_map, plain_map in maps)
    return {
        **figures(name, times, frames_at_a_time),
        f"{name}_flipped_pixels_per_million": round(1e6 * flipped / (len(maps) * np.prod(size)), 3),
        f"{name}_lowest_iou": round(min(iou(*pair, class_ids) for pair in maps), 6),
    }


def another_class(model: SurgicalSAM, embeddings: np.ndarray, repeats: int, size: tuple[int, int]) -> dict[str, object]:
    """Figures of `decode_another_class`: from the embedding of the last decoded frame to the label map of another class."""
    embedding = plain.in_memory_order_of_files(torch.from_numpy(embeddings[:1]).float())
    plain_implementation = plain.PlainSurgicalSAM(model)
    model.predict(embeddings[:1], [3], size)
    times = paired(
        lambda: plain_implementation.label_map(embedding, [0], [1], size),
        lambda: model.predict(embeddings[:1], [1], size),
        repeats,
    )
    return figures("decode_another_class", times)


def label_maps(repeats: int, size: tuple[int, int]) -> dict[str, object]:
    """Figures of `label_map`: from the bundled weights' logits of seven classes, at SAM's 256 x 256, to a label map."""
    model = light_model()
    decoded = model.decode(torch.from_numpy(phantom_embeddings(model, 4, size)), CLASSES.ids)
    logits = decoded.low_res_logits
    geometry = FrameGeometry(size)
    quality = decoded.predicted_iou.numpy()

    def run_plain() -> list[np.ndarray]:
        masks = [[(plain.to_frame(one[None, None], size) > 0).int()[0, 0].numpy() for one in frame] for frame in logits]
        return [plain.merged(frame, scores.tolist(), CLASSES.ids) for frame, scores in zip(masks, quality, strict=True)]

    def run_ours() -> list[np.ndarray]:
        return [label_map_of(frame, CLASSES.ids, geometry, scores) for frame, scores in zip(logits, quality, strict=True)]

    flipped = sum(int((a != b).sum()) for a, b in zip(run_plain(), run_ours(), strict=True))
    times = paired(run_plain, run_ours, repeats)
    return {**figures("label_map", times, len(logits)), "label_map_flipped_pixels": flipped}


def fast_mode(size: tuple[int, int], count: int) -> dict[str, object]:
    """Accuracy of the fast mode (bfloat16): IoU with the exact masks of the bundled weights, from frame to label map."""
    model = load_checkpoint(bundled_checkpoint(), device="cpu")
    frames = [frame.image for frame in PhantomScene(307, size, count)]
    maps = {}
    for model.is_fast in (False, True):  # set directly: `use_fast` refuses if it is no faster, and this is not timed
        maps[model.is_fast] = [each.label_map for each in model.predict(model.embed(frames), CLASSES.ids, size)]
    pairs = list(zip(maps[True], maps[False], strict=True))
    shared = [iou(fast, exact, [class_id]) for fast, exact in pairs for class_id in np.unique(exact).tolist() if class_id]
    return {
        "fast_mean_iou": round(float(np.mean(shared)), 5),
        "fast_lowest_iou": round(min(shared), 5),
        "fast_flipped_pixels_per_million": round(1e6 * float(np.mean([(a != b).mean() for a, b in pairs])), 1),
    }


def measure(repeats: int, *, is_quick: bool) -> dict[str, object]:
    """`decode_one_class`, `decode_all_classes` (also `…_light`), `decode_another_class`, and `label_map`."""
    result: dict[str, object] = {}
    size = QUICK_SIZE if is_quick else SIZE
    sam, light = untrained_model("light" if is_quick else "vit_h"), light_model()
    few, many = 2 * (repeats + 1), (2 if is_quick else 6) * (repeats + 1)
    with torch.inference_mode():
        large, small = smooth_embeddings(sam, many).numpy(), phantom_embeddings(light, many, size)
        result |= decoding("decode_one_class", sam, large, [3], repeats, size)
        result |= decoding("decode_all_classes", sam, large[:few], list(CLASSES.ids), repeats, size)
        result |= another_class(sam, large, 4 * repeats, size)
        result |= decoding("decode_one_class_light", light, small, [3], repeats, size)
        result |= decoding("decode_all_classes_light", light, small, list(CLASSES.ids), repeats, size)
        result |= label_maps(4 * repeats, size)
        result |= fast_mode(size, 2 if is_quick else 8)
    return result


if __name__ == "__main__":
    run(measure, __doc__, repeats=5)
