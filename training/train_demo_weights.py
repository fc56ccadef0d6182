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
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion, distance_transform_edt, label, shift
from torch import Tensor, nn
from torch.nn import functional as F

from surgicalsam_napari.files import replacing
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.checkpoint import build_parts, load_checkpoint, read_checkpoint_info, save_checkpoint
from surgicalsam_napari.model.encoders import ENCODERS
from surgicalsam_napari.model.geometry import FrameGeometry, normalise_and_pad
from surgicalsam_napari.model.image_encoder import build_image_encoder, encoder_digest
from surgicalsam_napari.model.mask_decoder import DecodedMasks, decode_masks
from surgicalsam_napari.model.prompts import MASK_PROMPT_LOGIT, stamp_clicks
from surgicalsam_napari.model.surgical_sam import SurgicalSAM, build_presence_head
from surgicalsam_napari.phantom import PhantomScene
from surgicalsam_training.loop.losses import dice_losses, prototype_contrastive_loss

SPEC = ENCODERS["demo"]
DIM, GRID, _ = SPEC.embedding_shape
CLASS_COUNT = len(ENDOVIS2018)
SIDE = SPEC.input_size
LOW_RES = 4 * GRID  # side of the decoder's logits
STRANGE_COLOURS = 2.5  # how much stronger than for the encoder: clicks are for frames where the encoder is at a loss
SCRIPT = "training/train_demo_weights.py"
TRAINING_SEED, VALIDATION_SEED = 100_000, 200_000  # first scenes; benchmarks/quality/demo_weights.py starts at 300,000
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
    click_scenes: int = 160
    click_steps: int = 1750
    encoder_learning_rate: float = 2e-3
    decoder_learning_rate: float = 1e-3
    click_learning_rate: float = 1e-3
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
    """Render the scenes that are not on disk yet, in as many processes as torch has threads; a scene is a file."""
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    files = {seed: folder / f"{seed}.npz" for seed in range(first_seed, first_seed + scenes)}
    missing = [seed for seed, file in files.items() if not file.exists()]
    with ProcessPoolExecutor(torch.get_num_threads()) as pool:
        rendered = pool.map(render_scene, missing, [frames_per_scene] * len(missing))
        for done, (seed, (images, labels)) in enumerate(zip(missing, rendered, strict=True), 1):
            with replacing(files[seed], files[seed].with_suffix(".part.npz")) as partial:  # numpy wants this suffix
                np.savez(partial, images=images, labels=labels)
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
    in_frame = (place < height)[:, None, :, None] & (place < width)[:, None, None, :]
    return normalise_and_pad(pixels, SIDE) * in_frame


def recoloured(pixels: Tensor, rng: np.random.Generator, strength: float = 1.0) -> Tensor:
    """8-bit values (B, 3, H, W) with brightness, tint and contrast shifted, each image its own way; float32."""
    gain = 1 + strength * rng.uniform(-0.25, 0.25, (len(pixels), 1, 1, 1))
    gain = gain * (1 + strength * rng.uniform(-0.12, 0.12, (len(pixels), 3, 1, 1)))
    contrast = 1 + strength * rng.uniform(-0.2, 0.25, (len(pixels), 1, 1, 1))
    shifted = (pixels.float() - 90) * torch.from_numpy(contrast).float() + 90
    return (shifted * torch.from_numpy(gain).float()).clamp(0, 255)


