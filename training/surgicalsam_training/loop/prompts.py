"""From prompts to loss terms: a prompt is a class in a frame, with its mask (Yue et al., AAAI 2024, section 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from surgicalsam_napari.model.geometry import PIXEL_MEAN, PIXEL_STD, FrameGeometry
from surgicalsam_napari.model.mask_decoder import decode_masks, in_token_order
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_training.config import TrainingConfig
from surgicalsam_training.loop.losses import dice_losses, frame_dice_losses, prototype_contrastive_loss


@dataclass(frozen=True)
class PromptBatch:
    """P prompts that are computed together.

    Attributes
    ----------
    embeddings : (P, D, h, w) float32
    rows : (P,) int64, the prototype row of each prompt's class
    targets : P masks, each from `mask_target`
    geometries : P, of the prompts' frames
    is_present : (P,) bool, whether the class is in the frame
    weights : (P,) 1, or 0 for a prompt that only fills the batch
    """

    embeddings: Tensor
    rows: Tensor
    targets: tuple[Tensor, ...]
    geometries: tuple[FrameGeometry, ...]
    is_present: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class ClassPairs:
    """Class embeddings (B, D) of a complete step, and the prototype row (B,) of each."""

    embeddings: Tensor
    rows: Tensor


@dataclass(frozen=True)
class StepCounts:
    """The divisors of a step's sums: its number of prompts for present classes, and of all prompts."""

    present: float
    prompts: float


def class_embedding(embedding: Tensor, mask: np.ndarray, geometry: FrameGeometry) -> Tensor | None:
    """The mean image embedding of the grid cells that are inside the mask, as in the authors' code.

    The mask, 0 and 255, goes the way of a picture's red channel: resized, normalised, padded with zeros. Then it is sampled
    bilinearly on the grid, and cells above 0 count: those with about half of their pixels inside.

    Parameters
    ----------
    embedding : (D, h, w)
    mask : (H, W) bool

    Returns
    -------
    (D,); None if no cell counts. The authors leave such a mask out of the data
    """
    red = torch.from_numpy(geometry.resized(mask.astype(np.uint8) * 255))[None, None].float()
    height, width = geometry.resized_size
    normalised = (red - PIXEL_MEAN[0]) / PIXEL_STD[0]
    padded = F.pad(normalised, (0, geometry.input_size - width, 0, geometry.input_size - height))
    inside = F.interpolate(padded, embedding.shape[-2:], mode="bilinear", align_corners=False)[0, 0] > 0
    return embedding[:, inside].mean(1) if inside.any() else None


def nearest_embedding(embedding: Tensor, mask: np.ndarray, geometry: FrameGeometry) -> Tensor:
    """(D,): the embedding of the grid cell at the centre of a mask (H, W) that is too small for `class_embedding`."""
    scale = geometry.resized_size[1] / geometry.original_size[1] * embedding.shape[-1] / geometry.input_size
    row, column = (int(np.mean(indices) * scale) for indices in np.nonzero(mask))
    return embedding[:, row, column]


def mask_target(mask: np.ndarray, geometry: FrameGeometry, config: TrainingConfig, logits_side: int) -> Tensor:
    """The target of a prompt's logits.

    Parameters
    ----------
    mask : (H, W) bool
    logits_side : of the decoder's output for the padded square, in pixels

    Returns
    -------
    (H, W) uint8 for losses at the frame's size; else (h, w) float32, the share of
    each logit pixel that the mask covers, without padding
    """
    solid = torch.from_numpy(np.ascontiguousarray(mask, np.uint8))
    if config.loss_resolution == "frame":
        return solid
    height, width = geometry.resized_size
    resized = F.interpolate(solid[None, None].float(), (height, width), mode="area")
    factor = geometry.input_size // logits_side
    padded = F.pad(resized, (0, -width % factor, 0, -height % factor))
    return F.avg_pool2d(padded, factor)[0, 0]


