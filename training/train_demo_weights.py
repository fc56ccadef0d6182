"""Train the bundled demo weights from scratch on the phantom: `python training/train_demo_weights.py --out runs/demo`.

Four steps, each resumed where it was stopped: phantom frames are rendered once; the image encoder learns to tell every
pixel's class; then, with the encoder frozen as SAM's is, prototypes, class prompt encoder, mask decoder and presence head
learn from cached embeddings with the losses of the paper; at last a second decoder learns points, boxes and masks through
SAM's prompt encoder. The presence threshold is calibrated on scenes of their own, and the record of it all goes into the
checkpoint.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.checkpoint import build_parts, save_checkpoint
from surgicalsam_napari.model.geometry import FrameGeometry, normalise_and_pad
from surgicalsam_napari.model.image_encoder import ENCODERS, build_image_encoder, encoder_digest
from surgicalsam_napari.model.mask_decoder import DecodedMasks, build_mask_decoder, decode_masks
from surgicalsam_napari.model.surgical_sam import SurgicalSAM, build_presence_head
from surgicalsam_napari.phantom import PhantomScene
from surgicalsam_training.losses import dice_losses, prototype_contrastive_loss

SPEC = ENCODERS["demo"]
DIM, GRID, _ = SPEC.embedding_shape
CLASS_COUNT = len(ENDOVIS2018)
SIDE = SPEC.input_size
TRAINING_SEED, VALIDATION_SEED = 100_000, 200_000  # first scenes; benchmarks/demo_weights.py starts at 300,000
SHAPES = ((410, 512), (410, 512), (410, 512), (288, 512), (384, 512), (512, 512))  # rendered sizes, taken in turn


@dataclass(frozen=True)
class Settings:
    """What is run; stored in the checkpoint."""

    scenes: int = 640
    validation_scenes: int = 40
    frames_per_scene: int = 12
    batch_size: int = 16
    encoder_steps: int = 1580
    decoder_steps: int = 900
    prompt_steps: int = 1400
    encoder_learning_rate: float = 2e-3
    decoder_learning_rate: float = 1e-3
    weight_decay: float = 0.02
    absent_per_frame: int = 1
    prompts_per_frame: int = 3
    seed: int = 666


# Data ------------------------------------------------------------------------------------------------------------------


def scene_size(seed: int) -> tuple[int, int]:
    """(H, W) that a scene is rendered at."""
    return SHAPES[seed % len(SHAPES)]


def render_scene(seed: int, frames_per_scene: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames spread over one scene, zero padded: (F, SIDE, SIDE, 3) and (F, SIDE, SIDE), both uint8."""
    size = scene_size(seed)
    scene = PhantomScene(seed, size, frame_count=frames_per_scene * 8)
    height, width = FrameGeometry(size, SIDE).resized_size
    images = np.zeros((frames_per_scene, SIDE, SIDE, 3), np.uint8)
    labels = np.zeros((frames_per_scene, SIDE, SIDE), np.uint8)
    for position in range(frames_per_scene):
        frame = scene.frame(position * 8)
        images[position, :height, :width] = Image.fromarray(frame.image).resize((width, height), Image.Resampling.BILINEAR)
        labels[position, :height, :width] = Image.fromarray(frame.labels).resize((width, height), Image.Resampling.NEAREST)
    return images, labels


@dataclass(frozen=True)
class Frames:
    """N frames in the encoder's square: images (N, SIDE, SIDE, 3), labels (N, SIDE, SIDE), sizes (N, 2) inside it."""

    images: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def rendered_frames(out: Path, name: str, first_seed: int, scenes: int, frames_per_scene: int) -> Frames:
    """Render the scenes that are not on disk yet, in all cores; a scene is a file."""
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    files = {seed: folder / f"{seed}.npz" for seed in range(first_seed, first_seed + scenes)}
    missing = [seed for seed, file in files.items() if not file.exists()]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        rendered = pool.map(render_scene, missing, [frames_per_scene] * len(missing))
        for done, (seed, (images, labels)) in enumerate(zip(missing, rendered, strict=True), 1):
            partial = files[seed].with_suffix(".part.npz")
            np.savez(partial, images=images, labels=labels)
            partial.replace(files[seed])
            if done % 50 == 0:
                print(f"{name}: {done} of {len(missing)} scenes rendered", flush=True)
    images = np.empty((scenes * frames_per_scene, SIDE, SIDE, 3), np.uint8)
    labels = np.empty(images.shape[:3], np.uint8)
    for position, file in enumerate(files.values()):
        part = slice(position * frames_per_scene, (position + 1) * frames_per_scene)
        with np.load(file) as scene:
            images[part], labels[part] = scene["images"], scene["labels"]
    sizes = np.array([FrameGeometry(scene_size(seed), SIDE).resized_size for seed in files]).repeat(frames_per_scene, 0)
    return Frames(images, labels, sizes)


