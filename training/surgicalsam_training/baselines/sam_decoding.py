"""All four masks of SAM's decoder for one prompt, with optional guidance of its attention and tokens (PerSAM).

`SurgicalSAM.decode_prompts` returns the single mask of SAM (`multimask_output=False`). PerSAM needs the three others, and
changes the decoder's attention, so this module calls the decoder's parts one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from surgicalsam_napari.errors import CheckpointError
from surgicalsam_napari.model.encoders import ENCODERS
from surgicalsam_napari.model.segment_anything import MaskDecoder, TwoWayTransformer
from surgicalsam_napari.model.surgical_sam import SurgicalSAM

if TYPE_CHECKING:
    from surgicalsam_napari.model.segment_anything import Attention, TwoWayAttentionBlock


@dataclass(frozen=True)
class Target:
    """PerSAM's guidance of the decoder.

    Attributes
    ----------
    attention : (h * w,), added to the attention of every token to every position, before the softmax
    semantics : (D,), added to every token
    """

    attention: Tensor
    semantics: Tensor


@dataclass(frozen=True)
class ScaleMasks:
    """
    Attributes
    ----------
    low_res_logits : (4, 4h, 4w), of the padded square: the single mask, then SAM's masks of whole, part and subpart
    predicted_iou : (4,)
    """

    low_res_logits: Tensor
    predicted_iou: Tensor


def has_three_scales(model: SurgicalSAM) -> bool:
    """Whether the decoder's three further masks are trained: SAM's are, those of the bundled weights are not."""
    return ENCODERS[model.encoder_id].weights is not None


@torch.inference_mode()
def decode_scales(
    model: SurgicalSAM,
    embedding: Tensor,
    points: Tensor | None = None,
    marks: Tensor | None = None,
    box: Tensor | None = None,
    mask: Tensor | None = None,
    target: Target | None = None,
) -> ScaleMasks:
    """The four masks for a prompt; arguments as in `SurgicalSAM.decode_prompts`.

    Raises
    ------
    CheckpointError
        the checkpoint has no decoder for points
    """
    decoder = model.sam_mask_decoder
    if decoder is None:
        raise CheckpointError(f"PerSAM needs the decoder of SAM; {model.name} has none. Choose a checkpoint that has it.")

    def on_device(tensor: Tensor) -> Tensor:
        return tensor.to(model.device, torch.float32)

    # SAM's prompt encoder counts from the middle of the first pixel
    clicks = None if points is None or marks is None else (on_device(points)[None] - 0.5, on_device(marks)[None])
    corners = None if box is None else on_device(box)[None] - 0.5
    sparse, dense = model.prompt_encoder(clicks, corners, None if mask is None else on_device(mask)[None, None])
    tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight, sparse[0]])[None]
    image = on_device(embedding)[None] + dense
    token_out, image_out = attend(decoder.transformer, image, model.prompt_encoder.get_dense_pe(), tokens, target)
    return _masks(decoder, token_out, image_out.transpose(1, 2).unflatten(2, image.shape[-2:]))


def _masks(decoder: MaskDecoder, token_out: Tensor, image_out: Tensor) -> ScaleMasks:
    upscaled = decoder.output_upscaling(image_out)[0]
    mask_tokens = token_out[0, 1 : 1 + decoder.num_mask_tokens]
    kernels = [mlp(token) for mlp, token in zip(decoder.output_hypernetworks_mlps, mask_tokens, strict=True)]
    logits = torch.einsum("sc,chw->shw", torch.stack(kernels), upscaled)
    return ScaleMasks(logits, decoder.iou_prediction_head(token_out[:, 0])[0])


def attend(
    transformer: TwoWayTransformer, image: Tensor, position: Tensor, tokens: Tensor, target: Target | None
) -> tuple[Tensor, Tensor]:
    """SAM's two-way transformer; a target biases its token-to-image attention (Zhang et al. 2023, section 3.2).

    Parameters
    ----------
    image, position : (1, D, h, w)
    tokens : (1, T, D)

    Returns
    -------
    tokens (1, T, D), image (1, h * w, D)
    """
    keys, key_position = image.flatten(2).transpose(1, 2), position.flatten(2).transpose(1, 2)
    bias = None if target is None else target.attention.to(tokens)
    # the semantics are added to the tokens, not to the position of a token in every layer
    queries = tokens if target is None else tokens + target.semantics.to(tokens)
    for layer in transformer.layers:
        queries, keys = _layer(layer, queries, keys, tokens, key_position, bias)
    attended = attention(transformer.final_attn_token_to_image, queries + tokens, keys + key_position, keys, bias)
    return transformer.norm_final_attn(queries + attended), keys


def _layer(
    layer: TwoWayAttentionBlock, queries: Tensor, keys: Tensor, position: Tensor, key_position: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Tokens among themselves, tokens to image, MLP, image to tokens."""
    if layer.skip_first_layer_pe:
        queries = attention(layer.self_attn, queries, queries, queries)
    else:
        positioned = queries + position
        queries = queries + attention(layer.self_attn, positioned, positioned, queries)
    queries = layer.norm1(queries)
    attended = attention(layer.cross_attn_token_to_image, queries + position, keys + key_position, keys, bias)
    queries = layer.norm2(queries + attended)
    queries = layer.norm3(queries + layer.mlp(queries))
    keys = keys + attention(layer.cross_attn_image_to_token, keys + key_position, queries + position, queries)
    return queries, layer.norm4(keys)


def attention(module: Attention, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multi-head attention with SAM's projections.

    Parameters
    ----------
    query : (1, Q, D)
    key, value : (1, K, D)
    bias : (K,), added to the scaled products of every query and head
    """
    query, key, value = (
        projection(tensor).unflatten(-1, (module.num_heads, -1)).transpose(1, 2)
        for projection, tensor in ((module.q_proj, query), (module.k_proj, key), (module.v_proj, value))
    )
    mask = None if bias is None else bias.expand(query.shape[-2], -1)
    return module.out_proj(F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2))
