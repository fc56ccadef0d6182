"""Practice for the click decoder, in batches on the training device: starts, faults, and clicks in the worst region."""

from __future__ import annotations

import math

import torch
from networks import LOW_RES, SIDE, ClickPrompted, Prompts
from torch import Tensor
from torch.nn import functional as F

from surgicalsam_napari.model.mask_decoder import DecodedMasks
from surgicalsam_napari.model.prompts import MASK_PROMPT_LOGIT
from surgicalsam_training.loop.losses import dice_losses

MOST_CLICKS = 5


def certain(masks: Tensor) -> Tensor:
    return torch.where(masks, MASK_PROMPT_LOGIT, -MASK_PROMPT_LOGIT)


def grown(masks: Tensor, steps: int) -> Tensor:
    for _ in range(steps):
        masks = F.max_pool2d(masks[:, None].float(), 3, 1, 1)[:, 0] > 0
    return masks


def depth_of(masks: Tensor, most: int = 40) -> Tensor:
    """(P, H, W): how many erosions each pixel of each mask survives; outside the picture is outside the mask."""
    outside = 1 - masks[:, None].float()
    depth = torch.zeros_like(outside)
    for _ in range(most):
        depth += 1 - outside
        outside = F.max_pool2d(F.pad(outside, (1, 1, 1, 1), value=1.0), 3, 1)
    return depth[:, 0]


def chosen_pixel(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column (P,) of the largest weight of each (P, H, W)."""
    flat = weights.flatten(1).argmax(1)
    return flat // weights.shape[-1], flat % weights.shape[-1]


def click(prompts: Prompts, answers: Tensor, truth: Tensor, number: int, who: Tensor) -> None:
    """Write click `number` of the prompts `who` (P,) bool: in the middle of what is most wrong, or somewhere in there."""
    wrong = answers != truth
    depth = depth_of(wrong)
    deepest = depth.amax((1, 2), keepdim=True)
    anywhere = (torch.rand(len(truth), 1, 1, device=truth.device) < 0.4).float()
    near_middle = (depth > 0.4 * deepest).float() * torch.rand_like(depth)
    row, column = chosen_pixel(torch.where(anywhere > 0, near_middle, depth + 0.01 * torch.rand_like(depth)))
    is_wrong = wrong.flatten(1).any(1) & who
    jitter = torch.rand(2, len(truth), device=truth.device)
    place = torch.stack([column + jitter[0], row + jitter[1]], -1) * (SIDE / LOW_RES)
    index = torch.arange(len(truth), device=truth.device)
    prompts.points[:, number] = torch.where(is_wrong[:, None], place, prompts.points[:, number])
    prompts.marks[:, number] = torch.where(is_wrong, truth[index, row, column].long(), prompts.marks[:, number])


def half_planes(masks: Tensor) -> Tensor:
    """(P, H, W) bool: one side of a line through a random pixel of each mask."""
    row, column = chosen_pixel(masks.float() * torch.rand_like(masks, dtype=torch.float32))
    angle = torch.rand(len(masks), 1, 1, device=masks.device) * 2 * math.pi
    place = torch.arange(masks.shape[-1], device=masks.device)
    rows, columns = place[None, :, None] - row[:, None, None], place[None, None] - column[:, None, None]
    return rows * torch.sin(angle) + columns * torch.cos(angle) > 0


def damaged(truth: Tensor, others: Tensor) -> Tensor:
    """Masks (P, H, W) with some of the faults of bad masks; `others` are the other instruments."""
    count, device = len(truth), truth.device

    def some(chance: float) -> Tensor:
        return torch.rand(count, 1, 1, device=device) < chance

    down, right = (int(value) for value in torch.randint(-8, 9, (2,)))
    mask = torch.where(some(0.35), truth.roll((down, right), (1, 2)), truth)
    steps = int(torch.randint(1, 6, (1,)))
    mask = torch.where(some(0.25), grown(mask, steps), mask)
    mask = torch.where(some(0.25), ~grown(~mask, steps), mask)
    mask = torch.where(some(0.35) & mask.flatten(1).any(1)[:, None, None], mask & half_planes(mask), mask)
    mask = torch.where(some(0.35), mask | (others & half_planes(others)), mask)
    place = torch.arange(truth.shape[-1], device=device)
    row, column = torch.rand(2, count, 1, 1, device=device) * LOW_RES
    tall, wide = torch.rand(2, count, 1, 1, device=device) * 26 + 3
    spot = ((place[None, :, None] - row) / tall) ** 2 + ((place[None, None] - column) / wide) ** 2 <= 1
    mask = torch.where(some(0.3), mask | spot, mask)
    return torch.where(some(0.3), mask & ~spot, mask)


def boxes_of(truth: Tensor) -> Tensor:
    """(P, 4) jittered boxes around the masks in the encoder's square."""
    rows, columns = truth.any(2), truth.any(1)
    side = truth.shape[-1]
    first = lambda line: line.float().argmax(1)  # noqa: E731
    last = lambda line: side - line.flip(1).float().argmax(1)  # noqa: E731
    corners = torch.stack([first(columns), first(rows), last(columns), last(rows)], 1).float() * (SIDE / side)
    size = torch.stack([corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]] * 2, 1).clamp(min=4)
    return (corners + torch.randn_like(corners) * 0.04 * size).clamp(0, SIDE)


