"""Train the bundled light weights from scratch on the phantom: `python training/light_weights/train.py --out runs/light`.

Phantom frames are rendered once; the neck of the light encoder learns every pixel's class under strong domain randomisation
(`randomise.py`), and to keep what the frozen ImageNet features say; then, with the encoder frozen as SAM's is, prototypes,
class prompt encoder, mask decoder and presence head learn with the losses of the paper; at last a second decoder learns
points, boxes and masks. The presence threshold is calibrated on scenes of their own. Made for a GPU: with the settings below
and one NVIDIA H200 it takes about eight minutes.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parent))

from clicks import practice
from networks import CLASS_COUNT, DIM, SIDE, ClassPrompted, ClickPrompted, PixelClassifier
from randomise import randomised

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.checkpoint import save_checkpoint
from surgicalsam_napari.model.geometry import PIXEL_MEAN, PIXEL_STD, FrameGeometry
from surgicalsam_napari.model.image_encoder import encoder_digest
from surgicalsam_napari.model.surgical_sam import SurgicalSAM

TRAINING_SEED, VALIDATION_SEED = 100_000, 200_000  # first scenes; benchmarks/quality start at 300,000
SHAPES = ((410, 512), (410, 512), (410, 512), (288, 512), (384, 512), (512, 512))  # rendered sizes, taken in turn


@dataclass(frozen=True)
class Settings:
    """What is run; stored in the checkpoint. A phase ends after its seconds, and its steps are recorded."""

    scenes: int = 900
    validation_scenes: int = 48
    frames_per_scene: int = 8
    batch_size: int = 32
    prompts_per_frame: int = 3
    encoder_seconds: float = 170.0
    decoder_seconds: float = 130.0
    click_seconds: float = 90.0
    encoder_learning_rate: float = 2e-3
    decoder_learning_rate: float = 1e-3
    click_learning_rate: float = 1e-3
    weight_decay: float = 0.02
    seed: int = 666


def scene_size(seed: int) -> tuple[int, int]:
    return SHAPES[seed % len(SHAPES)]


def render_scene(seed: int, frames_per_scene: int, fills: bool) -> tuple[np.ndarray, np.ndarray]:
    """Frames of one scene, (F, SIDE, SIDE, 3) and (F, SIDE, SIDE) uint8; stretched to fill the square, or padded."""
    from surgicalsam_napari.phantom.scene import PhantomScene

    size = scene_size(seed)
    step = 96 // frames_per_scene
    scene = PhantomScene(seed, size, frame_count=96)
    height, width = (SIDE, SIDE) if fills else FrameGeometry(size, SIDE).resized_size
    images = np.zeros((frames_per_scene, SIDE, SIDE, 3), np.uint8)
    labels = np.zeros((frames_per_scene, SIDE, SIDE), np.uint8)
    for position in range(frames_per_scene):
        frame = scene.frame(position * step)
        images[position, :height, :width] = Image.fromarray(frame.image).resize((width, height), Image.Resampling.BILINEAR)
        labels[position, :height, :width] = Image.fromarray(frame.labels).resize((width, height), Image.Resampling.NEAREST)
    return images, labels


def rendered(
    first_seed: int, scenes: int, frames_per_scene: int, fills: bool, device: torch.device
) -> tuple[Tensor, Tensor]:
    images = torch.empty((scenes * frames_per_scene, SIDE, SIDE, 3), dtype=torch.uint8, device=device)
    labels = torch.empty(images.shape[:3], dtype=torch.uint8, device=device)
    seeds = range(first_seed, first_seed + scenes)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        work = partial(render_scene, frames_per_scene=frames_per_scene, fills=fills)
        for number, (scene_images, scene_labels) in enumerate(pool.map(work, seeds, chunksize=2)):
            part = slice(number * frames_per_scene, (number + 1) * frames_per_scene)
            images[part], labels[part] = torch.from_numpy(scene_images), torch.from_numpy(scene_labels)
    return images, labels


def normalised(pixels: Tensor, in_frame: Tensor) -> Tensor:
    """(B, 3, SIDE, SIDE) of 0 to 255, as SAM's; zero outside the frame."""
    mean, std = (torch.tensor(values, device=pixels.device)[:, None, None] for values in (PIXEL_MEAN, PIXEL_STD))
    return ((pixels - mean) / std * in_frame).contiguous(memory_format=torch.channels_last)


class Batches:
    """Random batches, each image randomised its own way."""

    def __init__(self, images: Tensor, labels: Tensor, batch_size: int) -> None:
        self.images, self.labels, self.batch_size = images, labels, batch_size

    def next(self) -> tuple[Tensor, Tensor]:
        """(B, 3, SIDE, SIDE) normalised, (B, SIDE, SIDE) int64"""
        chosen = torch.randint(0, len(self.images), (self.batch_size,), device=self.images.device)
        pixels, labels, in_frame = randomised(self.images[chosen], self.labels[chosen])
        return normalised(pixels.round(), in_frame), labels


