"""The losses of SurgicalSAM (Yue et al., AAAI 2024, section 3.4), as the authors' code computes them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

DICE_EPSILON = 1e-3
TEMPERATURE = 0.07


def dice_losses(logits: Tensor, masks: Tensor) -> Tensor:
    """1 - 2 sum(p g) / (sum(p^2) + sum(g^2)) of every prompt (equation 12); the paper's loss is their mean.

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
    return 1 - (2 * overlap + DICE_EPSILON) / (total + DICE_EPSILON)


def prototype_contrastive_loss(
    prototypes: Tensor, class_embeddings: Tensor, rows: Tensor, temperature: float = TEMPERATURE
) -> Tensor:
    """NT-Xent with the prototypes as anchors, on cosine similarity (equation 11; the paper writes a dot product).

    Every (prototype, class embedding of its class) is a positive pair, and the embeddings of all other classes are its
    negatives. A batch without any pair gives 0.

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
