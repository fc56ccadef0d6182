"""The pixel head: class logits at every place of a frame, learned in seconds from a few corrected frames.

It is not part of SurgicalSAM (Yue et al., AAAI 2024). With few frames of real video, a small head on the frozen image
encoder is more exact than tuning the decoder (docs/real_video.md). Background and all classes compete at every pixel, so
their masks never overlap.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from surgicalsam_napari.model.mask_prediction import MaskPrediction

HIDDEN = 48
HIDDEN_FINE = 32
DROPPED_CHANNELS = 0.4  # of the features while learning: a head must not rely on few of them
LARGEST_LOGIT = 20.0
PRESENCE_THRESHOLD = 0.5  # of a checkpoint that was learned
SURE_PATCH = 3  # presence: the most certain patch of this side, in cells of the head's output


class Branch(nn.Module):
    """Logits of the background and of each class from some of the embedding's features.

    Parameters
    ----------
    features : (channels, side of a cell in cells of the embedding's grid) of each map of features
    class_count : C, without the background

    Attributes
    ----------
    mean, scale : for each channel, over the frames learned from: the layers get standardised channels
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, features: tuple[tuple[int, int], ...], class_count: int) -> None:
        super().__init__()
        self.features = features
        channels = [count for count, _ in features]
        self.register_buffer("mean", torch.zeros(sum(channels)))
        self.register_buffer("scale", torch.ones(sum(channels)))
        self.drop = nn.Dropout2d(DROPPED_CHANNELS)
        self.project = nn.ModuleList(nn.Conv2d(count, HIDDEN, 1) for count in channels)
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(HIDDEN, 4 * HIDDEN_FINE, 1),
            nn.PixelShuffle(2),
            nn.ReLU(),
            nn.Conv2d(HIDDEN_FINE, 1 + class_count, 3, padding=1),
        )

    def forward(self, packed: Tensor) -> Tensor:
        """(B, channels packed on the embedding's grid, h, w) -> (B, 1 + C, 2h, 2w)."""
        merged: Tensor | None = None
        standard = zip(self._maps(packed), self._split(self.mean), self._split(self.scale), self.project, strict=True)
        for features, mean, scale, project in standard:
            projected = project(self.drop((features - mean[:, None, None]) / scale[:, None, None]))
            if projected.shape[-1] != packed.shape[-1]:
                projected = F.interpolate(projected, packed.shape[-2:], mode="bilinear", align_corners=False)
            merged = projected if merged is None else merged + projected
        return self.layers(merged)

    def standardise(self, packed: Tensor) -> None:
        """Set `mean` and `scale` from features of many frames, packed as for `forward`."""
        maps = self._maps(packed)
        self.mean.copy_(torch.cat([features.mean((0, 2, 3)) for features in maps]))
        self.scale.copy_(torch.cat([features.std((0, 2, 3)) for features in maps]) + 1e-5)

    def _maps(self, packed: Tensor) -> list[Tensor]:
        """Each map of features at its own resolution."""
        widths = [count // cell**2 for count, cell in self.features]
        parts = packed.split(widths, dim=1)
        return [F.pixel_unshuffle(part, cell) for part, (_, cell) in zip(parts, self.features, strict=True)]

    def _split(self, values: Tensor) -> tuple[Tensor, ...]:
        return values.split([count for count, _ in self.features])


class PixelHead(nn.Module):
    """Log-probabilities of the background and of each class, (B, D, h, w) -> (B, 1 + C, 2h, 2w).

    One branch reads the channels that the decoder reads. If the encoder's own features are packed behind them, a second
    branch reads those, and the mean of the two decides: each is right where the other has not seen the like.

    Parameters
    ----------
    decoder_dim : the first channels of an embedding
    pyramid : as `EncoderSpec.pyramid`
    class_count : C, without the background
    """

    def __init__(self, decoder_dim: int, pyramid: tuple[tuple[int, int], ...], class_count: int) -> None:
        super().__init__()
        groups: list[tuple[tuple[int, int], ...]] = [((decoder_dim, 1),)]
        if pyramid:
            groups.append(pyramid)
        self.branches = nn.ModuleList(Branch(features, class_count) for features in groups)
        self._cell = max(cell for features in groups for _, cell in features)
        self._widths = [sum(count // cell**2 for count, cell in features) for features in groups]

    def forward(self, embeddings: Tensor) -> Tensor:
        """The logarithm of the branches' mean probabilities."""
        probabilities = [logits.softmax(dim=1) for logits in self.branch_logits(embeddings)]
        return torch.stack(probabilities).mean(dim=0).clamp(min=1e-8).log()

    def branch_logits(self, embeddings: Tensor) -> list[Tensor]:
        """(B, 1 + C, 2h, 2w) of each branch; each is trained on its own."""
        parts = embeddings.split(self._widths, dim=1)
        return [branch(part) for branch, part in zip(self.branches, parts, strict=True)]

    def standardise(self, embeddings: Tensor) -> None:
        """Set the mean and the scale of every feature from embeddings (B, D, h, w) of the frames to learn from."""
        for branch, part in zip(self.branches, embeddings.split(self._widths, dim=1), strict=True):
            branch.standardise(part)  # type: ignore[operator]

    def cropped(self, embeddings: Tensor, visible: tuple[int, int] | None) -> Tensor:
        """The rows and columns of embeddings (B, D, h, w) that a frame covers; up to three more if features are packed."""
        rows, columns = (-(-cells // self._cell) * self._cell for cells in visible or embeddings.shape[-2:])
        return embeddings[..., :rows, :columns]

    def decode(
        self,
        embeddings: Tensor,
        rows: list[int],
        visible: tuple[int, int] | None,
        presence_threshold: float = PRESENCE_THRESHOLD,
    ) -> MaskPrediction:
        """Masks of some classes.

        A low-resolution logit is above 0 where the class wins (`winning_margins`). The predicted IoU is the one expected
        from the probabilities. Presence is the probability of the class in its most certain small patch.

        Parameters
        ----------
        embeddings : (B, D, h, w)
        rows : K classes, counted from 0
        visible : (rows, columns) of the grid that the frame covers; None if all
        presence_threshold : a class with this presence or more competes with the others
        """
        grid = embeddings.shape[-2:]
        logits = self(self.cropped(embeddings, visible)).float()
        probabilities = logits.softmax(dim=1)[:, 1:]
        patch = F.avg_pool2d(probabilities, SURE_PATCH, stride=1, padding=SURE_PATCH // 2, count_include_pad=False)
        presence = patch.amax((-2, -1))
        margins = winning_margins(logits, presence >= presence_threshold)[:, rows]
        resized = F.interpolate(margins, scale_factor=2, mode="bilinear", align_corners=False)
        low_res_logits = resized.new_full((*resized.shape[:2], 4 * grid[0], 4 * grid[1]), -LARGEST_LOGIT)
        low_res_logits[..., : resized.shape[-2], : resized.shape[-1]] = resized
        return MaskPrediction(low_res_logits, expected_iou(probabilities[:, rows], margins > 0), presence[:, rows])


def winning_margins(logits: Tensor, is_present: Tensor) -> Tensor:
    """(B, C, h, w): by how much each class wins at each place; negative where it loses.

    First the classes together compete with the background: an instrument is seldom unseen because its class is in doubt.
    Then each class competes with the other classes that are in the frame.

    Parameters
    ----------
    logits : (B, 1 + C, h, w), the background first
    is_present : (B, C) bool
    """
    classes = logits[:, 1:]
    instrument = classes.logsumexp(dim=1, keepdim=True) - logits[:, :1]
    rivals = classes.masked_fill(~is_present[..., None, None], -torch.inf)
    padded = F.pad(rivals, (0, 0, 0, 0, 0, max(2 - rivals.shape[1], 0)), value=-torch.inf)
    first, second = padded.topk(2, dim=1).values.split(1, dim=1)
    best_other = torch.where(rivals == first, second, first)
    return torch.minimum(instrument, classes - best_other).clamp(-LARGEST_LOGIT, LARGEST_LOGIT)


def expected_iou(probability: Tensor, mask: Tensor) -> Tensor:
    """(B, K): the IoU of each mask that its probabilities predict; 0 for an empty mask.

    Parameters
    ----------
    probability, mask : (B, K, h, w), 0 to 1 and bool
    """
    inside = (probability * mask).sum((-2, -1))
    either = mask.sum((-2, -1)) + (probability * ~mask).sum((-2, -1))
    return inside / either.clamp(min=1e-6)
