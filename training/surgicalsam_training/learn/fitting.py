"""Fit a pixel head to corrected frames: cross-entropy and dice, a few hundred steps of AdamW."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from surgicalsam_napari.model.pixel_head import PixelHead
from surgicalsam_training.learn.targets import HeadTarget

FRAMES_PER_STEP = 4
LEARNING_RATE = 3e-3  # the highest, of one cycle
WEIGHT_DECAY = 1e-2
FEWEST_STEPS, STEPS_PER_FRAME, MOST_STEPS = 200, 10, 600


def step_count(frame_count: int) -> int:
    """The steps that so many frames are worth."""
    return min(FEWEST_STEPS + STEPS_PER_FRAME * frame_count, MOST_STEPS)


def fit(
    head: PixelHead,
    embeddings: Callable[[Sequence[int]], Tensor],
    targets: Sequence[HeadTarget],
    *,
    visible: tuple[int, int],
    steps: int,
    seed: int,
) -> Iterator[int]:
    """Fit the head; yields after each step how many are done.

    Parameters
    ----------
    head : its mean and scale are set (`PixelHead.standardise`)
    embeddings : (B, D, h, w) float of some frames, by their position in `targets`
    visible : rows and columns of the grid h x w that the frames cover
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    weights = frame_weights(targets)
    optimizer = torch.optim.AdamW(head.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    head.train()
    for done in range(1, steps + 1):
        chosen = rng.choice(len(targets), FRAMES_PER_STEP, p=weights).tolist()
        batch = head.cropped(embeddings(chosen), visible)
        share = torch.stack([targets[position].share for position in chosen]).float()
        share = share[..., : 2 * batch.shape[-2], : 2 * batch.shape[-1]]
        is_open = torch.stack([targets[position].is_open for position in chosen])
        if rng.random() < 0.5:
            batch, share = batch.flip(-1), share.flip(-1)
        share, is_open = share.to(batch.device), is_open.to(batch.device)
        loss = torch.stack([head_loss(logits, share, is_open) for logits in head.branch_logits(batch)]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        yield done
    head.eval()


def head_loss(logits: Tensor, share: Tensor, is_open: Tensor) -> Tensor:
    """Cross-entropy, and the mean dice loss of the classes that are annotated.

    Where no annotated class is, any of the open ones may be: their probabilities are added before the logarithm.

    Parameters
    ----------
    logits, share : (B, 1 + C, h, w)
    is_open : (B, 1 + C) bool
    """
    log_probability = logits.log_softmax(dim=1)
    of_open = log_probability.masked_fill(~is_open[..., None, None], -torch.inf).logsumexp(dim=1)
    of_classes = (share[:, 1:] * log_probability[:, 1:]).sum(dim=1)
    cross_entropy = -(share[:, 0] * of_open + of_classes).sum() / share.sum()
    in_frame = share.sum(dim=1, keepdim=True) * ~is_open[:, 1:, None, None]
    probability, truth = log_probability[:, 1:].exp() * in_frame, share[:, 1:]
    both = (probability * truth).sum((0, 2, 3))
    dice = 1 - (2 * both + 1) / ((probability**2).sum((0, 2, 3)) + (truth**2).sum((0, 2, 3)) + 1)
    return cross_entropy + dice.mean()


def frame_weights(targets: Sequence[HeadTarget]) -> np.ndarray:
    """(N,) probabilities: half for all frames alike, half shared by the classes, so that rare classes are seen often."""
    shown = np.stack([target.share[1:].amax((1, 2)).numpy() > 0 for target in targets]).astype(float)
    counts = shown.sum(axis=0)
    by_class = (shown / np.maximum(counts, 1)).sum(axis=1) / max(int((counts > 0).sum()), 1)
    even = np.full(len(targets), 1 / len(targets))
    return (even + by_class) / (even + by_class).sum()
