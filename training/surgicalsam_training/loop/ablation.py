"""The prompt encoder with a part left out (Yue et al., AAAI 2024, section 8.4 and Table 6), to learn what the part is worth.

What each reading means: without dense prompts the decoder gets SAM's own embedding for "no mask", as SAM gives it where
nobody drew one; without sparse prompts no class token follows the decoder's output tokens; without marks the class tokens
carry neither the positive nor the negative embedding. All but the second are exact in the weights, so that any reader of
such a checkpoint gets the same model; the second needs another forward, and its checkpoint says so.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from surgicalsam_napari.model.checkpoint import load_checkpoint, read_checkpoint_info
from surgicalsam_napari.model.class_prompt_encoder import ClassPromptEncoder, ClassPrompts, FrameReading
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_training.config import TrainingConfig

DENSE_ONLY = "without sparse prompts"


class DensePromptEncoder(ClassPromptEncoder):
    """Gives the dense prompt embeddings alone: the decoder learns of the class from nothing else."""

    prompts = DENSE_ONLY

    def prompts_of(self, reading: FrameReading, rows: Tensor) -> ClassPrompts:
        """As `ClassPromptEncoder.prompts_of`, with sparse prompt embeddings of shape (B, K, 0, D)."""
        whole = super().prompts_of(reading, rows)
        return ClassPrompts(whole.sparse_prompt_embeddings[:, :, :0], whole.dense_prompt_embeddings)


def dense_only(encoder: ClassPromptEncoder) -> DensePromptEncoder:
    """The same sizes and weights under the other forward."""
    twin = copy.deepcopy(encoder)
    twin.__class__ = DensePromptEncoder
    return cast(DensePromptEncoder, twin)


def ablate(model: SurgicalSAM, config: TrainingConfig) -> SurgicalSAM:
    """Leave out of the model's prompts what the configuration says, before it is trained; returns the model."""
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
    """The layers that what was left out leaves without work, and that must not be tuned."""
    parts: list[nn.Module] = []
    if not config.dense_prompts:
        parts += [encoder.dense_fc_1, encoder.dense_fc_2]
    if not config.sparse_prompts:
        parts += [encoder.sparse_fc_1, encoder.sparse_fc_2]
    return parts


def load_trained(path: Path | str, **options: Any) -> SurgicalSAM:
    """`load_checkpoint` for a .safetensors that may be of an ablation, and is then made so again."""
    if read_checkpoint_info(path).prompts != DENSE_ONLY:
        return load_checkpoint(path, **options)
    model = load_checkpoint(path, prompts=DENSE_ONLY, **options)
    model.class_prompt_encoder = dense_only(model.class_prompt_encoder)
    return model
