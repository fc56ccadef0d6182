"""The pixel head: class logits at every place of a frame, learned in seconds from a few corrected frames.

It is not part of SurgicalSAM (Yue et al., AAAI 2024). With few frames of real video, a small head on the frozen image
embedding is more exact than tuning the decoder (docs/real_video.md). Background and all classes compete at every pixel, so
their masks never overlap.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from surgicalsam_napari.model.mask_prediction import MaskPrediction

HIDDEN = 48
HIDDEN_FINE = 32
DROPPED_CHANNELS = 0.4  # of the embedding while learning: the head must not rely on few channels
LARGEST_LOGIT = 20.0
SURE_PATCH = 3  # presence: the most certain patch of this side, in cells of the head's output


class PixelHead(nn.Module):
    """Logits of the background and of each class, (B, D, h, w) -> (B, 1 + C, 2h, 2w).

    Parameters
    ----------
    embedding_dim : D
    class_count : C, without the background

    Attributes
    ----------
    mean, scale : (D,), the embedding's channels over the frames learned from: `layers` gets standardised channels
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, embedding_dim: int, class_count: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(embedding_dim))
        self.register_buffer("scale", torch.ones(embedding_dim))
        self.layers = nn.Sequential(
            nn.Dropout2d(DROPPED_CHANNELS),
            nn.Conv2d(embedding_dim, HIDDEN, 1),
            nn.ReLU(),
            nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(HIDDEN, 4 * HIDDEN_FINE, 1),
            nn.PixelShuffle(2),
            nn.ReLU(),
            nn.Conv2d(HIDDEN_FINE, 1 + class_count, 3, padding=1),
        )

    def forward(self, embeddings: Tensor) -> Tensor:
        standardised = (embeddings - self.mean[:, None, None]) / self.scale[:, None, None]
        return self.layers(standardised)

    def fit_scale(self, embeddings: Tensor) -> None:
        """Set `mean` and `scale` from embeddings (B, D, h, w)."""
        self.mean.copy_(embeddings.mean((0, 2, 3)))
        self.scale.copy_(embeddings.std((0, 2, 3)) + 1e-5)

    def decode(self, embeddings: Tensor, rows: list[int], visible: tuple[int, int] | None) -> MaskPrediction:
        """Masks of some classes.

        A low-resolution logit is the distance of the class to the best other class or background: above 0 the class wins.
        The predicted IoU is the one expected from the probabilities. Presence is the probability of the class in the most
        certain small patch.

        Parameters
        ----------
        embeddings : (B, D, h, w)
        rows : K classes, counted from 0
        visible : (rows, columns) of the grid that the frame covers; None if all
        """
        logits = self(embeddings).float()
        if visible is not None:
            logits = without_padding(logits, visible)
        chosen = [row + 1 for row in rows]
        probability = logits.softmax(dim=1)
        mine = probability[:, chosen]
        margins = margins_of(logits)[:, chosen]
        low_res_logits = F.interpolate(margins, scale_factor=2, mode="bilinear", align_corners=False)
        patch = F.avg_pool2d(mine, SURE_PATCH, stride=1, padding=SURE_PATCH // 2, count_include_pad=False)
        return MaskPrediction(low_res_logits, expected_iou(mine, margins > 0), patch.amax((-2, -1)))


def margins_of(logits: Tensor) -> Tensor:
    """(B, N, h, w): by how much each logit is above the highest of the others."""
    first, second = logits.topk(2, dim=1).values.split(1, dim=1)
    return (logits - torch.where(logits == first, second, first)).clamp(-LARGEST_LOGIT, LARGEST_LOGIT)


def expected_iou(probability: Tensor, mask: Tensor) -> Tensor:
    """(B, K): the IoU of each mask that its probabilities predict; 0 for an empty mask.

    Parameters
    ----------
    probability, mask : (B, K, h, w), 0 to 1 and bool
    """
    inside = (probability * mask).sum((-2, -1))
    either = mask.sum((-2, -1)) + (probability * ~mask).sum((-2, -1))
    return inside / either.clamp(min=1e-6)


def without_padding(logits: Tensor, visible: tuple[int, int]) -> Tensor:
    """The same logits, but certain background in the padding of the square.

    Parameters
    ----------
    logits : (B, 1 + C, s * h, s * w), the background first
    visible : (rows, columns) of the grid h x w that the frame covers
    """
    rows, columns = (2 * cells for cells in visible)
    background = torch.full_like(logits, -LARGEST_LOGIT)
    background[:, 0] = LARGEST_LOGIT
    background[..., :rows, :columns] = logits[..., :rows, :columns]
    return background
