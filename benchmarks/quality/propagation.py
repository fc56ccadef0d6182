"""Compare ways to carry a mask by embeddings alone, without flow, and test where the carrying stops.

    python benchmarks/quality/propagation.py [--scenes 6] [--methods chosen,copy] [--clip DIR] [--json]

The phantom clips have 40 frames and were not used for training. There are three kinds: the first look, the second look
(where the class prompt is often wrong), and the second look with an instrument that the bundled weights do not know. The
exact mask of each instrument is carried from frame 4 forward and from frame 35 backward, through 30 frames, without a stop.
Figures are the mean IoU in percent over the frames that show the instrument. The methods:

- prompt: no propagation; the prediction of the class prompt
- copy: the unchanged corrected mask
- mask, box, point: the previous mask, its box, or a point in its middle prompts SAM's decoder; if the mask is empty, the
  mask of the class prompt is used
- appearance: the class prompt with the mean of the learned prototype and the embedding of the corrected region
- previous, reference: match embeddings with the previous frame, or with the corrected frame
- matching: match embeddings with both frames
- ridge: matching, averaged with a linear classifier of positions that is fitted in the corrected frame
- matching+mask, matching+box: matching, plus the logits of SAM's decoder for the matched mask or its box as prompt
- matching+any: matching, plus the logits of the class prompt that agrees best with it, of all classes
- chosen: `MaskCarrier`: matching, plus the logits of the class's own prompt if these agree

`stopping` concerns chosen, on the same frames: mean IoU before the stop (`kept_iou`) and after it, if propagation had
continued (`after_iou`); share of kept frames with an IoU below 0.5 (`kept_bad`); share of all frames with an IoU of 0.7 or
more that come after the stop (`good_given_up`); rank correlation of agreement and IoU. Frames without the instrument count
with an IoU of 0. `frames_per_second`: `propagate_class` on a 1080p video with cached embeddings, writing included.

`--clip DIR`: a real clip with masks of one frame (`clip.mp4`, `frame006.png`, `frame006_left_parts.png` and
`frame006_right_parts.png`). Each mask is propagated to the end and back again; `round_trip` is its IoU with the mask at the
start. A method that never moves the mask gets 100, so `round_trip` can only show failures.

The thresholds were chosen with `--seed 310000`; the default seed is different. The last line printed with `--json` is one
JSON object.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn import functional as F

sys.path.append(str(Path(__file__).parents[1]))
from common.options import new_parser, parse, print_json

from surgicalsam_napari.inference.embed import embed_frames
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.mask_decoder import decode_masks
from surgicalsam_napari.model.prompts import MASK_PROMPT_LOGIT, mask_prompt
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.model.zoo import bundled_checkpoint
from surgicalsam_napari.phantom import write_phantom_clip
from surgicalsam_napari.phantom.scene import PhantomScene
from surgicalsam_napari.propagation import mask_carrier
from surgicalsam_napari.propagation.mask_carrier import MaskCarrier, soft_iou
from surgicalsam_napari.propagation.mask_memory import MaskMemory, unit_keys
from surgicalsam_napari.propagation.propagate import propagate_class
from surgicalsam_napari.store import Project
from surgicalsam_napari.video import VideoReader

SIZE, FRAME_COUNT, DISTANCE = (512, 640), 40, 30
STARTS = ((4, 1), (FRAME_COUNT - 5, -1))  # frame and direction
SMALLEST_MASK, SMALLEST_TRUTH = 2000, 200  # pixels: smallest mask to propagate, and to count a frame
BAD, GOOD = 0.5, 0.7
KINDS = {"first": ("first", False), "second": ("second", False), "unknown": ("second", True)}
NOTHING = -10.0  # logit


class Carried:
    """The base of all methods: a model, the corrected frame, and the class; None if the model does not know the class."""

    def __init__(self, model: SurgicalSAM, embedding: np.ndarray, mask: np.ndarray, class_id: int | None) -> None:
        self.model, self.class_id = model, class_id
        self.side = 4 * embedding.shape[-1]
        geometry = FrameGeometry(mask.shape, model.input_size)
        self.share = mask_prompt(mask, geometry, self.side) / (2 * MASK_PROMPT_LOGIT) + 0.5
        self.start(torch.from_numpy(embedding).float())

    def start(self, embedding: Tensor) -> None:
        """Use the embedding (D, h, w) of the corrected frame."""

    def prompted(self, embedding: Tensor) -> Tensor:
        """The class prompt's logits; an empty mask if the class is unknown or predicted as absent."""
        if self.class_id is None:
            return torch.full((self.side, self.side), NOTHING)
        decoded = self.model.decode(embedding[None], [self.class_id])
        assert decoded.presence is not None
        present = bool(decoded.presence[0, 0] >= self.model.presence_threshold)
        return decoded.low_res_logits[0, 0] if present else torch.full((self.side, self.side), NOTHING)

    def from_sam(self, embedding: Tensor, share: Tensor, prompt: str) -> Tensor:
        """Logits of SAM's decoder for the mask `share` as a prompt, its box, or its middle."""
        model, (ys, xs) = self.model, (share > 0.5).nonzero().T
        scale = model.input_size / self.side
        boxes = points = masks = None
        if prompt == "mask":
            masks = ((2 * share - 1) * MASK_PROMPT_LOGIT)[None, None]
        elif prompt == "box":
            boxes = torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])[None] * scale
        else:
            nearest = ((xs - xs.float().mean()) ** 2 + (ys - ys.float().mean()) ** 2).argmin()
            point = torch.stack([xs[nearest], ys[nearest]]) + 0.5
            points = (point[None, None] * scale, torch.ones(1, 1))
        sparse, dense = model.prompt_encoder(points=points, boxes=boxes, masks=masks)
        dense = dense.expand(1, -1, *embedding.shape[-2:])
        assert model.sam_mask_decoder is not None
        position = model.prompt_encoder.get_dense_pe()
        return decode_masks(model.sam_mask_decoder, embedding[None], position, sparse, dense).low_res_logits[0]

    def carry(self, embedding: np.ndarray) -> Tensor:
        """(4h, 4w) logits in the next frame."""
        with torch.inference_mode():
            return self.step(torch.from_numpy(embedding).float())

    def step(self, embedding: Tensor) -> Tensor:
        raise NotImplementedError