def train(
    name: str, out: Path, module: nn.Module, seconds: float, learning_rate: float, settings: Settings,
    losses: Callable[[], dict[str, Tensor]],
) -> tuple[nn.Module, int]:  # fmt: skip
    """AdamW with warm-up and cosine decay over `seconds`; the exponential moving average, and how many steps were made."""
    weights = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.98))
    average = copy.deepcopy(module)
    started = time.monotonic()
    step = 0
    while (share := (time.monotonic() - started) / seconds) < 1:
        warm = min(1.0, (step + 1) / 100)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * warm * (0.5 + 0.5 * math.cos(math.pi * share)) + 1e-6
        terms = losses()
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        update_average(average, module, min(0.998, (1 + step) / (10 + step)))
        if step % 50 == 0:
            shown = " ".join(f"{key}={value.item():.3f}" for key, value in terms.items())
            print(f"{name} {step} {time.monotonic() - started:.0f}s {shown}", flush=True)
        step += 1
    torch.save(average.state_dict(), out / f"{name}.pt")
    return average.eval(), step


def resumed(earlier: Path | None, name: str, module: nn.Module) -> tuple[nn.Module, int] | None:
    """The average of an earlier run's phase and its steps; None where there was no earlier run."""
    if earlier is None:
        return None
    module.load_state_dict(torch.load(earlier / f"{name}.pt", map_location="cpu", weights_only=True))
    return module.eval(), json.loads((earlier / "record.json").read_text())["steps"][name]


