"""One optimiser step; its result does not depend on the micro batch size or the number of processes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from surgicalsam_napari.errors import DeviceError
from surgicalsam_training.config import TrainingConfig
from surgicalsam_training.loop.processes import ALONE, Processes
from surgicalsam_training.loop.prompts import ClassPairs, StepCounts
from surgicalsam_training.loop.sampling import Prompt, PromptSampler, class_pairs, collate

WARM_UP_SHARE = 0.05  # of the epochs, for a cosine schedule


def take_step(
    losses: nn.Module,
    optimizer: torch.optim.Optimizer,
    sampler: PromptSampler,
    step: Sequence[Prompt],
    version: int,
    processes: Processes = ALONE,
) -> dict[str, float]:
    """Take a step on the prompts of all processes; returns the loss terms before the step, by name."""
    config, device = sampler.config, sampler.model.device
    filled = [
        *step,
        *(Prompt(step[0].example_index, step[0].class_id, weight=0.0) for _ in range(-len(step) % processes.count)),
    ]
    ready = [sampler.ready(prompt, version) for prompt in processes.share(filled)]
    present_weight = sum(prompt.weight for prompt in ready if prompt.is_present)
    present, prompts = processes.sum(
        torch.tensor([present_weight, sum(prompt.weight for prompt in ready)], device=device)
    ).tolist()
    counts = StepCounts(max(present, 1.0), prompts)
    own = class_pairs(ready, device)
    pairs = ClassPairs(processes.collected(own.embeddings), processes.collected(own.rows))
    optimizer.zero_grad(set_to_none=True)
    sums: dict[str, Tensor] = {}
    batches = [ready[start : start + config.micro_batch_size] for start in range(0, len(ready), config.micro_batch_size)]
    for batch_index, batch in enumerate(batches):
        is_last = batch_index == len(batches) - 1
        waits = losses.no_sync() if processes.count > 1 and not is_last else nullcontext()  # type: ignore[operator]
        with waits, _reported_out_of_memory(config):
            with torch.autocast(device.type, torch.bfloat16, enabled=config.mixed_precision and device.type == "cuda"):
                terms = losses(collate(batch, device), counts, pairs if is_last else None)
            # gradients are averaged over processes: scale up shares of a sum, but not the loss that all processes compute
            scale = {name: 1 if name == "contrastive" else processes.count for name in terms}
            torch.stack([scale[name] * term for name, term in terms.items()]).sum().backward()
        for name, term in terms.items():
            sums[name] = sums.get(name, torch.zeros((), device=device)) + term.detach()
    optimizer.step()
    shared = {name: value if name == "contrastive" else processes.sum(value) for name, value in sorted(sums.items())}
    return {name: float(value) for name, value in shared.items()}


def set_learning_rate(optimizer: torch.optim.Optimizer, config: TrainingConfig, epoch: float) -> None:
    """Set the learning rate for this point of the run, in epochs from 0; a cosine begins with a short warm-up."""
    rate = config.learning_rate
    if config.schedule == "cosine":
        warm = min(1.0, (epoch + 0.1) / max(WARM_UP_SHARE * config.epochs, 0.1))
        rate *= warm * (0.5 + 0.5 * math.cos(math.pi * epoch / config.epochs))
    for group in optimizer.param_groups:
        group["lr"] = rate


@contextmanager
def _reported_out_of_memory(config: TrainingConfig) -> Iterator[None]:
    """Report that CUDA is out of memory as a DeviceError with a remedy."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise DeviceError(
            f"{config.micro_batch_size} prompts at a time are too many for the GPU's memory. Choose fewer "
            "(--micro-batch-size; the result is the same), or losses at the size of the logits (--loss-resolution logits)."
        ) from error
