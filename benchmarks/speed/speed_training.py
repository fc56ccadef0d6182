"""Time and memory of one training step at the paper's size: batch 32, dice loss at frame size, contrastive loss, Adam.

    python benchmarks/speed/speed_training.py [--repeats 3] [--json]

The plain implementation is `plain.training_losses` over all prompts at once, as in the authors' training. Ours is
`take_step`, which computes a few prompts at a time and adds their gradients. Both start from the same random weights and
embeddings. The losses of several steps and the weights after them are compared. Memory is measured in separate processes.
"""

from __future__ import annotations

import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import plain
import torch

sys.path.append(str(Path(__file__).parents[1]))
from common.measuring import PeakMemory, figures, paired, run
from random_model import QUICK_SIZE, SIZE, untrained_model
from training_steps import OurStep, fixed_prompts, step_config

from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_training.config import TrainingConfig
from surgicalsam_training.loop.tuning import unfreeze

STEPS_COMPARED = 3
BATCH_SIZE, QUICK_BATCH_SIZE = 32, 2


class PlainStep:
    """The same step with all prompts at once."""

    def __init__(self, model: SurgicalSAM, config: TrainingConfig, size: tuple[int, int]) -> None:
        self.optimizer = torch.optim.Adam(unfreeze(model, config), config.learning_rate, weight_decay=config.weight_decay)
        self.plain = plain.PlainSurgicalSAM(model)
        prompts = fixed_prompts(model, config, size).prompts
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


def step_of(implementation: str, batch_size: int, size: tuple[int, int], model: SurgicalSAM) -> OurStep | PlainStep:
    return (OurStep if implementation == "ours" else PlainStep)(model, step_config(batch_size), size)


def peak_megabytes(implementation: str, *, is_quick: bool) -> float:
    """Peak memory of two steps in a separate process, above the memory before the first step."""
    command = [sys.executable, __file__, "--memory-of", implementation, *(["--quick"] if is_quick else [])]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def measure(repeats: int, *, is_quick: bool) -> dict[str, object]:
    """`train_step`, `train_peak_memory`, and the differences of losses and weights after some steps."""
    model = untrained_model("light" if is_quick else "vit_h")
    batch_size, size = (QUICK_BATCH_SIZE, QUICK_SIZE) if is_quick else (BATCH_SIZE, SIZE)
    our_step, plain_step = (step_of(name, batch_size, size, deepcopy(model)) for name in ("ours", "plain"))
    losses = np.array([(our_step(), plain_step()) for _ in range(1 if is_quick else STEPS_COMPARED)])
    pairs = zip(our_step.sampler.model.parameters(), plain_step.plain.model.parameters(), strict=True)  # type: ignore[union-attr]
    weight_differences = [(a - b).abs().max().item() for a, b in pairs if a.requires_grad]
    times = paired(plain_step, our_step, repeats, warm_up=0)
    memory = {name: peak_megabytes(name, is_quick=is_quick) for name in ("plain", "ours")}
    return {
        **figures("train_step", times),
        "train_step_loss_difference": float(np.abs(losses[:, 0] - losses[:, 1]).max()),
        "train_step_weight_difference": max(weight_differences),
        "train_peak_memory": round(memory["plain"] / memory["ours"], 2),
        "train_peak_memory_plain_mb": round(memory["plain"]),
        "train_peak_memory_ours_mb": round(memory["ours"]),
    }


def print_peak(implementation: str, *, is_quick: bool) -> None:
    batch_size, size = (QUICK_BATCH_SIZE, QUICK_SIZE) if is_quick else (BATCH_SIZE, SIZE)
    step = step_of(implementation, batch_size, size, untrained_model("light" if is_quick else "vit_h"))
    with PeakMemory() as memory:
        step()
        step()
    print(memory.added)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory-of"]:
        torch.set_num_threads(2)
        torch.set_flush_denormal(True)
        print_peak(sys.argv[2], is_quick=bool(sys.argv[3:]))
    else:
        run(measure, __doc__, repeats=3)