class Prompt(Carried):
    def step(self, embedding: Tensor) -> Tensor:
        return self.prompted(embedding)


class Copy(Carried):
    def step(self, embedding: Tensor) -> Tensor:
        return logit(self.share)


class PreviousMask(Carried):
    prompt = "mask"

    def step(self, embedding: Tensor) -> Tensor:
        is_empty = not (self.share > 0.5).any()
        logits = self.prompted(embedding) if is_empty else self.from_sam(embedding, self.share, self.prompt)
        self.share = logits.sigmoid()
        return logits


class PreviousBox(PreviousMask):
    prompt = "box"


class PreviousPoint(PreviousMask):
    prompt = "point"


class Appearance(Carried):
    def start(self, embedding: Tensor) -> None:
        cells = F.avg_pool2d(self.share[None], 4)[0] > 0.5
        region = embedding[:, cells].mean(dim=1) if cells.any() else embedding.flatten(1).mean(dim=1)
        learned = self.model.prototypes().detach()
        row = None if self.class_id is None else self.model.prototype_rows([self.class_id])[0]
        length = learned.norm(dim=1).mean() if row is None else learned[row].norm()
        region = region / region.norm() * length
        blended = region if row is None else (learned[row] + region) / 2
        self.row = 0 if row is None else row  # an unknown class replaces a known one
        self.prototypes = learned.clone()
        self.prototypes[self.row] = blended

    def step(self, embedding: Tensor) -> Tensor:
        model = self.model
        prompts = model.class_prompt_encoder(embedding[None], self.prototypes, torch.tensor([[self.row]]))
        sparse, dense = (part.flatten(0, 1) for part in (prompts.sparse_prompt_embeddings, prompts.dense_prompt_embeddings))
        position = model.prompt_encoder.get_dense_pe()
        return decode_masks(model.mask_decoder, embedding[None], position, sparse, dense).low_res_logits[0]


