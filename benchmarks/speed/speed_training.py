"""One step of training at the paper's size: batch 32, dice at the size of the frame, contrastive loss, Adam.

    python benchmarks/speed/speed_training.py [--repeats 3] [--json]

The plain way is `plain.training_losses` over all prompts at once, as the authors train; ours is `take_step`, which computes
a few prompts at a time and adds up their gradients. Both begin with the same random weights and embeddings; the losses of
several steps and the weights after them are compared. Memory is measured in processes of their own.
"""

from __future__ import annotations

import subprocess
import sys
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import plain
import torch
from paired import PeakMemory, paired
from speed_decoding import CLASSES, SIZE, figures, run, smooth_embeddings, untrained_model

from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_training.config import TrainingConfig
from surgicalsam_training.loop.prompts import PromptLosses, class_embedding, mask_target
from surgicalsam_training.loop.sampling import Prompt, ReadyPrompt
from surgicalsam_training.loop.steps import take_step
from surgicalsam_training.loop.tuning import unfreeze

STEPS_COMPARED = 3


@dataclass(frozen=True)
class FixedPrompts:
    """Stands in for a `PromptSampler`: the same prompts in every step."""

    config: TrainingConfig
    model: SurgicalSAM
    prompts: tuple[ReadyPrompt, ...]

    def ready(self, prompt: Prompt, _version: int) -> ReadyPrompt:
        return self.prompts[prompt.frame]


def discs(count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Masks of the frame's size, each a disc somewhere."""
    rows, columns = np.ogrid[: SIZE[0], : SIZE[1]]
    return [
        (rows - rng.uniform(0, SIZE[0])) ** 2 + (columns - rng.uniform(0, SIZE[1])) ** 2 < rng.uniform(80, 300) ** 2
        for _ in range(count)
    ]


def fixed_prompts(model: SurgicalSAM, config: TrainingConfig) -> FixedPrompts:
    rng = np.random.default_rng(0)
    geometry = FrameGeometry(SIZE, model.input_size)
    embeddings = smooth_embeddings(model, config.batch_size)
    prompts = []
    for position, (embedding, mask) in enumerate(zip(embeddings, discs(config.batch_size, rng), strict=True)):
        inside = class_embedding(embedding.float(), mask, geometry)
        target = mask_target(mask, geometry, config, 4 * embedding.shape[-1])
        prompts.append(ReadyPrompt(embedding, position % len(CLASSES), target, geometry, inside, 1.0))
    return FixedPrompts(config, model, tuple(prompts))


class OurStep:
    """`take_step` on the fixed prompts."""

    def __init__(self, model: SurgicalSAM, config: TrainingConfig) -> None:
        self.optimizer = torch.optim.Adam(unfreeze(model, config), config.learning_rate, weight_decay=config.weight_decay)
        self.losses = PromptLosses(model, config).train()
        self.sampler = fixed_prompts(model, config)

    def __call__(self) -> list[float]:
        step = [Prompt(position, 1) for position in range(self.sampler.config.batch_size)]
        terms = take_step(self.losses, self.optimizer, self.sampler, step, 0)  # type: ignore[arg-type]
        return [terms["dice"], terms["contrastive"]]


class PlainStep:
    """The same step, all prompts of it together."""

    def __init__(self, model: SurgicalSAM, config: TrainingConfig) -> None:
        self.optimizer = torch.optim.Adam(unfreeze(model, config), config.learning_rate, weight_decay=config.weight_decay)
        self.plain = plain.PlainSurgicalSAM(model)
        prompts = fixed_prompts(model, config).prompts
        self.embeddings = plain.in_memory_order_of_files(torch.stack([prompt.embedding.float() for prompt in prompts]))
        self.rows = torch.tensor([prompt.row for prompt in prompts])
        self.masks = torch.stack([prompt.target.float() for prompt in prompts])
        self.class_embeddings = torch.stack([prompt.class_embedding for prompt in prompts])  # type: ignore[misc]

    def __call__(self) -> list[float]:
        losses = plain.training_losses(self.plain, self.embeddings, self.rows, self.masks, self.class_embeddings)
        self.optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        self.optimizer.step()
        return [loss.item() for loss in losses]


def step_of(way: str, batch_size: int, model: SurgicalSAM | None = None) -> OurStep | PlainStep:
    config = TrainingConfig(batch_size=batch_size, presence_weight=0)
    return (OurStep if way == "ours" else PlainStep)(model or untrained_model(), config)


def peak_megabytes(way: str, batch_size: int) -> float:
    """Of two steps in a process of their own, over what the process had before the first one."""
    command = [sys.executable, __file__, "--memory-of", way, str(batch_size)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def measure(repeats: int = 3, batch_size: int = 32) -> dict[str, object]:
    """`train_step` and `train_peak_memory`, with how far losses and weights are apart after some steps."""
    model = untrained_model()
    ours, plainly = step_of("ours", batch_size, deepcopy(model)), step_of("plain", batch_size, deepcopy(model))
    losses = np.array([(ours(), plainly()) for _ in range(STEPS_COMPARED)])
    pairs = zip(ours.sampler.model.parameters(), plainly.plain.model.parameters(), strict=True)  # type: ignore[union-attr]
    moved = [(a - b).abs().max().item() for a, b in pairs if a.requires_grad]
    times = paired(plainly, ours, repeats, warm_up=0)
    memory = {way: peak_megabytes(way, batch_size) for way in ("plain", "ours")}
    return {
        **figures("train_step", times),
        "train_step_loss_difference": float(np.abs(losses[:, 0] - losses[:, 1]).max()),
        "train_step_weight_difference": max(moved),
        "train_peak_memory": round(memory["plain"] / memory["ours"], 2),
        "train_peak_memory_plain_mb": round(memory["plain"]),
        "train_peak_memory_ours_mb": round(memory["ours"]),
    }


def print_peak(way: str, batch_size: int) -> None:
    step = step_of(way, batch_size)
    with PeakMemory() as memory:
        step()
        step()
    print(memory.added)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory-of"]:
        torch.set_num_threads(2)
        torch.set_flush_denormal(True)
        print_peak(sys.argv[2], int(sys.argv[3]))
    else:
        run(measure, __doc__, repeats=3)