@torch.no_grad()
def update_average(average: nn.Module, module: nn.Module, decay: float) -> None:
    for kept, new in zip(average.state_dict().values(), module.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


def choose_rows(labels: Tensor, per_frame: int) -> Tensor:
    """(B, K) classes to prompt with: those present, and at least one that is not."""
    present = F.one_hot(labels.flatten(1), CLASS_COUNT + 1).any(1)[:, 1:]
    key = torch.rand(present.shape, device=labels.device)
    by_presence = torch.where(present, key, key + 1).argsort(1)[:, : per_frame - 1]
    taken = torch.zeros_like(present).scatter_(1, by_presence, True)
    absent = torch.where(present | taken, key + 1, key).argmin(1, keepdim=True)
    return torch.cat([by_presence, absent], 1)


def round_to_half(*modules: nn.Module) -> None:
    """Checkpoints hold float16: what is measured, and the encoder's digest, are those of the weights as they are loaded."""
    for module in modules:
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(tensor.half())


@torch.no_grad()
def validate(encoder: nn.Module, model: ClassPrompted, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Of plain validation frames (N, SIDE, SIDE, 3): presence, IoU and truth of presence, each (N, C)."""
    columns: dict[str, list[Tensor]] = {"presence": [], "iou": [], "present": []}
    sizes = [FrameGeometry(scene_size(VALIDATION_SEED + n), SIDE).resized_size for n in range(len(SHAPES))]
    per_scene = len(images) // Settings.validation_scenes if len(images) >= Settings.validation_scenes else 1
    for index in range(len(images)):
        height, width = sizes[(index // per_scene) % len(SHAPES)]
        in_frame = torch.zeros(1, 1, SIDE, SIDE, device=images.device)
        in_frame[..., :height, :width] = 1
        embeddings = encoder(normalised(images[index : index + 1].permute(0, 3, 1, 2).float(), in_frame))[:, :DIM].float()
        rows = torch.arange(CLASS_COUNT, device=images.device)[None]
        decoded, presence = model(embeddings, rows)
        masks = labels[index, ::2, ::2][None] == rows[0][:, None, None] + 1
        answer = decoded.low_res_logits > 0
        iou = (answer & masks).sum((1, 2)) / (answer | masks).sum((1, 2)).clamp(min=1)
        for name, value in (("presence", presence.sigmoid()), ("iou", iou), ("present", masks.flatten(1).any(1))):
            columns[name].append(value)
    return {name: torch.stack(values) for name, values in columns.items()}


def calibrated(presence: Tensor, present: Tensor) -> float:
    """The threshold with the best F1."""
    thresholds = torch.linspace(0.02, 0.98, 97, device=presence.device)
    scores = []
    for threshold in thresholds:
        kept = presence >= threshold
        scores.append(2 * (kept & present).sum() / (kept.sum() + present.sum()).clamp(min=1))
    best = torch.stack(scores)
    return round(float(thresholds[best >= best.max() - 1e-6].mean()), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--resume", type=Path, help="folder of an earlier run: its encoder and decoder are kept, clicks are trained"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for name, value in asdict(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    arguments = vars(parser.parse_args())
    out, device, earlier = arguments.pop("out"), torch.device(arguments.pop("device")), arguments.pop("resume")
    settings = Settings(**arguments)
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    half = partial(torch.autocast, device.type, torch.bfloat16)
    images, labels = rendered(TRAINING_SEED, settings.scenes, settings.frames_per_scene, True, device)
    held_out = rendered(VALIDATION_SEED, settings.validation_scenes, 4, False, device)
    print(f"rendered {len(images)} frames in {time.monotonic() - began:.0f} s", flush=True)
    batches = Batches(images, labels, settings.batch_size)
    torch.manual_seed(settings.seed)

    classifier = PixelClassifier().to(device, memory_format=torch.channels_last).train()

    def encoder_losses() -> dict[str, Tensor]:
        inputs, truth = batches.next()
        with half():
            return classifier.losses(inputs, truth)

    trained, encoder_steps = resumed(earlier, "encoder", classifier) or train(
        "encoder", out, classifier, settings.encoder_seconds, settings.encoder_learning_rate, settings, encoder_losses
    )
    encoder = trained.encoder
    round_to_half(encoder)

    torch.manual_seed(settings.seed + 1)
    prompted = ClassPrompted().to(device)
    prompted.prototypes.class_embeddings.weight.data.copy_(trained.prototypes.weight[1:, :, 0, 0].detach())
    prompted.train()

    def embeddings_of(inputs: Tensor) -> Tensor:
        with torch.no_grad(), half():
            return encoder(inputs)[:, :DIM].float().contiguous(memory_format=torch.channels_last)

    def decoder_losses() -> dict[str, Tensor]:
        inputs, truth = batches.next()
        rows = choose_rows(truth, settings.prompts_per_frame)
        embeddings = embeddings_of(inputs)
        with half():
            return prompted.losses(embeddings, truth, rows)

    tuned, decoder_steps = resumed(earlier, "decoder", prompted) or train(
        "decoder", out, prompted, settings.decoder_seconds, settings.decoder_learning_rate, settings, decoder_losses
    )
    tuned.prompt_encoder = prompted.prompt_encoder
    round_to_half(tuned)

    torch.manual_seed(settings.seed + 2)
    clicker = ClickPrompted(tuned.prompt_encoder, tuned.mask_decoder).to(device).train()

    def click_losses() -> dict[str, Tensor]:
        shown = torch.zeros(1, dtype=torch.bool)
        while not shown.any():
            inputs, truth = batches.next()
            present = F.one_hot(truth[:, ::2, ::2].flatten(1), CLASS_COUNT + 1).any(1)[:, 1:]
            shown = present.any(1)
        rows = torch.where(present, torch.rand(present.shape, device=device), -1).argmax(1)[shown]
        embeddings, small = embeddings_of(inputs)[shown], truth[shown, ::2, ::2]
        wanted = small == rows[:, None, None] + 1
        usable = wanted.flatten(1).any(1)
        embeddings, small, wanted, rows = embeddings[usable], small[usable], wanted[usable], rows[usable]
        with half():
            with torch.no_grad():
                answers = tuned(embeddings, rows[:, None])[0].low_res_logits > 0
            return practice(clicker, embeddings, wanted, (small > 0) & ~wanted, answers)

    clicks, click_steps = train(
        "clicks", out, clicker, settings.click_seconds, settings.click_learning_rate, settings, click_losses
    )
    round_to_half(clicks)

    result = validate(encoder, tuned, *held_out)
    threshold = calibrated(result["presence"], result["present"])
    kept, present = result["presence"] >= threshold, result["present"]
    record = {
        "script": "training/light_weights/train.py",
        "settings": asdict(settings),
        "steps": {"encoder": encoder_steps, "decoder": decoder_steps, "clicks": click_steps},
        "data": f"phantom scenes {TRAINING_SEED}-{TRAINING_SEED + settings.scenes - 1}, look first, domain randomisation",
        "validation": {
            "scenes": f"{VALIDATION_SEED}-{VALIDATION_SEED + settings.validation_scenes - 1}",
            "mean_iou_where_present": {
                name: round(100 * float(result["iou"][:, row][present[:, row]].mean()), 2)
                for row, name in enumerate(ENDOVIS2018.names)
            },
            "absent_false_positive_rate": round(100 * float(kept[~present].float().mean()), 2),
            "present_missed_rate": round(100 * float((~kept)[present].float().mean()), 2),
        },
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.processor(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }
    model = SurgicalSAM(
        ENDOVIS2018, "light", encoder_digest(encoder.state_dict()),
        image_encoder=encoder, prototypes=tuned.prototypes, class_prompt_encoder=tuned.class_prompt_encoder,
        prompt_encoder=clicks.prompt_encoder, mask_decoder=tuned.mask_decoder, sam_mask_decoder=clicks.mask_decoder,
        presence_head=tuned.presence_head, presence_threshold=threshold, name="light",
    )  # fmt: skip
    save_checkpoint(out / "light.safetensors", model, training_record=record, half=True)
    (out / "record.json").write_text(json.dumps(record | {"presence_threshold": threshold}, indent=2) + "\n")
    print(json.dumps(record | {"presence_threshold": threshold, "seconds": round(time.monotonic() - began)}))


if __name__ == "__main__":
    main()