def augmented(frames: Frames, chosen: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Flipped half of the time, colours and brightness shifted: normalised (B, 3, SIDE, SIDE), (B, SIDE, SIDE) int64."""
    images, labels = frames.images[chosen], frames.labels[chosen]
    normalised = encoder_input(recoloured(torch.from_numpy(images).permute(0, 3, 1, 2), rng), frames.sizes[chosen])
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
            shown = ",".join(f"{key}={value.item():.4f}" for key, value in terms.items())
            with log.open("a") as stream:
                stream.write(f"{step + 1},{seconds:.2f},{shown}\n")
        if (step + 1) % 100 == 0 or step + 1 == steps:
            state = {"module": module.state_dict(), "average": average.state_dict(), "step": step + 1}
            with replacing(file) as partial:
                torch.save({**state, "optimizer": optimizer.state_dict()}, partial)
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
def embedded(
    out: Path, name: str, encoder: nn.Module, frames: Frames, *, mirrored: bool = False, recolour: float = 0.0
) -> np.ndarray:
    """(1 or 2, N, D, GRID, GRID) float16: embeddings of the frames, and of their mirror images; kept on disk.

    The mirror images are recoloured, too, by this strength.
    """
    file = out / f"{name}_{encoder_digest(encoder.state_dict())}.npy"
    if file.exists():
        return np.load(file, mmap_mode="r")
    shape = (1 + mirrored, len(frames), DIM, GRID, GRID)
    with replacing(file) as partial_file:
        stored = np.lib.format.open_memmap(partial_file, "w+", np.float16, shape)
        rng = np.random.default_rng(len(frames))
        for start in range(0, len(frames), 32):
            part = slice(start, start + 32)
            pixels = torch.from_numpy(frames.images[part]).permute(0, 3, 1, 2)
            images = encoder_input(pixels, frames.sizes[part])
            stored[0, part] = encoder(images.contiguous(memory_format=torch.channels_last)).half().numpy()
            if mirrored:
                images = encoder_input(recoloured(pixels, rng, recolour), frames.sizes[part])
                stored[1, part] = encoder(images.flip(-1).contiguous(memory_format=torch.channels_last)).half().numpy()
        stored.flush()
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
    in_mask = (weight > 0).float()
    return (embeddings * in_mask).sum((2, 3)) / in_mask.sum((2, 3)).clamp(min=1)


def mask_losses(decoded: DecodedMasks, masks: Tensor, shown: Tensor) -> dict[str, Tensor]:
    """Dice and cross-entropy at half the input size, and the error of the predicted IoU, for the prompts `shown`."""
    logits, truth = decoded.low_res_logits, F.avg_pool2d(masks[:, None].float(), 2)[:, 0]
    answer = (logits > 0) & shown[:, None, None]
    solid = truth >= 0.5
    union = (answer | solid).sum((1, 2)).clamp(min=1)
    iou = (answer & solid).sum((1, 2)) / union
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
        means = class_embeddings(given.repeat_interleave(rows.shape[1], 0)[present], masks[present])
        return {
            **mask_losses(decoded, masks, present),
            "contrastive": 0.2 * prototype_contrastive_loss(model.prototypes(), means, rows.flatten()[present]),
            "presence": 0.5 * F.binary_cross_entropy_with_logits(presence, present.float()),
        }

    trained = train("decoder", out, model, settings.decoder_steps, settings.decoder_learning_rate, settings, losses)
    return trained.eval()  # type: ignore[return-value]


# Step 3: points, boxes and masks through SAM's prompt encoder ----------------------------------------------------------


@dataclass
class Prompt:
    """What one decoding is asked with.

    Attributes
    ----------
    mask : (LOW_RES, LOW_RES) logits that the answer starts from; None for no mask prompt
    box : left, top, right, bottom in the encoder's square, 0 at its edge; None for no box
    points : x and y of each click in the encoder's square, 0 at its edge
    marks : 1 for each click inside the instrument, 0 outside
    """

    mask: Tensor | None = None
    box: tuple[float, ...] | None = None
    points: list[tuple[float, float]] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)

    def click(self, answer: Tensor | None, truth: np.ndarray, rng: np.random.Generator) -> None:
        """Click where `answer` (LOW_RES, LOW_RES) bool is most wrong, as a person would; nothing where nothing is."""
        shown = np.zeros_like(truth) if answer is None else answer.numpy()
        worst = largest_region(shown != truth)
        if worst is None:
            return
        depth = distance_transform_edt(np.pad(worst, 1))[1:-1, 1:-1]
        middle = rng.random() < 0.6
        row, column = rng.choice(np.argwhere(depth == depth.max() if middle else depth > 0.4 * depth.max()))
        self.points.append(((column + rng.random()) * SIDE / LOW_RES, (row + rng.random()) * SIDE / LOW_RES))
        self.marks.append(int(truth[row, column]))

    def mask_with_clicks(self) -> Tensor | None:
        if self.mask is None or not self.points:
            return self.mask
        return stamp_clicks(self.mask, torch.tensor(self.points) * (LOW_RES / SIDE), torch.tensor(self.marks))


class ClickPrompted(nn.Module):
    """SAM's prompt encoder and a decoder of its own, started from a model's click decoder, or else its class decoder."""

    def __init__(self, start: SurgicalSAM) -> None:
        super().__init__()
        self.prompt_encoder = copy.deepcopy(start.prompt_encoder).requires_grad_(True)
        self.mask_decoder = copy.deepcopy(start.sam_mask_decoder or start.mask_decoder).requires_grad_(True)

    def forward(self, embeddings: Tensor, prompts: list[Prompt]) -> DecodedMasks:
        """One prompt for each of P embeddings; what a prompt lacks is SAM's "not a point" or "no mask"."""
        longest = max(len(prompt.points) for prompt in prompts) + 1
        points, marks = torch.zeros(len(prompts), longest, 2), torch.full((len(prompts), longest), -1)
        boxes = torch.tensor([prompt.box or (0.0,) * 4 for prompt in prompts])
        for row, prompt in enumerate(prompts):
            if prompt.points:
                points[row, : len(prompt.points)] = torch.tensor(prompt.points)
                marks[row, : len(prompt.points)] = torch.tensor(prompt.marks)
        encoder = self.prompt_encoder
        clicks = encoder._embed_points(points - 0.5, marks, pad=False)  # SAM adds the 0.5 again
        boxed = torch.tensor([prompt.box is not None for prompt in prompts])[:, None, None]
        corners = torch.where(boxed, encoder._embed_boxes(boxes - 0.5), encoder.not_a_point_embed.weight)
        masks = [prompt.mask_with_clicks() for prompt in prompts]
        masked = torch.tensor([mask is not None for mask in masks])[:, None, None, None]
        given = torch.stack([torch.zeros(LOW_RES, LOW_RES) if mask is None else mask for mask in masks])
        dense = torch.where(masked, encoder._embed_masks(given[:, None]), encoder.no_mask_embed.weight[..., None, None])
        return decode_masks(self.mask_decoder, embeddings, encoder.get_dense_pe(), torch.cat([clicks, corners], 1), dense)


def largest_region(mask: np.ndarray) -> np.ndarray | None:
    """The largest connected part of a mask (H, W) bool; None if it is empty."""
    regions, count = label(mask)
    return regions == np.bincount(regions.ravel())[1:].argmax() + 1 if count else None


def half_plane(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One side (H, W) of a line through a random pixel of the mask."""
    row, column = rng.choice(np.argwhere(mask))
    angle = rng.uniform(0, 2 * math.pi)
    rows, columns = np.indices(mask.shape)
    return (rows - row) * math.sin(angle) + (columns - column) * math.cos(angle) > 0


def damaged(truth: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask (LOW_RES, LOW_RES) with one to three of the faults of bad masks; `others` are the other instruments."""
    mask = truth.copy()
    for fault in rng.permutation(5)[: int(rng.integers(1, 4))]:
        if fault == 0:
            mask = shift(mask, rng.integers(-5, 6, 2), order=0)
        elif fault == 1 and mask.any():
            grown = binary_dilation if rng.random() < 0.5 else binary_erosion
            mask = grown(mask, iterations=int(rng.integers(1, 4)))
        elif fault == 2 and mask.any():
            mask = mask & half_plane(mask, rng)
        elif fault == 3 and others.any():
            mask = mask | (others & half_plane(others, rng))
        elif fault == 4:
            row, column = rng.integers(0, LOW_RES, 2)
            rows, columns = np.indices(mask.shape)
            spot = ((rows - row) / rng.uniform(2, 14)) ** 2 + ((columns - column) / rng.uniform(2, 14)) ** 2 <= 1
            mask = mask | spot if rng.random() < 0.5 else mask & ~spot
    return mask


def jittered_box(truth: np.ndarray, rng: np.random.Generator) -> tuple[float, ...]:
    rows, columns = np.nonzero(truth)
    corners = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) * SIDE / LOW_RES
    jitter = rng.normal(0, 0.04, 4) * np.tile([np.ptp(columns), np.ptp(rows)], 2).clip(4)
    return tuple((corners + jitter).clip(0, SIDE).tolist())


def first_prompt(
    class_answer: Callable[[], Tensor], truth: np.ndarray, others: np.ndarray, rng: np.random.Generator
) -> Prompt:
    """What a person starts from: nothing, the model's own answer for the class (LOW_RES, LOW_RES), or a bad mask."""
    start = rng.choice(["nothing", "answer", "damaged"], p=[0.35, 0.35, 0.3])
    boxed = truth.any() and rng.random() < (0.35 if start == "nothing" else 0.08)
    prompt = Prompt(box=jittered_box(truth, rng) if boxed else None)
    if start == "answer":
        prompt.mask = certain(class_answer() > 0)
    elif start == "damaged":
        prompt.mask = certain(torch.from_numpy(damaged(truth, others, rng)))
    return prompt


def certain(mask: Tensor) -> Tensor:
    """The mask prompt of a bool mask, as a person's mask gives it."""
    return torch.where(mask, MASK_PROMPT_LOGIT, -MASK_PROMPT_LOGIT)


def click_losses(decoded: DecodedMasks, truth: Tensor, started_wrong: Tensor) -> dict[str, Tensor]:
    """Dice, cross-entropy in which pixels that the start had wrong count five times, and the predicted IoU's error."""
    logits, solid = decoded.low_res_logits, truth >= 0.5
    answer = logits > 0
    iou = (answer & solid).sum((1, 2)) / (answer | solid).sum((1, 2)).clamp(min=1)
    return {
        "dice": dice_losses(logits, truth).mean(),
        "pixels": 2 * F.binary_cross_entropy_with_logits(logits, truth, 1 + 4 * started_wrong.float()),
        "predicted_iou": F.mse_loss(decoded.predicted_iou, iou),
    }


class ClickPractice:
    """Batches of prompts as they come up when masks are corrected, click by click, with the decoder as it is.

    Parameters
    ----------
    embeddings : (2, N, D, GRID, GRID), of the frames as they are, and mirrored and recoloured
    start : gives the class-prompted answers that are corrected
    """

    def __init__(self, frames: Frames, embeddings: np.ndarray, start: SurgicalSAM, settings: Settings) -> None:
        self.frames, self.embeddings, self.start, self.settings = frames, embeddings, start, settings
        self.shown = np.flatnonzero(frames.labels.any((1, 2)))

    def losses(self, model: ClickPrompted, step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.settings.seed, 3, step))
        chosen = self.shown[batch_indices(len(self.shown), self.settings, step)]
        flips = rng.integers(0, 2, len(chosen))
        given = torch.from_numpy(np.stack([self.embeddings[f, i] for f, i in zip(flips, chosen, strict=True)])).float()
        labels = np.stack([self.frames.labels[i][:, :: -1 if f else 1] for f, i in zip(flips, chosen, strict=True)])
        class_ids = [int(rng.choice(np.setdiff1d(label_map, 0))) for label_map in labels]
        classes = torch.tensor(class_ids)[:, None, None]
        truth = F.avg_pool2d((torch.from_numpy(labels) == classes)[:, None].float(), SIDE // LOW_RES)[:, 0]
        solid = (truth >= 0.5).numpy()
        others = labels[:, :: SIDE // LOW_RES, :: SIDE // LOW_RES]
        prompts = [
            first_prompt(partial(self._answer, embedding, class_id), mask, (other > 0) & (other != class_id), rng)
            for embedding, class_id, mask, other in zip(given, class_ids, solid, others, strict=True)
        ]
        wrong = [
            torch.zeros(LOW_RES, LOW_RES, dtype=torch.bool) if p.mask is None else (p.mask > 0) != torch.from_numpy(m)
            for p, m in zip(prompts, solid, strict=True)
        ]
        self._correct(model, given, prompts, solid, rng)
        return click_losses(model(given, prompts), truth, torch.stack(wrong))

    def _answer(self, embedding: Tensor, class_id: int) -> Tensor:
        """The class-prompted logits (LOW_RES, LOW_RES) of one frame."""
        return self.start.decode(embedding[None], [class_id]).low_res_logits[0, 0].clone()

    @torch.no_grad()
    def _correct(
        self, model: ClickPrompted, given: Tensor, prompts: list[Prompt], solid: np.ndarray, rng: np.random.Generator
    ) -> None:
        """One to four clicks on each, or up to three after a box; each answer is the next mask prompt."""
        clicks = rng.choice([1, 2, 3, 4], len(prompts), p=[0.45, 0.25, 0.18, 0.12])
        for position, prompt in enumerate(prompts):
            if prompt.box is None:
                prompt.click(None if prompt.mask is None else prompt.mask > 0, solid[position], rng)
        for round_ in range(1, 4):
            going_on = np.flatnonzero(clicks > round_)
            if not len(going_on):
                return
            decoded = model(given[going_on], [prompts[position] for position in going_on])
            for position, logits in zip(going_on, decoded.low_res_logits, strict=True):
                prompts[position].mask = certain(logits > 0)
                prompts[position].click(logits > 0, solid[position], rng)


def train_clicks(out: Path, frames: Frames, embeddings: np.ndarray, start: SurgicalSAM, settings: Settings) -> ClickPrompted:
    torch.manual_seed(settings.seed + 2)
    model = ClickPrompted(start).train()
    practice = ClickPractice(frames, embeddings, start, settings)
    trained = train(
        "clicks", out, model, settings.click_steps, settings.click_learning_rate, settings,
        lambda step: practice.losses(model, step),
    )  # fmt: skip
    return trained.eval()  # type: ignore[return-value]


@torch.inference_mode()
def validate_clicks(model: ClickPrompted, frames: Frames, embeddings: np.ndarray, seed: int) -> dict[str, float]:
    """Mean IoU in percent at low resolution, of each class in each third frame: a box, and 1, 3 and 5 clicks."""
    rng = np.random.default_rng(seed)
    ious: dict[str, list[float]] = {"box": [], "1 click": [], "3 clicks": [], "5 clicks": []}
    for index in range(0, len(frames), 3):
        given = torch.from_numpy(embeddings[0, index : index + 1].astype(np.float32))
        small = frames.labels[index, :: SIDE // LOW_RES, :: SIDE // LOW_RES]
        for class_id in np.setdiff1d(small, 0):
            truth = small == class_id
            mask = (model(given, [Prompt(box=jittered_box(truth, rng))]).low_res_logits[0] > 0).numpy()
            ious["box"].append((mask & truth).sum() / (mask | truth).sum())
            prompt = Prompt()
            for count in range(1, 6):
                prompt.click(None if prompt.mask is None else prompt.mask > 0, truth, rng)
                prompt.mask = certain(model(given, [prompt]).low_res_logits[0] > 0)
                mask = (prompt.mask > 0).numpy()
                name = "1 click" if count == 1 else f"{count} clicks"
                if name in ious:
                    ious[name].append((mask & truth).sum() / (mask | truth).sum())
    return {name: round(100 * float(np.mean(values)), 2) for name, values in ious.items()}


# Calibration and the checkpoint ----------------------------------------------------------------------------------------


@torch.inference_mode()
def validate(model: ClassPrompted, frames: Frames, embeddings: np.ndarray) -> dict:
    """IoU per class where it is present, and presence of every (frame, class) with its truth."""
    rows = torch.arange(CLASS_COUNT)[None]
    scores, truths, ious = [], [], []
    for index in range(len(frames)):
        decoded, presence = model(torch.from_numpy(embeddings[0, index : index + 1].astype(np.float32)), rows)
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
    predicted = presence[None] >= thresholds[:, None, None]
    f1 = 2 * (predicted & present).sum((1, 2)) / (predicted.sum((1, 2)) + present.sum())
    return float(thresholds[f1.argmax()])


def class_prompted_model(classifier: PixelClassifier, tuned: ClassPrompted, threshold: float) -> SurgicalSAM:
    """The model without a click decoder, its weights rounded to what is stored."""
    encoder = classifier.encoder
    round_to_half(encoder, tuned)
    return SurgicalSAM(
        ENDOVIS2018,
        "demo",
        encoder_digest(encoder.state_dict()),
        image_encoder=encoder,
        prototypes=tuned.prototypes,
        class_prompt_encoder=tuned.class_prompt_encoder,
        mask_decoder=tuned.mask_decoder,
        prompt_encoder=tuned.prompt_encoder,
        presence_head=tuned.presence_head,
        presence_threshold=threshold,
        name="demo",
    )


def round_to_half(*modules: nn.Module) -> None:
    """Checkpoints hold float16: what is measured, and the encoder's digest, are those of the weights as they are loaded."""
    for module in modules:
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(tensor.half())


def with_clicks(out: Path, model: SurgicalSAM, held_out: Frames, settings: Settings) -> tuple[SurgicalSAM, dict]:
    """The model with its clicks trained again, and their validation; all other weights stay unchanged."""
    assert model.image_encoder is not None
    scenes = min(settings.click_scenes, settings.scenes)
    frames = rendered_frames(out, "training", TRAINING_SEED, scenes, settings.frames_per_scene)
    embeddings = embedded(out, "clicks_training", model.image_encoder, frames, mirrored=True, recolour=STRANGE_COLOURS)
    clicks = train_clicks(out, frames, embeddings, model, settings)
    round_to_half(clicks)
    held_out_embeddings = embedded(out, "validation", model.image_encoder, held_out)
    ious = validate_clicks(clicks, held_out, held_out_embeddings, settings.seed)
    model.prompt_encoder, model.sam_mask_decoder = clicks.prompt_encoder, clicks.mask_decoder
    return model, ious


def train_all(out: Path, settings: Settings) -> tuple[SurgicalSAM, dict]:
    """The class-prompted model from the beginning, and the record of it."""
    frames = rendered_frames(out, "training", TRAINING_SEED, settings.scenes, settings.frames_per_scene)
    held_out = held_out_frames(out, settings)
    classifier = train_encoder(out, frames, settings)
    embeddings = embedded(out, "training", classifier.encoder, frames, mirrored=True)
    tuned = train_decoder(out, frames, embeddings, classifier.prototypes.weight[1:, :, 0, 0].detach(), settings)
    result = validate(tuned, held_out, embedded(out, "validation", classifier.encoder, held_out))
    threshold = calibrate_presence(result["presence"], result["present"])
    kept = result["presence"] >= threshold
    ious = [result["iou"][:, row][result["present"][:, row]] for row in range(CLASS_COUNT)]
    record = {
        "script": SCRIPT,
        "settings": asdict(settings),
        "data": f"phantom scenes {TRAINING_SEED}-{TRAINING_SEED + settings.scenes - 1}, look first",
        "validation": {
            "scenes": validation_scenes(settings),
            "mean_iou_where_present": {
                name: round(100 * float(iou.mean()), 2) for name, iou in zip(ENDOVIS2018.names, ious, strict=True)
            },
            "absent_false_positive_rate": round(100 * float(kept[~result["present"]].mean()), 2),
            "present_missed_rate": round(100 * float((~kept)[result["present"]].mean()), 2),
        },
        "versions": versions(),
    }
    return class_prompted_model(classifier, tuned, threshold), record


def held_out_frames(out: Path, settings: Settings) -> Frames:
    return rendered_frames(out, "validation", VALIDATION_SEED, settings.validation_scenes, settings.frames_per_scene)


def validation_scenes(settings: Settings) -> str:
    return f"{VALIDATION_SEED}-{VALIDATION_SEED + settings.validation_scenes - 1}"


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="run folder; run again to resume")
    parser.add_argument("--clicks-from", type=Path, help="train only the clicks of this checkpoint, and keep all else")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    for name, value in asdict(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    arguments = vars(parser.parse_args())
    out, start, threads = (arguments.pop(name) for name in ("out", "clicks_from", "threads"))
    settings = Settings(**arguments)
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)

    if start is None:
        model, record = train_all(out, settings)
    else:
        model, record = load_checkpoint(start, device="cpu"), read_checkpoint_info(start).training_record
    model, ious = with_clicks(out, model, held_out_frames(out, settings), settings)
    record["clicks"] = {
        "script": SCRIPT,
        "started_from": "the class decoder" if start is None else f"the click decoder of {start.name}",
        "settings": asdict(settings),
        "data": f"phantom scenes {TRAINING_SEED}-{TRAINING_SEED + settings.click_scenes - 1}, look first",
        "validation": {"scenes": validation_scenes(settings), "mean_iou": ious},
        "versions": versions(),
    }
    save_checkpoint(out / "demo.safetensors", model, training_record=record, half=True)
    (out / "record.json").write_text(json.dumps(record | {"presence_threshold": model.presence_threshold}, indent=2) + "\n")
    print(json.dumps(record["validation"] | {"clicks": ious, "presence_threshold": model.presence_threshold}))


if __name__ == "__main__":
    main()