class Matching(Carried):
    def start(self, embedding: Tensor) -> None:
        self.memory = MaskMemory(embedding, self.share)

    def read(self, embedding: Tensor) -> Tensor:
        return self.memory.read(embedding).share

    def added(self, embedding: Tensor, share: Tensor) -> Tensor | float:
        return 0.0

    def step(self, embedding: Tensor) -> Tensor:
        share = self.read(embedding)
        logits = logit(share) + self.added(embedding, share)
        self.memory.remember(embedding, mask_carrier.stretched(logits.sigmoid()))
        return logits


class PreviousFrame(Matching):
    def read(self, embedding: Tensor) -> Tensor:
        self.memory.reference = self.memory.previous
        return self.memory.read(embedding).share


class ReferenceFrame(Matching):
    def read(self, embedding: Tensor) -> Tensor:
        self.memory.previous = self.memory.reference
        return self.memory.read(embedding).share


class Ridge(Matching):
    weight, penalty = 0.3, 0.1

    def start(self, embedding: Tensor) -> None:
        super().start(embedding)
        features, target = self.features(embedding), F.pixel_unshuffle(self.share[None], 4).flatten(1).T
        normal = features.T @ features + self.penalty * torch.eye(features.shape[1])
        self.kernel = torch.linalg.solve(normal, features.T @ target)

    def features(self, embedding: Tensor) -> Tensor:
        return F.pad(unit_keys(embedding), (0, 1), value=1.0)

    def read(self, embedding: Tensor) -> Tensor:
        classified = (self.features(embedding) @ self.kernel).T.unflatten(1, tuple(embedding.shape[-2:]))
        return torch.lerp(super().read(embedding), F.pixel_shuffle(classified, 4)[0].clamp(0, 1), self.weight)


class MatchingAndMask(Matching):
    prompt = "mask"

    def added(self, embedding: Tensor, share: Tensor) -> Tensor | float:
        if not (share > 0.5).any():
            return 0.0
        return trusted(self.from_sam(embedding, share, self.prompt), share)


class MatchingAndBox(MatchingAndMask):
    prompt = "box"


class MatchingAndAny(Matching):
    def added(self, embedding: Tensor, share: Tensor) -> Tensor | float:
        logits = self.model.decode(embedding[None], self.model.classes.ids).low_res_logits[0]
        return trusted(max(logits, key=lambda one: soft_iou(one.sigmoid(), share)), share)


class Chosen(MaskCarrier):
    """The library's method, which also reports how well the mask fits."""

    def carry(self, embedding: np.ndarray) -> Tensor:  # type: ignore[override]
        carried = super().carry(embedding)
        self.agreement, self.is_gone = carried.agreement, carried.is_gone
        return carried.low_res_logits


METHODS: dict[str, Callable] = {
    "prompt": Prompt,
    "copy": Copy,
    "mask": PreviousMask,
    "box": PreviousBox,
    "point": PreviousPoint,
    "appearance": Appearance,
    "previous": PreviousFrame,
    "reference": ReferenceFrame,
    "matching": Matching,
    "ridge": Ridge,
    "matching+mask": MatchingAndMask,
    "matching+box": MatchingAndBox,
    "matching+any": MatchingAndAny,
    "chosen": Chosen,
}


def logit(share: Tensor) -> Tensor:
    return torch.logit(share.clamp(1 - mask_carrier.SUREST, mask_carrier.SUREST))


def trusted(logits: Tensor, share: Tensor) -> Tensor | float:
    """The weighted logits of a decoder for the sum, as in the library."""
    if soft_iou(logits.sigmoid(), share) < mask_carrier.TRUSTED_PROMPT:
        return 0.0
    return mask_carrier.PROMPT_WEIGHT * logits.clamp(-mask_carrier.LARGEST_PROMPT_LOGIT, mask_carrier.LARGEST_PROMPT_LOGIT)