def practice(model: ClickPrompted, embeddings: Tensor, truth: Tensor, others: Tensor, answers: Tensor) -> dict[str, Tensor]:
    """The losses of one batch of P prompts.

    Parameters
    ----------
    embeddings : (P, D, GRID, GRID)
    truth, others : (P, LOW_RES, LOW_RES) bool, the instrument and the other instruments
    answers : (P, LOW_RES, LOW_RES) bool, what the model says for the class
    """
    count, device = len(truth), truth.device
    start = torch.rand(count, device=device)
    from_answer, from_damage = (start >= 0.35) & (start < 0.65), start >= 0.65
    masks = torch.where(from_answer[:, None, None], answers, damaged(truth, others))
    has_mask = from_answer | from_damage
    has_box = torch.rand(count, device=device) < torch.where(has_mask, 0.08, 0.35)
    prompts = Prompts(
        certain(masks),
        has_mask,
        boxes_of(truth),
        has_box,
        torch.zeros(count, MOST_CLICKS, 2, device=device),
        torch.full((count, MOST_CLICKS), -1, device=device),
    )
    shown = masks & has_mask[:, None, None]
    wrong_at_start = (shown != truth) & has_mask[:, None, None]
    rounds = int(torch.multinomial(torch.tensor([0.4, 0.25, 0.18, 0.1, 0.07]), 1)) + 1
    click(prompts, shown, truth, 0, ~has_box)
    with torch.no_grad():
        for number in range(1, rounds):
            shown = model(embeddings, prompts).low_res_logits > 0
            prompts.masks, prompts.has_mask = certain(shown), torch.ones_like(has_mask)
            click(prompts, shown, truth, number, torch.ones_like(has_mask))
    return click_losses(model(embeddings, prompts), truth, wrong_at_start)


def click_losses(decoded: DecodedMasks, truth: Tensor, started_wrong: Tensor) -> dict[str, Tensor]:
    """Dice, cross-entropy in which pixels that the start had wrong count five times, and the predicted IoU's error."""
    logits = decoded.low_res_logits.float()
    answer = logits > 0
    iou = (answer & truth).sum((1, 2)) / (answer | truth).sum((1, 2)).clamp(min=1)
    return {
        "dice": dice_losses(logits, truth).mean(),
        "pixels": 2 * F.binary_cross_entropy_with_logits(logits, truth.float(), 1 + 4 * started_wrong.float()),
        "predicted_iou": F.mse_loss(decoded.predicted_iou, iou),
    }
