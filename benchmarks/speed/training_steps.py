"""A training step on fixed prompts, computed by `take_step`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from random_model import CLASSES, smooth_embeddings

from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_training.config import TrainingConfig
from surgicalsam_training.loop.prompts import PromptLosses, class_embedding, mask_target
from surgicalsam_training.loop.sampling import Prompt, ReadyPrompt
from surgicalsam_training.loop.steps import take_step
from surgicalsam_training.loop.tuning import unfreeze


def step_config(batch_size: int) -> TrainingConfig:
    return TrainingConfig(batch_size=batch_size, presence_weight=0)


@dataclass(frozen=True)
class FixedPrompts:
    """Replaces a `PromptSampler`: gives the same prompts in every step."""

    config: TrainingConfig
    model: SurgicalSAM
    prompts: tuple[ReadyPrompt, ...]

    def ready(self, prompt: Prompt, _version: int) -> ReadyPrompt:
        return self.prompts[prompt.example_index]


def discs(count: int, size: tuple[int, int], rng: np.random.Generator) -> list[np.ndarray]:
    """`count` masks (H, W) bool, each a disc at a random place."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    return [
        (rows - rng.uniform(0, size[0])) ** 2 + (columns - rng.uniform(0, size[1])) ** 2 < rng.uniform(80, 300) ** 2
        for _ in range(count)
    ]


def fixed_prompts(model: SurgicalSAM, config: TrainingConfig, size: tuple[int, int]) -> FixedPrompts:
    rng = np.random.default_rng(0)
    geometry = FrameGeometry(size, model.input_size)
    embeddings = smooth_embeddings(model, config.batch_size)[:, : model.decoder_dim]
    prompts = []
    for position, (embedding, mask) in enumerate(zip(embeddings, discs(config.batch_size, size, rng), strict=True)):
        embedding_of_class = class_embedding(embedding.float(), mask, geometry)
        target = mask_target(mask, geometry, config, 4 * embedding.shape[-1])
        prompts.append(ReadyPrompt(embedding, position % len(CLASSES), target, geometry, True, embedding_of_class, 1.0))
    return FixedPrompts(config, model, tuple(prompts))


class OurStep:
    """A call takes one `take_step` on the fixed prompts, and returns its dice and contrastive loss."""

    def __init__(self, model: SurgicalSAM, config: TrainingConfig, size: tuple[int, int]) -> None:
        self.optimizer = torch.optim.Adam(unfreeze(model, config), config.learning_rate, weight_decay=config.weight_decay)
        self.losses = PromptLosses(model, config).train()
        self.sampler = fixed_prompts(model, config, size)

    def __call__(self) -> list[float]:
        step = [Prompt(position, 1) for position in range(self.sampler.config.batch_size)]
        terms = take_step(self.losses, self.optimizer, self.sampler, step, 0)  # type: ignore[arg-type]
        return [terms["dice"], terms["contrastive"]]