def encoder_input(pixels: Tensor, sizes: np.ndarray) -> Tensor:
    """(B, 3, SIDE, SIDE) of 8-bit values, normalised; zero outside each frame, as from `FrameGeometry.to_input`."""
    place = torch.arange(SIDE)
    height, width = (torch.from_numpy(sizes[:, axis])[:, None] for axis in (0, 1))
    inside = (place < height)[:, None, :, None] & (place < width)[:, None, None, :]
    return normalise_and_pad(pixels, SIDE) * inside


def augmented(frames: Frames, chosen: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Flipped half of the time, colours and brightness shifted: normalised (B, 3, SIDE, SIDE), (B, SIDE, SIDE) int64."""
    images, labels = frames.images[chosen], frames.labels[chosen]
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    gain = rng.uniform(0.75, 1.25, (len(images), 1, 1, 1)) * rng.uniform(0.88, 1.12, (len(images), 3, 1, 1))
    contrast = rng.uniform(0.8, 1.25, (len(images), 1, 1, 1))
    shifted = (pixels - 90) * torch.from_numpy(contrast).float() + 90
    shifted = (shifted * torch.from_numpy(gain).float()).clamp(0, 255)
    normalised = encoder_input(shifted, frames.sizes[chosen])
    targets = torch.from_numpy(labels).long()
    flip = torch.from_numpy(rng.random(len(images)) < 0.5)
    normalised[flip], targets[flip] = normalised[flip].flip(-1), targets[flip].flip(-1)
    return normalised.contiguous(memory_format=torch.channels_last), targets


# The training loop that every step shares ------------------------------------------------------------------------------


def train(
    name: str, out: Path, module: nn.Module, steps: int, learning_rate: float, settings: Settings,
    losses: Callable[[int], dict[str, Tensor]],
) -> nn.Module:  # fmt: skip
    """AdamW, warm-up, cosine decay, and an exponential moving average, which is returned; resumes from `<out>/<name>.pt`."""
    weights = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.98))
    average = copy.deepcopy(module)
    first, file, log = 0, out / f"{name}.pt", out / f"{name}.csv"
    if file.exists():
        saved = torch.load(file, weights_only=True)
        module.load_state_dict(saved["module"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["step"]
    started = time.monotonic()
    for step in range(first, steps):
        warm = min(1.0, (step + 1) / 100)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * warm * (0.5 + 0.5 * math.cos(math.pi * step / steps)) + 1e-6
        terms = losses(step)
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        update_average(average, module, min(0.998, (1 + step) / (10 + step)))
        if (step + 1) % 20 == 0:
            seconds = (time.monotonic() - started) / (step + 1 - first)
            shown = ",".join(f"{key}={float(value):.4f}" for key, value in terms.items())
            with log.open("a") as stream:
                stream.write(f"{step + 1},{seconds:.2f},{shown}\n")
        if (step + 1) % 100 == 0 or step + 1 == steps:
            state = {"module": module.state_dict(), "average": average.state_dict(), "step": step + 1}
            torch.save({**state, "optimizer": optimizer.state_dict()}, file.with_suffix(".part"))
            file.with_suffix(".part").replace(file)
    return average


@torch.no_grad()
def update_average(average: nn.Module, module: nn.Module, decay: float) -> None:
    for kept, new in zip(average.state_dict().values(), module.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


def batch_indices(count: int, settings: Settings, step: int) -> np.ndarray:
    """The frames of one step: a fresh permutation each epoch, the same for the same seed whatever was resumed."""
    per_epoch = count // settings.batch_size
    order = np.random.default_rng((settings.seed, step // per_epoch)).permutation(count)
    start = step % per_epoch * settings.batch_size
    return np.sort(order[start : start + settings.batch_size])


# Step 1: the image encoder ---------------------------------------------------------------------------------------------


class PixelClassifier(nn.Module):
    """The encoder with two heads that only training needs: every pixel's class, and every position's nearest prototype."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = build_image_encoder("demo")
        self.fine = nn.Sequential(nn.Conv2d(DIM, (CLASS_COUNT + 1) * 16, 1), nn.PixelShuffle(4))
        self.prototypes = nn.Conv2d(DIM, CLASS_COUNT + 1, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, SIDE, SIDE) to class logits at half and at an eighth of the size."""
        embeddings = self.encoder(images)
        return self.fine(embeddings), self.prototypes(embeddings)


def train_encoder(out: Path, frames: Frames, settings: Settings) -> PixelClassifier:
    torch.manual_seed(settings.seed)
    model = PixelClassifier().to(memory_format=torch.channels_last).train()

    def losses(step: int) -> dict[str, Tensor]:
        chosen = batch_indices(len(frames), settings, step)
        rng = np.random.default_rng((settings.seed, 1, step))
        images, labels = augmented(frames, chosen, rng)
        fine, coarse = model(images)
        half, eighth = labels[:, ::2, ::2], labels[:, 4::8, 4::8]
        probability = fine.softmax(1)
        truth = F.one_hot(half, CLASS_COUNT + 1).permute(0, 3, 1, 2)
        overlap = (probability * truth).sum((0, 2, 3))
        size = probability.square().sum((0, 2, 3)) + truth.sum((0, 2, 3))
        dice = 1 - (2 * overlap + 1) / (size + 1)
        return {
            "pixels": F.cross_entropy(fine, half),
            "dice": dice[1:].mean(),
            "prototypes": 0.5 * F.cross_entropy(coarse, eighth),
        }

    trained = train("encoder", out, model, settings.encoder_steps, settings.encoder_learning_rate, settings, losses)
    return trained.eval()  # type: ignore[return-value]


@torch.inference_mode()
def embedded(out: Path, name: str, encoder: nn.Module, frames: Frames, flips: tuple[bool, ...]) -> np.ndarray:
    """(flips, N, D, GRID, GRID) float16: embeddings of the frames as they are and mirrored, kept on disk."""
    file = out / f"{name}_{encoder_digest(encoder.state_dict())}.npy"
    if file.exists():
        return np.load(file, mmap_mode="r")
    partial = file.with_suffix(".part")
    stored = np.lib.format.open_memmap(partial, "w+", np.float16, (len(flips), len(frames), DIM, GRID, GRID))
    for start in range(0, len(frames), 32):
        part = slice(start, start + 32)
        pixels = torch.from_numpy(frames.images[part]).permute(0, 3, 1, 2)
        images = encoder_input(pixels, frames.sizes[part])
        for position, flip in enumerate(flips):
            given = (images.flip(-1) if flip else images).contiguous(memory_format=torch.channels_last)
            stored[position, part] = encoder(given).half().numpy()
    stored.flush()
    partial.replace(file)
    return np.load(file, mmap_mode="r")


# Step 2: prototypes, class prompt encoder, mask decoder, presence ------------------------------------------------------


class ClassPrompted(nn.Module):
    """The tuned parts of SurgicalSAM."""

    def __init__(self) -> None:
        super().__init__()
        parts = build_parts(SPEC, CLASS_COUNT, tokens_per_class=2)
        self.prototypes, self.class_prompt_encoder = parts["prototypes"], parts["class_prompt_encoder"]
        self.mask_decoder, self.prompt_encoder = parts["mask_decoder"], parts["prompt_encoder"].requires_grad_(False)
        self.presence_head = build_presence_head(DIM)
        points = [self.prompt_encoder.point_embeddings[index].weight for index in range(2)]
        for marks, point in zip(self.class_prompt_encoder.pn_cls_embeddings, points, strict=True):
            marks.weight.data.copy_(point.expand_as(marks.weight))

    def forward(self, embeddings: Tensor, rows: Tensor) -> tuple[DecodedMasks, Tensor]:
        """(B, D, GRID, GRID) and (B, K) prototype rows to B * K decoded prompts and their presence logits (B * K,)."""
        prompts = self.class_prompt_encoder(embeddings, self.prototypes(), rows)
        decoded = decode_masks(
            self.mask_decoder,
            embeddings.repeat_interleave(rows.shape[1], dim=0),
            self.prompt_encoder.get_dense_pe(),
            prompts.sparse_prompt_embeddings.flatten(0, 1),
            prompts.dense_prompt_embeddings.flatten(0, 1),
        )
        return decoded, self.presence_head(decoded.iou_token)[:, 0]


def choose_rows(labels: Tensor, settings: Settings, rng: np.random.Generator) -> Tensor:
    """(B, prompts_per_frame) classes to prompt with: those present, and at least `absent_per_frame` that are not."""
    rows = np.empty((len(labels), settings.prompts_per_frame), np.int64)
    for position, label_map in enumerate(labels):
        present = [int(value) - 1 for value in label_map.unique() if value]
        absent = [row for row in range(CLASS_COUNT) if row not in present]
        present = list(rng.permutation(present))[: settings.prompts_per_frame - settings.absent_per_frame]
        rows[position] = present + list(rng.permutation(absent))[: settings.prompts_per_frame - len(present)]
    return torch.from_numpy(rows)


def class_embeddings(embeddings: Tensor, masks: Tensor) -> Tensor:
    """(P, D): the mean embedding inside each mask (P, SIDE, SIDE), brought to the grid bilinearly."""
    weight = F.interpolate(masks[:, None].float(), embeddings.shape[-2:], mode="bilinear", align_corners=False)
    inside = (weight > 0).float()
    return (embeddings * inside).sum((2, 3)) / inside.sum((2, 3)).clamp(min=1)


def mask_losses(decoded: DecodedMasks, masks: Tensor, shown: Tensor) -> dict[str, Tensor]:
    """Dice and cross-entropy at half the input size, and the error of the predicted IoU, for the prompts `shown`."""
    logits, truth = decoded.low_res_logits, F.avg_pool2d(masks[:, None].float(), 2)[:, 0]
    found = (logits > 0) & shown[:, None, None]
    solid = truth >= 0.5
    union = (found | solid).sum((1, 2)).clamp(min=1)
    iou = (found & solid).sum((1, 2)) / union
    return {
        "dice": dice_losses(logits[shown], truth[shown]).mean(),
        "pixels": 2 * F.binary_cross_entropy_with_logits(logits[shown], truth[shown]),
        "predicted_iou": F.mse_loss(decoded.predicted_iou[shown], iou[shown]),
    }


def train_decoder(
    out: Path, frames: Frames, embeddings: np.ndarray, start_prototypes: Tensor, settings: Settings
) -> ClassPrompted:
    torch.manual_seed(settings.seed + 1)
    model = ClassPrompted()
    model.prototypes.class_embeddings.weight.data.copy_(start_prototypes)
    model.train()

    def losses(step: int) -> dict[str, Tensor]:
        chosen = batch_indices(len(frames), settings, step)
        rng = np.random.default_rng((settings.seed, 2, step))
        flip = int(rng.integers(2))
        labels = torch.from_numpy(frames.labels[chosen])
        labels = labels.flip(-1) if flip else labels
        given = torch.from_numpy(embeddings[flip, chosen]).float()
        rows = choose_rows(labels, settings, rng)
        masks = (labels[:, None] == rows[..., None, None] + 1).flatten(0, 1)
        present = masks.flatten(1).any(1)
        decoded, presence = model(given, rows)
        inside = class_embeddings(given.repeat_interleave(rows.shape[1], 0)[present], masks[present])
        return {
            **mask_losses(decoded, masks, present),
            "contrastive": 0.2 * prototype_contrastive_loss(model.prototypes(), inside, rows.flatten()[present]),
            "presence": 0.5 * F.binary_cross_entropy_with_logits(presence, present.float()),
        }

    trained = train("decoder", out, model, settings.decoder_steps, settings.decoder_learning_rate, settings, losses)
    return trained.eval()  # type: ignore[return-value]


# Step 3: points, boxes and masks through SAM's prompt encoder ----------------------------------------------------------


class ClickPrompted(nn.Module):
    """SAM's prompt encoder and a decoder of its own, started from the class-prompted one."""

    def __init__(self, start: ClassPrompted) -> None:
        super().__init__()
        self.prompt_encoder = copy.deepcopy(start.prompt_encoder).requires_grad_(True)
        self.mask_decoder = build_mask_decoder(DIM, SPEC.mlp_dim)
        self.mask_decoder.load_state_dict(start.mask_decoder.state_dict())

    def forward(self, embeddings: Tensor, prompts: list[dict[str, Tensor | None]]) -> DecodedMasks:
        """One prompt for each of P embeddings; tokens are padded with SAM's "not a point" to one length."""
        sparse, dense = zip(*(self._encode(**prompt) for prompt in prompts), strict=True)
        longest = max(tokens.shape[1] for tokens in sparse)
        filler = self.prompt_encoder.not_a_point_embed.weight[None]
        tokens = [torch.cat([part, filler.expand(1, longest - part.shape[1], -1)], 1) for part in sparse]
        return decode_masks(
            self.mask_decoder, embeddings, self.prompt_encoder.get_dense_pe(), torch.cat(tokens), torch.cat(dense)
        )

    def _encode(self, points: Tensor | None, marks: Tensor | None, box: Tensor | None, mask: Tensor | None):
        given = None if points is None else (points[None], marks[None])  # type: ignore[index]
        return self.prompt_encoder(given, None if box is None else box[None], None if mask is None else mask[None, None])


def click_prompt(mask: np.ndarray, previous: Tensor | None, rng: np.random.Generator) -> dict[str, Tensor | None]:
    """A person's prompt for a mask (SIDE, SIDE): points in and around it, or a jittered box, or both.

    With `previous` logits, as in SAM's training, the point lies where they are wrong, and they are the mask prompt.
    """
    rows, columns = np.nonzero(mask)
    box = None
    points: list[tuple[float, float]] = []
    marks: list[int] = []
    if previous is not None:
        shown = F.interpolate(previous[None, None], (SIDE, SIDE), mode="bilinear")[0, 0].numpy() > 0
        wrong_rows, wrong_columns = np.nonzero(shown != mask)
        if len(wrong_rows):
            pick = rng.integers(len(wrong_rows))
            points.append((wrong_columns[pick] + 0.5, wrong_rows[pick] + 0.5))
            marks.append(int(mask[wrong_rows[pick], wrong_columns[pick]]))
    elif rng.random() < 0.4:
        jitter = rng.normal(0, 0.05, 4) * np.ptp(columns).clip(4)
        corners = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) + jitter
        box = torch.from_numpy(corners.clip(0, SIDE)).float()
    if not points and (box is None or rng.random() < 0.3):
        for _ in range(int(rng.integers(1, 4))):
            pick = rng.integers(len(rows))
            points.append((columns[pick] + 0.5, rows[pick] + 0.5))
            marks.append(1)
        if rng.random() < 0.4:
            point = rng.integers(0, SIDE, 2)
            points.append((point[0] + 0.5, point[1] + 0.5))
            marks.append(int(mask[point[1], point[0]]))
    return {
        "points": torch.tensor(points) if points else None,
        "marks": torch.tensor(marks) if points else None,
        "box": box,
        "mask": previous,
    }