class PromptLosses(nn.Module):
    """The tuned parts of a model, from prompts to the terms of the loss.

    A call gives the share of one `PromptBatch` in the losses of its step: sums over the prompts, divided by `StepCounts`.
    The shares of all batches and of all processes add up exactly to the loss of the step.
    """

    positional_encoding: Tensor

    def __init__(self, model: SurgicalSAM, config: TrainingConfig) -> None:
        super().__init__()
        self.config = config
        self.prototypes = model.prototypes
        self.class_prompt_encoder = model.class_prompt_encoder
        self.mask_decoder = model.mask_decoder
        self.presence_head = model.presence_head if config.presence_weight else None
        encoding = in_token_order(model.prompt_encoder.get_dense_pe().detach())
        self.register_buffer("positional_encoding", encoding, persistent=False)

    def forward(self, batch: PromptBatch, counts: StepCounts, pairs: ClassPairs | None = None) -> dict[str, Tensor]:
        """Loss terms by name, already weighted as in the configuration; "contrastive" only if `pairs` are given."""
        config = self.config
        prototypes = self.prototypes()
        embeddings = in_token_order(batch.embeddings)
        prompts = self.class_prompt_encoder(embeddings, prototypes, batch.rows[:, None])
        decoded = decode_masks(
            self.mask_decoder,
            embeddings,
            self.positional_encoding,
            prompts.sparse_prompt_embeddings[:, 0],
            prompts.dense_prompt_embeddings[:, 0],
            _visible_grid(batch),
        )
        terms = self._mask_terms(batch, decoded.low_res_logits.float(), decoded.predicted_iou.float(), counts)
        if self.presence_head is not None:
            token = decoded.iou_token if config.presence_tunes_decoder else decoded.iou_token.detach()
            logits = self.presence_head(token)[:, 0].float()
            error = F.binary_cross_entropy_with_logits(logits, batch.is_present.float(), reduction="none")
            terms["presence"] = config.presence_weight * (error * batch.weights).sum() / counts.prompts
        if pairs is not None and config.contrastive_weight:
            loss = prototype_contrastive_loss(prototypes.float(), pairs.embeddings, pairs.rows, config.temperature)
            terms["contrastive"] = config.contrastive_weight * loss
        # SAM's other mask outputs are unused; zero gradients let Adam's weight decay act on them, as in the authors' code
        unused = [weight.sum() for mlp in self.mask_decoder.output_hypernetworks_mlps[1:] for weight in mlp.parameters()]
        terms["dice"] = terms["dice"] + 0 * torch.stack(unused).sum()
        return terms

    def _mask_terms(
        self, batch: PromptBatch, low_res_logits: Tensor, predicted_iou: Tensor, counts: StepCounts
    ) -> dict[str, Tensor]:
        """Dice, and if in use cross-entropy and the error of the predicted IoU; present classes only."""
        names = ["dice"]
        names += ["cross_entropy"] * (self.config.cross_entropy_weight > 0)
        names += ["predicted_iou"] * (self.config.predicted_iou_weight > 0)
        terms = {name: low_res_logits.sum() * 0 for name in names}
        chosen = (batch.is_present & (batch.weights > 0)).nonzero()[:, 0].tolist()
        for same_size in _by_geometry(batch, chosen):
            masks = [batch.targets[i].to(low_res_logits.device) for i in same_size]
            logits, geometry = low_res_logits[same_size], batch.geometries[same_size[0]]
            if self.config.loss_resolution == "frame" and names == ["dice"]:
                terms["dice"] = terms["dice"] + frame_dice_losses(logits, masks, geometry).sum() / counts.present
                continue
            target = torch.stack(masks).float()
            logits = self._at_target(logits, geometry, target)
            terms["dice"] = terms["dice"] + dice_losses(logits, target).sum() / counts.present
            if "cross_entropy" in terms:
                error = F.binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(1).mean(1)
                share = self.config.cross_entropy_weight * error.sum() / counts.present
                terms["cross_entropy"] = terms["cross_entropy"] + share
            if "predicted_iou" in terms:
                error = (predicted_iou[same_size] - _iou(logits.detach(), target)).square()
                share = self.config.predicted_iou_weight * error.sum() / counts.present
                terms["predicted_iou"] = terms["predicted_iou"] + share
        return terms

    def _at_target(self, logits: Tensor, geometry: FrameGeometry, target: Tensor) -> Tensor:
        if self.config.loss_resolution == "frame":
            return geometry.to_frame(logits)
        return logits[:, : target.shape[-2], : target.shape[-1]]


def _visible_grid(batch: PromptBatch) -> tuple[int, int]:
    """The part of the embedding grid that is covered by at least one of the frames."""
    grid = (batch.embeddings.shape[-2], batch.embeddings.shape[-1])
    rows, columns = zip(*(geometry.visible_grid(grid) for geometry in set(batch.geometries)), strict=True)
    return max(rows), max(columns)


def _by_geometry(batch: PromptBatch, chosen: Sequence[int]) -> list[list[int]]:
    """Indices of the chosen prompts, grouped by frame size."""
    groups: dict[tuple[int, int], list[int]] = {}
    for prompt_index in chosen:
        groups.setdefault(batch.geometries[prompt_index].original_size, []).append(prompt_index)
    return list(groups.values())


def _iou(logits: Tensor, target: Tensor) -> Tensor:
    """(P,) IoU of logits above 0 and target pixels that are covered by half or more."""
    predicted, solid = logits > 0, target >= 0.5
    union = (predicted | solid).flatten(1).sum(1).clamp(min=1)
    return (predicted & solid).flatten(1).sum(1) / union