@dataclass(frozen=True)
class Clip:
    """Labels (T, H, W) and embeddings (T, D, h, w) of a phantom clip."""

    kind: str
    labels: np.ndarray
    embeddings: np.ndarray


def phantom_clips(model: SurgicalSAM, seed: int, scenes: int, kinds: Sequence[str]) -> Iterator[Clip]:
    """`scenes` clips of each of these kinds."""
    for scene in range(scenes):
        for kind in kinds:
            look, new_tool = KINDS[kind]
            frames = list(PhantomScene(seed + scene, SIZE, FRAME_COUNT, look, new_tool))
            embeddings = np.concatenate([model.embed([frame.image]) for frame in frames])
            yield Clip(kind, np.stack([frame.labels for frame in frames]), embeddings)


def paths(model: SurgicalSAM, clip: Clip) -> Iterator[tuple[str, int, int, range]]:
    """Kind, class id, start frame and frames to propagate through, of every instrument that is large enough at the start."""
    for start, direction in STARTS:
        frames = range(start + direction, start + direction * (DISTANCE + 1), direction)
        for class_id in np.unique(clip.labels[start])[1:].tolist():
            known = class_id in model.classes.ids
            if known == (clip.kind != "unknown") and (clip.labels[start] == class_id).sum() > SMALLEST_MASK:
                yield clip.kind, class_id, start, frames


@dataclass(frozen=True)
class Step:
    """One frame with a propagated mask."""

    kind: str
    distance: int
    is_shown: bool  # whether the instrument is in the frame
    iou: float
    agreement: float
    is_after_stop: bool


def steps_of(model: SurgicalSAM, clip: Clip, make: Callable) -> Iterator[Step]:
    """Propagate every instrument of a clip."""
    geometry = FrameGeometry(SIZE, model.input_size)
    for kind, class_id, start, frames in paths(model, clip):
        known = class_id if class_id in model.classes.ids else None
        carrier, stopped = make(model, clip.embeddings[start], clip.labels[start] == class_id, known), False
        for distance, frame in enumerate(frames, start=1):
            mask = (geometry.to_frame(carrier.carry(clip.embeddings[frame])) > 0).numpy()
            truth = clip.labels[frame] == class_id
            agreement = getattr(carrier, "agreement", float("nan"))
            stopped |= agreement < mask_carrier.LEAST_AGREEMENT or getattr(carrier, "is_gone", False)
            yield Step(kind, distance, bool(truth.sum() >= SMALLEST_TRUTH), iou(mask, truth), agreement, stopped)


def iou(mask: np.ndarray, truth: np.ndarray) -> float:
    """0 if both are empty: such frames are not counted, or count as a false detection."""
    return float((mask & truth).sum() / max((mask | truth).sum(), 1))


def percent(values: Sequence[float]) -> float:
    return round(100 * float(np.mean(values)), 1) if len(values) else float("nan")


def summary(steps: Sequence[Step]) -> dict[str, float]:
    """Mean IoU, by kind of clip and by distance."""
    shown = [step for step in steps if step.is_shown]
    means = {"iou": percent([step.iou for step in shown])}
    means |= {kind: percent([step.iou for step in shown if step.kind == kind]) for kind in KINDS}
    for first, last in ((1, 5), (6, 15), (16, 30)):
        means[f"{first}-{last}"] = percent([step.iou for step in shown if first <= step.distance <= last])
    return means


def stopping(steps: Sequence[Step]) -> dict[str, float]:
    """How well the propagation stops when the mask no longer fits."""
    kept, after = ([step.iou for step in steps if step.is_after_stop is stop] for stop in (False, True))
    good = [step.is_after_stop for step in steps if step.iou >= GOOD]
    return {
        "kept_iou": percent(kept),
        "after_iou": percent(after),
        "kept_share": percent([not step.is_after_stop for step in steps]),
        "kept_bad": percent([value < BAD for value in kept]),
        "all_bad": percent([step.iou < BAD for step in steps]),
        "good_given_up": percent(good),
        "rank_correlation": round(float(spearmanr([s.agreement for s in steps], [s.iou for s in steps])[0]), 3),
    }