def train_clicks(
    out: Path, frames: Frames, embeddings: np.ndarray, start: ClassPrompted, settings: Settings
) -> ClickPrompted:
    torch.manual_seed(settings.seed + 2)
    model = ClickPrompted(start).train()

    def losses(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((settings.seed, 3, step))
        chosen = [index for index in batch_indices(len(frames), settings, step) if frames.labels[index].any()]
        masks = []
        for index in chosen:
            classes = np.unique(frames.labels[index])
            masks.append(frames.labels[index] == rng.choice(classes[classes > 0]))
        truth = torch.from_numpy(np.stack(masks))
        given = torch.from_numpy(embeddings[0, chosen]).float()
        shown = torch.ones(len(chosen), dtype=torch.bool)
        first = model(given, [click_prompt(mask, None, rng) for mask in masks])
        again = [click_prompt(mask, logits, rng) for mask, logits in zip(masks, first.low_res_logits.detach(), strict=True)]
        terms = mask_losses(first, truth, shown)
        return {**terms, **{f"again_{key}": value for key, value in mask_losses(model(given, again), truth, shown).items()}}

    trained = train("clicks", out, model, settings.prompt_steps, 0.5 * settings.decoder_learning_rate, settings, losses)
    return trained.eval()  # type: ignore[return-value]


# Calibration and the checkpoint ----------------------------------------------------------------------------------------


@torch.inference_mode()
def validate(model: ClassPrompted, frames: Frames, embeddings: np.ndarray) -> dict:
    """IoU per class where it is present, and presence of every (frame, class) with its truth."""
    rows = torch.arange(CLASS_COUNT)[None]
    scores, truths, ious = [], [], []
    for index in range(len(frames)):
        decoded, presence = model(torch.from_numpy(embeddings[0, index : index + 1]).float(), rows)
        masks = torch.from_numpy(frames.labels[index])[None] == rows[0, :, None, None] + 1
        logits = F.interpolate(decoded.low_res_logits[None], (SIDE, SIDE), mode="bilinear")[0]
        union = ((logits > 0) | masks).sum((1, 2))
        ious.append(((logits > 0) & masks).sum((1, 2)) / union.clamp(min=1))
        scores.append(presence.sigmoid())
        truths.append(masks.flatten(1).any(1))
    return {
        "presence": torch.stack(scores).numpy(),
        "present": torch.stack(truths).numpy(),
        "iou": torch.stack(ious).numpy(),
    }


def calibrate_presence(presence: np.ndarray, present: np.ndarray) -> float:
    """The threshold of 0.05, 0.10, … 0.95 with the best F1 over (frame, class) pairs."""
    thresholds = np.arange(0.05, 0.96, 0.05).round(2)
    found = presence[None] >= thresholds[:, None, None]
    f1 = 2 * (found & present).sum((1, 2)) / (found.sum((1, 2)) + present.sum())
    return float(thresholds[f1.argmax()])


def assemble(classifier: PixelClassifier, tuned: ClassPrompted, clicks: ClickPrompted, threshold: float) -> SurgicalSAM:
    encoder = classifier.encoder
    # stored as float16: the digest is that of the weights as they will be loaded
    for part in (encoder, tuned, clicks):
        for tensor in part.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(tensor.half())
    return SurgicalSAM(
        ENDOVIS2018,
        "demo",
        encoder_digest(encoder.state_dict()),
        image_encoder=encoder,
        prototypes=tuned.prototypes,
        class_prompt_encoder=tuned.class_prompt_encoder,
        mask_decoder=tuned.mask_decoder,
        prompt_encoder=clicks.prompt_encoder,
        sam_mask_decoder=clicks.mask_decoder,
        presence_head=tuned.presence_head,
        presence_threshold=threshold,
        name="demo",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="run folder; run again to resume")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    for name, value in asdict(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    arguments = vars(parser.parse_args())
    out, threads = arguments.pop("out"), arguments.pop("threads")
    settings = Settings(**arguments)
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)

    frames = rendered_frames(out, "training", TRAINING_SEED, settings.scenes, settings.frames_per_scene)
    held_out = rendered_frames(out, "validation", VALIDATION_SEED, settings.validation_scenes, settings.frames_per_scene)
    classifier = train_encoder(out, frames, settings)
    embeddings = embedded(out, "training", classifier.encoder, frames, (False, True))
    tuned = train_decoder(out, frames, embeddings, classifier.prototypes.weight[1:, :, 0, 0].detach(), settings)
    clicks = train_clicks(out, frames, embeddings, tuned, settings)

    result = validate(tuned, held_out, embedded(out, "validation", classifier.encoder, held_out, (False,)))
    threshold = calibrate_presence(result["presence"], result["present"])
    kept = result["presence"] >= threshold
    ious = [result["iou"][:, row][result["present"][:, row]] for row in range(CLASS_COUNT)]
    record = {
        "script": "training/train_demo_weights.py",
        "settings": asdict(settings),
        "data": f"phantom scenes {TRAINING_SEED}-{TRAINING_SEED + settings.scenes - 1}, look first",
        "validation": {
            "scenes": f"{VALIDATION_SEED}-{VALIDATION_SEED + settings.validation_scenes - 1}",
            "mean_iou_where_present": {
                name: round(100 * float(iou.mean()), 2) for name, iou in zip(ENDOVIS2018.names, ious, strict=True)
            },
            "absent_false_positive_rate": round(100 * float(kept[~result["present"]].mean()), 2),
            "present_missed_rate": round(100 * float((~kept)[result["present"]].mean()), 2),
        },
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }
    save_checkpoint(
        out / "demo.safetensors", assemble(classifier, tuned, clicks, threshold), training_record=record, half=True
    )
    (out / "record.json").write_text(json.dumps(record | {"presence_threshold": threshold}, indent=2) + "\n")
    print(json.dumps(record["validation"] | {"presence_threshold": threshold}))


if __name__ == "__main__":
    main()
