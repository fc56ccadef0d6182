"""What is trained: the neck with heads that are thrown away, the class-prompted parts, and the click-prompted parts."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.checkpoint import build_parts
from surgicalsam_napari.model.encoders import ENCODERS
from surgicalsam_napari.model.light_encoder import FEATURE_CHANNELS, LightEncoder
from surgicalsam_napari.model.mask_decoder import DecodedMasks, decode_masks
from surgicalsam_napari.model.surgical_sam import build_presence_head
from surgicalsam_training.loop.losses import dice_losses, prototype_contrastive_loss

SPEC = ENCODERS["light"]
DIM, GRID = SPEC.decoder_dim, SPEC.embedding_shape[1]
SIDE = SPEC.input_size
LOW_RES = 4 * GRID  # side of the decoder's logits
CLASS_COUNT = len(ENDOVIS2018)
RECONSTRUCTED = (8, 16, 32)  # strides whose features the embedding must keep


class PixelClassifier(nn.Module):
    """The light encoder with heads that only training needs: every pixel's class, the nearest prototype, the features."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = LightEncoder(DIM, SIDE)
        self.fine = nn.Sequential(nn.Conv2d(DIM, (CLASS_COUNT + 1) * 16, 1), nn.PixelShuffle(4))
        self.prototypes = nn.Conv2d(DIM, CLASS_COUNT + 1, 1)
        self.reconstruct = nn.ModuleDict({str(s): nn.Conv2d(DIM, FEATURE_CHANNELS[s], 1) for s in RECONSTRUCTED})
        self.scale = nn.ModuleDict({str(s): nn.BatchNorm2d(FEATURE_CHANNELS[s], affine=False) for s in RECONSTRUCTED})

    def losses(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Of (B, 3, SIDE, SIDE) and labels (B, SIDE, SIDE)."""
        features = self.encoder.features(images)
        embeddings = self.encoder.from_features(features)
        fine, coarse = self.fine(embeddings).float(), self.prototypes(embeddings).float()
        half, eighth = labels[:, ::2, ::2], labels[:, 4::8, 4::8]
        probability = fine.softmax(1)
        truth = F.one_hot(half, CLASS_COUNT + 1).permute(0, 3, 1, 2)
        overlap = (probability * truth).sum((0, 2, 3))
        size = probability.square().sum((0, 2, 3)) + truth.sum((0, 2, 3))
        dice = 1 - (2 * overlap + 1) / (size + 1)
        tool, tool_truth = 1 - probability[:, 0], (half > 0).float()
        tool_dice = 1 - 2 * (tool * tool_truth).sum() / (tool.square().sum() + tool_truth.sum() + 1)
        kept = []
        for stride in RECONSTRUCTED:
            wanted = self.scale[str(stride)](features[stride].float())
            pooled = F.avg_pool2d(embeddings, stride // 8) if stride > 8 else embeddings
            kept.append(F.mse_loss(self.reconstruct[str(stride)](pooled).float(), wanted))
        return {
            "pixels": F.cross_entropy(fine, half),
            "dice": dice[1:].mean(),
            "tool": tool_dice,
            "prototypes": 0.5 * F.cross_entropy(coarse, eighth),
            "features": 0.3 * torch.stack(kept).sum(),
        }


class ClassPrompted(nn.Module):
    """The tuned parts of SurgicalSAM."""

    def __init__(self) -> None:
        super().__init__()
        parts = build_parts(SPEC, CLASS_COUNT, tokens_per_class=2)
        self.prototypes, self.class_prompt_encoder = parts["prototypes"], parts["class_prompt_encoder"]
        self.mask_decoder, self.prompt_encoder = parts["mask_decoder"], parts["prompt_encoder"].requires_grad_(False)
        self.presence_head = build_presence_head(DIM)
        points = [self.prompt_encoder.point_embeddings[index].weight for index in range(2)]
        for marks, point in zip(self.class_prompt_encoder.pn_cls_embeddings, points, strict=True):
            marks.weight.data.copy_(point.expand_as(marks.weight))

    def forward(self, embeddings: Tensor, rows: Tensor) -> tuple[DecodedMasks, Tensor]:
        """(B, D, GRID, GRID) and (B, K) prototype rows to B * K decoded prompts and their presence logits (B * K,)."""
        prompts = self.class_prompt_encoder(embeddings, self.prototypes(), rows)
        decoded = decode_masks(
            self.mask_decoder,
            embeddings,
            self.prompt_encoder.get_dense_pe(),
            prompts.sparse_prompt_embeddings.flatten(0, 1),
            prompts.dense_prompt_embeddings.flatten(0, 1),
        )
        return decoded, self.presence_head(decoded.iou_token)[:, 0]

    def losses(self, embeddings: Tensor, labels: Tensor, rows: Tensor) -> dict[str, Tensor]:
        masks = (labels[:, None] == rows[..., None, None] + 1).flatten(0, 1)
        present = masks.flatten(1).any(1)
        decoded, presence = self(embeddings, rows)
        weight = F.interpolate(masks[present][:, None].float(), embeddings.shape[-2:], mode="bilinear", align_corners=False)
        in_mask = (weight > 0).float()
        repeated = embeddings.repeat_interleave(rows.shape[1], 0)[present]
        means = (repeated * in_mask).sum((2, 3)) / in_mask.sum((2, 3)).clamp(min=1)
        return {
            **mask_losses(decoded, masks, present),
            "contrastive": 0.2 * prototype_contrastive_loss(self.prototypes(), means, rows.flatten()[present]),
            "presence": 0.5 * F.binary_cross_entropy_with_logits(presence, present.float()),
        }


def mask_losses(decoded: DecodedMasks, masks: Tensor, shown: Tensor) -> dict[str, Tensor]:
    """Dice and cross-entropy at half the input size, and the error of the predicted IoU, for the prompts `shown`."""
    logits, truth = decoded.low_res_logits.float(), F.avg_pool2d(masks[:, None].float(), 2)[:, 0]
    answer, solid = logits > 0, truth >= 0.5
    union = (answer | solid).sum((1, 2)).clamp(min=1)
    iou = torch.where(shown, (answer & solid).sum((1, 2)) / union, 0)
    return {
        "dice": dice_losses(logits[shown], truth[shown]).mean(),
        "pixels": 2 * F.binary_cross_entropy_with_logits(logits[shown], truth[shown]),
        "absent": 0.5 * F.binary_cross_entropy_with_logits(logits[~shown], truth[~shown])
        if (~shown).any()
        else logits.sum() * 0,
        "predicted_iou": F.mse_loss(decoded.predicted_iou[shown], iou[shown]),
    }


@dataclass
class Prompts:
    """What P decodings are asked with.

    Attributes
    ----------
    masks : (P, LOW_RES, LOW_RES) logits that the answer starts from
    has_mask : (P,) bool
    boxes : (P, 4) left, top, right, bottom in the encoder's square, 0 at its edge
    has_box : (P,) bool
    points : (P, N, 2) x and y of each click in the encoder's square
    marks : (P, N) 1 for a click inside the instrument, 0 outside, -1 for none
    """

    masks: Tensor
    has_mask: Tensor
    boxes: Tensor
    has_box: Tensor
    points: Tensor
    marks: Tensor


class ClickPrompted(nn.Module):
    """SAM's prompt encoder and a decoder of its own, started from the class decoder."""

    def __init__(self, prompt_encoder: nn.Module, mask_decoder: nn.Module) -> None:
        super().__init__()
        self.prompt_encoder = copy.deepcopy(prompt_encoder).requires_grad_(True)
        self.mask_decoder = copy.deepcopy(mask_decoder).requires_grad_(True)

    def forward(self, embeddings: Tensor, prompts: Prompts) -> DecodedMasks:
        """One prompt for each of P embeddings; what a prompt lacks is SAM's "not a point" or "no mask"."""
        encoder = self.prompt_encoder
        nothing = encoder.not_a_point_embed.weight
        blank = prompts.points.new_zeros(len(prompts.points), 1, 2)
        points = torch.cat([prompts.points, blank], 1)
        marks = torch.cat([prompts.marks, torch.full_like(prompts.marks[:, :1], -1)], 1)
        # SAM adds the 0.5 again
        clicks = encoder._embed_points(points - 0.5, marks, pad=False)
        corners = torch.where(prompts.has_box[:, None, None], encoder._embed_boxes(prompts.boxes - 0.5), nothing)
        dense = torch.where(
            prompts.has_mask[:, None, None, None],
            encoder._embed_masks(stamped(prompts)[:, None]),
            encoder.no_mask_embed.weight[..., None, None],
        )
        sparse = torch.cat([clicks, corners], 1)
        return decode_masks(self.mask_decoder, embeddings, encoder.get_dense_pe(), sparse, dense)


def stamped(prompts: Prompts) -> Tensor:
    """The mask prompts with every click stamped in, as `model.prompts.stamp_clicks` does it."""
    from surgicalsam_napari.model.prompts import CLICK_RADIUS, MASK_PROMPT_LOGIT

    masks = prompts.masks
    centres = torch.arange(LOW_RES, device=masks.device) + 0.5
    for number in range(prompts.points.shape[1]):
        x, y = (prompts.points[:, number] * (LOW_RES / SIDE)).unbind(-1)
        near = (centres[None, None] - x[:, None, None]) ** 2 + (
            centres[None, :, None] - y[:, None, None]
        ) ** 2 <= CLICK_RADIUS**2
        mark = prompts.marks[:, number, None, None]
        masks = torch.where(near & (mark >= 0), torch.where(mark > 0, MASK_PROMPT_LOGIT, -MASK_PROMPT_LOGIT), masks)
    return masks