def frames_per_second(model: SurgicalSAM, size: tuple[int, int]) -> float:
    """Speed of `propagate_class` on cached embeddings."""
    with tempfile.TemporaryDirectory() as folder:
        video = write_phantom_clip(Path(folder), seed=330_000, size=size, frame_count=20)
        truth = np.asarray(Image.open(video.with_name(f"{video.stem}_labels") / "frame00000.png"))
        with Project.create(Path(folder) / "p.surgicalsam", VideoReader(video), ENDOVIS2018) as project:
            for _embedded in embed_frames(project, model, range(20)):
                pass
            project.labels[0] = truth
            class_id = int(np.bincount(truth.ravel())[1:].argmax()) + 1
            reports = propagate_class(project, model, class_id, 0, range(1, 20))
            next(reports)  # the first report includes the warm-up
            started = time.perf_counter()
            done = [report for report in reports if report.stopped is None]
            return round(len(done) / (time.perf_counter() - started), 1)


def round_trip(model: SurgicalSAM, folder: Path, make: Callable) -> float:
    """Mean IoU of a real clip's masks with themselves, after propagation to the end and back; their classes are unknown."""
    with VideoReader(folder / "clip.mp4") as video:
        frames = [video.frame(index) for index in range(video.info.frame_count)]
    embeddings = [model.embed([frame])[0] for frame in frames]
    path = [*range(7, len(frames)), *range(len(frames) - 2, 5, -1)]
    ious = []
    for side in ("left", "right"):
        truth = np.asarray(Image.open(folder / f"frame006_{side}_parts.png")) > 0
        carrier = make(model, embeddings[6], truth, None)
        for index in path:
            logits = carrier.carry(embeddings[index])
        ious.append(iou((FrameGeometry(truth.shape, model.input_size).to_frame(logits) > 0).numpy(), truth))
    return percent(ious)


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, help="instead of the bundled weights")
    parser.add_argument("--seed", type=int, default=320_000, help="of the first scene")
    parser.add_argument("--scenes", type=int, default=6, help="of each kind")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="of clips")
    parser.add_argument("--methods", default=",".join(METHODS), help="names of methods, separated by commas")
    parser.add_argument("--clip", type=Path, metavar="DIR", help="a real clip")
    arguments = parse(parser, quick={"scenes": 1, "methods": "chosen,copy", "kinds": ["second"]})
    model = load_checkpoint(arguments.checkpoint or bundled_checkpoint(), device="cpu")
    methods = {name: METHODS[name] for name in arguments.methods.split(",")}
    steps: dict[str, list[Step]] = {name: [] for name in methods}
    seconds = dict.fromkeys(methods, 0.0)
    for clip in phantom_clips(model, arguments.seed, arguments.scenes, arguments.kinds):
        for name, make in methods.items():
            started = time.perf_counter()
            steps[name] += steps_of(model, clip, make)
            seconds[name] += time.perf_counter() - started
    result: dict = {"methods": {}, "frames": len(next(iter(steps.values()))), "seed": arguments.seed}
    for name, taken in steps.items():
        result["methods"][name] = summary(taken) | {"ms": round(1000 * seconds[name] / max(len(taken), 1), 1)}
        print(f"{name:15}" + "".join(f"{key} {value:5.1f}  " for key, value in result["methods"][name].items()), flush=True)
    if "chosen" in steps:
        result["stopping"] = stopping(steps["chosen"])
        result["frames_per_second"] = frames_per_second(model, size=(270, 480) if arguments.quick else (1080, 1920))
        print(result["stopping"], result["frames_per_second"], "frames/s")
    if arguments.clip is None or not (arguments.clip / "clip.mp4").is_file():
        print("real clip: not measured. To measure it, name a folder that contains clip.mp4 (--clip).")
    else:
        result["round_trip"] = {name: round_trip(model, arguments.clip, make) for name, make in methods.items()}
        print(f"real clip, to the end and back: {result['round_trip']}")
    if arguments.json:
        print_json(result)


if __name__ == "__main__":
    main()
