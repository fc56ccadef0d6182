"""The losses of SurgicalSAM (Yue et al., AAAI 2024, sections 3.3 and 3.4), after the authors' code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.upsampling import frame_axis

DICE_EPSILON = 1e-3
TEMPERATURE = 0.07


def dice_losses(logits: Tensor, masks: Tensor) -> Tensor:
    """1 - 2 sum(p g) / (sum(p^2) + sum(g^2)) of every prompt (equation 13); the loss is their mean.

    Equation 13 prints the overlap itself, without "1 -", and calls p the logit. The authors' code takes 1 - overlap of the
    sigmoid, and adds `DICE_EPSILON` (1e-3) to both sums in the denominator, as here. So an empty mask costs 1 whatever is
    predicted.

    Parameters
    ----------
    logits : (P, H, W); p is their sigmoid
    masks : (P, H, W), g, 0 to 1

    Returns
    -------
    (P,)
    """
    probability, masks = logits.sigmoid().flatten(1), masks.flatten(1).to(logits.dtype)
    overlap = (probability * masks).sum(1)
    total = probability.square().sum(1) + masks.square().sum(1)
    return 1 - 2 * overlap / (total + 2 * DICE_EPSILON)


def frame_dice_losses(low_res_logits: Tensor, masks: Sequence[Tensor], geometry: FrameGeometry) -> Tensor:
    """`dice_losses` at the size of the frame, in one pass that never stores logits of that size: (P,).

    Equal to `dice_losses(geometry.to_frame(low_res_logits), masks)`, including the gradient (tests/test_training_losses.py).

    Parameters
    ----------
    low_res_logits : (P, 4h, 4w), of the full padded square
    masks : P of (H, W), 0 or 1
    geometry : of the frames
    """
    return _FrameDice.apply(low_res_logits, masks, geometry)


class _FrameDice(torch.autograd.Function):
    """Computes the gradient with respect to the low-resolution logits in the forward pass."""

    @staticmethod
    def forward(ctx: Any, low_res_logits: Tensor, masks: Sequence[Tensor], geometry: FrameGeometry) -> Tensor:
        passes = [_dice_and_gradient(logits, mask, geometry) for logits, mask in zip(low_res_logits, masks, strict=True)]
        losses, gradients = zip(*passes, strict=True)
        ctx.save_for_backward(torch.stack(gradients))
        return torch.stack(losses)

    @staticmethod
    def backward(ctx: Any, loss_gradients: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (gradients,) = ctx.saved_tensors
        return loss_gradients[:, None, None] * gradients, None, None


def _dice_and_gradient(logits: Tensor, mask: Tensor, geometry: FrameGeometry) -> tuple[Tensor, Tensor]:
    """The loss of one mask, and its gradient (4h, 4w).

    With p the sigmoid, g the mask, N = 2 sum p g and T = sum p^2 + sum g^2 + 2e, the gradient with respect to a pixel's
    logit is p (1 - p) (2 p N / T^2 - 2 g / T). N and T are known only at the end. Therefore p p (1 - p) and g p (1 - p) are
    reduced to low resolution separately, block by block, and weighted at the end.
    """
    height, width = logits.shape
    rows = frame_axis(geometry, 0, height, logits.device)
    columns = frame_axis(geometry, 1, width, logits.device)
    stretched = logits.new_empty(height, geometry.original_size[1])
    for output, source, weights in columns.blocks:
        torch.mm(logits[:, source], weights.T, out=stretched[:, output])
    of_p, of_g = logits.new_zeros(2, *stretched.shape)
    overlap, squares = logits.new_zeros(2)
    for output, source, weights in rows.blocks:
        p = (weights @ stretched[source]).sigmoid_()
        g = mask[output].to(p.dtype)
        slope = torch.addcmul(p, p, p, value=-1)
        of_p[source].addmm_(weights.T, p * slope)
        of_g[source].addmm_(weights.T, g * slope)
        overlap += (p * g).sum()  # sums in blocks; torch.dot loses four more bits on several threads
        squares += p.sum() - slope.sum()
    n, t = 2 * overlap, squares + mask.sum() + 2 * DICE_EPSILON
    weighted = of_p.mul_(2 * n / t**2).sub_(of_g.mul_(2 / t))
    gradient = torch.zeros_like(logits)
    for output, source, weights in columns.blocks:
        gradient[:, source] += weighted[:, output] @ weights
    return 1 - n / t, gradient


def prototype_contrastive_loss(
    prototypes: Tensor, class_embeddings: Tensor, rows: Tensor, temperature: float = TEMPERATURE
) -> Tensor:
    """NT-Xent with the prototypes as anchors (equation 11), on cosine similarity as in the authors' code.

    Equation 11 prints a dot product, and one class embedding per class. Here every (prototype, class embedding of its class)
    in the batch is a positive pair, and the embeddings of all other classes are its negatives. A batch without pairs
    gives 0.

    Parameters
    ----------
    prototypes : (C, D)
    class_embeddings : (B, D), the mean image embedding inside a mask of the class
    rows : (B,), the prototype row of each class embedding
    """
    similarity = F.normalize(prototypes, dim=1) @ F.normalize(class_embeddings, dim=1).T / temperature  # (C, B)
    is_positive = rows[None] == torch.arange(len(prototypes), device=rows.device)[:, None]
    others = similarity.masked_fill(is_positive, -torch.inf).logsumexp(1, keepdim=True)
    terms = torch.logaddexp(similarity, others) - similarity
    return terms[is_positive].mean() if is_positive.any() else similarity.sum() * 0
