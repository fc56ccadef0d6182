"""Ablations of the prompt encoder: one part is left out, to measure its effect (Yue et al., AAAI 2024, 8.4 and Table 6).

Our reading of the paper: without dense prompts, the decoder gets SAM's embedding for "no mask". Without sparse prompts, no
class token follows the decoder's output tokens. Without marks, the class tokens have neither the positive nor the negative
embedding. The first and the third change only weights, so every reader of such a checkpoint gets the same model. The second
needs another forward pass, and its checkpoint says so.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from surgicalsam_napari.model.checkpoint import load_checkpoint, read_checkpoint_info
from surgicalsam_napari.model.class_prompt_encoder import ClassPromptEncoder, FrameReading
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_training.config import TrainingConfig

DENSE_ONLY = "without sparse prompts"


class DensePromptEncoder(ClassPromptEncoder):
    """Gives only dense prompt embeddings; the decoder gets no other information on the class."""

    prompts = DENSE_ONLY

    def sparse_embeddings(self, reading: FrameReading, rows: Tensor) -> Tensor:
        """As `ClassPromptEncoder.sparse_embeddings`, of shape (B, K, 0, D)."""
        return super().sparse_embeddings(reading, rows)[:, :, :0]


def dense_only(encoder: ClassPromptEncoder) -> DensePromptEncoder:
    """A copy with the same sizes and weights that gives only dense prompts."""
    clone = copy.deepcopy(encoder)
    clone.__class__ = DensePromptEncoder
    return cast(DensePromptEncoder, clone)


def ablate(model: SurgicalSAM, config: TrainingConfig) -> SurgicalSAM:
    """Remove the parts that the configuration turns off, before training; returns the model."""
    encoder = model.class_prompt_encoder
    if not config.dense_prompts:
        no_mask = model.prompt_encoder.no_mask_embed.weight[0]
        encoder.dense_fc_2.weight.data.zero_()
        cast(nn.Parameter, encoder.dense_fc_2.bias).data.copy_(no_mask)
    if not config.marks:
        for marks in encoder.pn_cls_embeddings:
            cast(nn.Embedding, marks).weight.data.zero_()
    if not config.sparse_prompts:
        model.class_prompt_encoder = dense_only(encoder)
    return model


def left_out_parts(encoder: ClassPromptEncoder, config: TrainingConfig) -> list[nn.Module]:
    """The layers that have no effect in this ablation and must not be tuned."""
    parts: list[nn.Module] = []
    if not config.dense_prompts:
        parts += [encoder.dense_fc_1, encoder.dense_fc_2]
    if not config.sparse_prompts:
        parts += [encoder.sparse_fc_1, encoder.sparse_fc_2]
    return parts


def load_trained(path: Path | str, **options: Any) -> SurgicalSAM:
    """`load_checkpoint` for a .safetensors file; the checkpoint of an ablation is loaded as that ablation."""
    if read_checkpoint_info(path).prompts != DENSE_ONLY:
        return load_checkpoint(path, **options)
    model = load_checkpoint(path, prompts=DENSE_ONLY, **options)
    model.class_prompt_encoder = dense_only(model.class_prompt_encoder)
    return model
