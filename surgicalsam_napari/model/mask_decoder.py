"""SAM's mask decoder, run for many (frame, prompt) pairs in one call."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from surgicalsam_napari.model.segment_anything import MaskDecoder, TwoWayTransformer


@dataclass(frozen=True)
class DecodedMasks:
    """P decoded prompts.

    Attributes
    ----------
    low_res_logits : (P, 4h, 4w), of the whole padded square; above 0 is instrument
    predicted_iou : (P,), the decoder's own estimate of the IoU of its mask
    iou_token : (P, D), the output token that `predicted_iou` was read from; the presence head reads it too
    """

    low_res_logits: Tensor
    predicted_iou: Tensor
    iou_token: Tensor


def build_mask_decoder(embedding_dim: int = 256, mlp_dim: int = 2048) -> MaskDecoder:
    """SAM's decoder for image embeddings of `embedding_dim` channels; the defaults are SAM's own."""
    transformer = TwoWayTransformer(depth=2, embedding_dim=embedding_dim, mlp_dim=mlp_dim, num_heads=8)
    return MaskDecoder(
        transformer_dim=embedding_dim, transformer=transformer, iou_head_depth=3, iou_head_hidden_dim=embedding_dim
    )


def decode_masks(
    decoder: MaskDecoder, image_embeddings: Tensor, positional_encoding: Tensor, sparse: Tensor, dense: Tensor
) -> DecodedMasks:
    """The single-mask output of SAM's decoder (`multimask_output=False`), with one image embedding per prompt.

    `MaskDecoder.predict_masks` repeats one image over its prompts; this calls the same parts with a batch of images.

    Parameters
    ----------
    image_embeddings : (P, D, h, w), the embedding of each prompt's frame
    positional_encoding : (1, D, h, w), SAM's dense positional encoding
    sparse : (P, T, D)
    dense : (P, D, h, w)
    """
    prompt_count, _, height, width = image_embeddings.shape
    output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([output_tokens.expand(prompt_count, -1, -1), sparse], dim=1)
    position = positional_encoding.expand(prompt_count, -1, -1, -1)
    token_out, image_out = decoder.transformer(image_embeddings + dense, position, tokens)
    iou_token, mask_token = token_out[:, 0], token_out[:, 1]
    upscaled = decoder.output_upscaling(image_out.transpose(1, 2).unflatten(2, (height, width)))
    kernel = decoder.output_hypernetworks_mlps[0](mask_token)  # (P, D / 8)
    logits = torch.einsum("pc,pchw->phw", kernel, upscaled)
    predicted_iou = decoder.iou_prediction_head(iou_token)[:, 0]
    return DecodedMasks(logits, predicted_iou, iou_token)
