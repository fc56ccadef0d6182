"""SAM's mask decoder for many (frame, prompt) pairs in one call; it computes only what its single mask needs.

It has the same weights and gives the same numbers as `segment_anything`'s `MaskDecoder.predict_masks`
(tests/test_mask_decoder.py), with less work: the image stays in token layout (one row of channels per grid position), in
which projections need no copies and upscaling is two matrix products; projections of one input are one product; attention
weights are never stored; the last attention is computed only for the two tokens that are used, without projecting the
image; masks 1 to 3 are not computed; padding is not upscaled.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from surgicalsam_napari.model.segment_anything import Attention, MaskDecoder, TwoWayAttentionBlock, TwoWayTransformer

PADDING_LOGIT = -32.0  # of positions that are not computed: no instrument


@dataclass(frozen=True)
class DecodedMasks:
    """The masks of P prompts.

    Attributes
    ----------
    low_res_logits : (P, 4h, 4w), of the whole padded square; above 0 is instrument
    predicted_iou : (P,), the decoder's own estimate of the IoU of its mask
    iou_token : (P, D), the output token that `predicted_iou` is computed from; the presence head uses it too
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
    decoder: MaskDecoder,
    image_embeddings: Tensor,
    positional_encoding: Tensor,
    sparse: Tensor,
    dense: Tensor,
    visible: tuple[int, int] | None = None,
) -> DecodedMasks:
    """The single-mask output of SAM's decoder (`multimask_output=False`) for P prompts, P / B of each of B images in turn.

    Parameters
    ----------
    image_embeddings : (B, D, h, w); not copied if their memory is in channels-last order
    positional_encoding : (1, D, h, w), SAM's dense positional encoding
    sparse : (P, T, D)
    dense : (P, D, h, w)
    visible : rows and columns of the grid for which masks are needed (`FrameGeometry.visible_grid`), by default all;
        logits elsewhere are `PADDING_LOGIT`
    """
    images, position = tokens_of(image_embeddings), tokens_of(positional_encoding)
    keys = (images[:, None] + tokens_of(dense).unflatten(0, (len(images), -1))).flatten(0, 1)
    image = _projected_image(decoder.transformer.layers[0], keys, position)
    return _decoded(decoder, image, position, sparse, _grid(image_embeddings), visible)


@dataclass(frozen=True)
class SharedImage:
    """One image, projected once for prompts that differ only by `dense = activations @ weight.T + bias`.

    Attributes
    ----------
    parts : of the image with `bias`: itself (N, D), and its keys, queries and values (N, d) for the first layer
    weights : (r, D) and three (r, d), what the activations of a prompt add to each of them
    position : (1, N, D)
    grid : (h, w)
    """

    parts: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]
    position: Tensor
    grid: tuple[int, int]


def shared_image(
    decoder: MaskDecoder, image_embedding: Tensor, positional_encoding: Tensor, weight: Tensor, bias: Tensor
) -> SharedImage:
    """Project one image (1, D, h, w) for all prompts with `dense = activations @ weight.T + bias`; weight: (D, r)."""
    block, position = decoder.transformer.layers[0], tokens_of(positional_encoding)
    parts = _projected_image(block, tokens_of(image_embedding) + bias, position)
    to_image, to_tokens = block.cross_attn_token_to_image, block.cross_attn_image_to_token
    layers = (to_image.k_proj, to_tokens.q_proj, to_image.v_proj)
    weights = (weight.T, *((layer.weight @ weight).T for layer in layers))
    return SharedImage(tuple(part[0].contiguous() for part in parts), weights, position, _grid(image_embedding))


def decode_shared(
    decoder: MaskDecoder,
    image: SharedImage,
    sparse: Tensor,
    activations: Tensor,
    visible: tuple[int, int] | None = None,
) -> DecodedMasks:
    """As `decode_masks`, for P prompts of one image.

    Parameters
    ----------
    sparse : (P, T, D)
    activations : (P, N, r), see `shared_image`
    """
    parts = tuple(
        torch.stack([torch.addmm(part, each, weight) for each in activations])
        if len(activations) > 1
        else torch.addmm(part, activations[0], weight)[None]
        for part, weight in zip(image.parts, image.weights, strict=True)
    )
    return _decoded(decoder, parts, image.position, sparse, image.grid, visible)


def _grid(embeddings: Tensor) -> tuple[int, int]:
    return embeddings.shape[-2], embeddings.shape[-1]


def _decoded(
    decoder: MaskDecoder,
    image: tuple[Tensor, ...],
    position: Tensor,
    sparse: Tensor,
    grid: tuple[int, int],
    visible: tuple[int, int] | None,
) -> DecodedMasks:
    output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([output_tokens.expand(len(sparse), -1, -1), sparse], dim=1)
    token_out, image_out = _attend_both_ways(decoder.transformer, tokens, image, position)
    iou_token, mask_token = token_out[:, 0], token_out[:, 1]
    kernel = decoder.output_hypernetworks_mlps[0](mask_token)  # (P, D / 8)
    logits = _upscaled_logits(decoder, image_out.unflatten(1, grid), kernel, visible or grid)
    with torch.autocast(logits.device.type, enabled=False):  # small differences decide which of two masks lies on top
        iou_token = iou_token.float()
        predicted_iou = decoder.iou_prediction_head(iou_token)[:, 0]
    return DecodedMasks(logits, predicted_iou, iou_token)


def tokens_of(grids: Tensor) -> Tensor:
    """(B, D, h, w) to (B, h * w, D): a view if the memory is in channels-last order, else a copy."""
    return grids.flatten(2).transpose(1, 2).contiguous()


def in_token_order(grids: Tensor) -> Tensor:
    """(B, D, h, w) of the same values in channels-last order, which `decode_masks` does not copy."""
    tokens = grids.new_empty(len(grids), grids.shape[2] * grids.shape[3], grids.shape[1])
    for target, source in zip(tokens, grids, strict=True):
        target.copy_(source.flatten(1).t())  # for two axes torch has a blocked transposition: twice as fast
    return tokens.transpose(1, 2).unflatten(2, grids.shape[2:])


def _attend_both_ways(
    transformer: TwoWayTransformer, tokens: Tensor, image: tuple[Tensor, ...], position: Tensor
) -> tuple[Tensor, Tensor]:
    """SAM's two-way transformer; returns the first two tokens (P, 2, D) and the image (P, N, D).

    Parameters
    ----------
    tokens : (P, T, D)
    image : of `_projected_image`, for the first layer
    position : (1, N, D)
    """
    queries, (keys, image_key, image_query, image_value) = tokens, image
    for index, block in enumerate(transformer.layers):
        if index:
            keys, image_key, image_query, image_value = _projected_image(block, keys, position)
        queries = block.norm1(_self_attended(block, queries, tokens))
        to_image, to_tokens = block.cross_attn_token_to_image, block.cross_attn_image_to_token
        attended = _attend(to_image, to_image.q_proj(queries + tokens), image_key, image_value)
        queries = block.norm2(queries + attended)
        queries = block.norm3(queries + block.mlp(queries))
        token_key, token_value = to_tokens.k_proj(queries + tokens), to_tokens.v_proj(queries)
        keys = block.norm4(_attended_by_image(to_tokens, image_query, token_key, token_value, keys))
    first = queries[:, :2]
    attended = _attend_to_image(transformer.final_attn_token_to_image, first + tokens[:, :2], keys, position)
    return transformer.norm_final_attn(first + attended), keys


def _projected_image(block: TwoWayAttentionBlock, keys: Tensor, position: Tensor) -> tuple[Tensor, ...]:
    """The image (P, N, D), and what a layer reads from it: keys and values for the tokens, and its own queries."""
    to_image, to_tokens = block.cross_attn_token_to_image, block.cross_attn_image_to_token
    image_key, image_query = _projected_together(keys + position, to_image.k_proj, to_tokens.q_proj)
    return keys, image_key, image_query, to_image.v_proj(keys)


def _self_attended(block: TwoWayAttentionBlock, queries: Tensor, tokens: Tensor) -> Tensor:
    if block.skip_first_layer_pe:
        return block.self_attn(q=queries, k=queries, v=queries)
    positioned = queries + tokens
    return queries + block.self_attn(q=positioned, k=positioned, v=queries)


def _projected_together(x: Tensor, *layers: torch.nn.Linear) -> tuple[Tensor, ...]:
    """Several linear layers of one input, as one product."""
    weight, bias = torch.cat([layer.weight for layer in layers]), torch.cat([layer.bias for layer in layers])
    return F.linear(x, weight, bias).split([layer.out_features for layer in layers], dim=-1)


def _attend(attention: Attention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """SAM's attention, from projected (P, Q, d), (P, K, d), (P, K, d) to (P, Q, D)."""
    query, key, value = (x.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for x in (query, key, value))
    attended = F.scaled_dot_product_attention(query, key, value)
    return attention.out_proj(attended.transpose(1, 2).flatten(2))


def _attended_by_image(attention: Attention, query: Tensor, key: Tensor, value: Tensor, image: Tensor) -> Tensor:
    """The image (P, N, D), plus its attention over T tokens, from projected (P, N, d), (P, T, d), (P, T, d).

    For few tokens, the last projection is applied to their values, and not to the whole image: sum_t w_t W v_t = W sum_t w_t
    v_t. The weights of each head have a sum of 1, so one head adds the bias. They are kept as (P, heads, T, N), because
    torch's softmax is fast along many values, and its attention is slow for 19 of them.
    """
    heads = attention.num_heads
    if heads * key.shape[1] > image.shape[-1]:
        return _attend(attention, query, key, value).add_(image)
    query, key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))  # (P, heads, _, c)
    weights = (key * key.shape[-1] ** -0.5 @ query.transpose(2, 3)).softmax(dim=2).flatten(1, 2)  # (P, heads * T, N)
    out_weight = attention.out_proj.weight.unflatten(1, (heads, -1))  # (D, heads, c)
    projected = torch.einsum("phtc,dhc->phtd", value, out_weight)
    is_first = torch.arange(heads, device=image.device)[:, None, None] == 0
    projected = (projected + is_first * attention.out_proj.bias).flatten(1, 2)
    add = torch.baddbmm if torch.is_grad_enabled() else Tensor.baddbmm_  # the image is not read again: save a copy
    return add(image, weights.transpose(1, 2), projected)


def _attend_to_image(attention: Attention, queries: Tensor, keys: Tensor, position: Tensor) -> Tensor:
    """Attention of a few queries, R per prompt, over the image: (P, R, D).

    The projections of keys and values are linear, so a few queries are projected back instead of all positions:
    q . (W k + b) = (W^T q) . k + q . b, and sum_n a_n (W v_n + b) = W (sum_n a_n v_n) + b.
    """
    heads = attention.num_heads
    query = attention.q_proj(queries).unflatten(-1, (heads, -1))  # (P, R, heads, c)
    query = query * query.shape[-1] ** -0.5
    key_weight = attention.k_proj.weight.unflatten(0, (heads, -1))  # (heads, c, D)
    projected = torch.einsum("prhc,hcd->pdhr", query, key_weight).flatten(2)  # (P, D, heads * R)
    offset = torch.einsum("prhc,hc->phr", query, attention.k_proj.bias.view(heads, -1)).flatten(1)
    scores = keys @ projected + position @ projected + offset[:, None]
    weighted_keys = (scores.transpose(1, 2).softmax(-1) @ keys).unflatten(1, (heads, -1))  # (P, heads, R, D)
    value_weight = attention.v_proj.weight.unflatten(0, (heads, -1))
    value = torch.einsum("phrd,hcd->prhc", weighted_keys, value_weight).flatten(2) + attention.v_proj.bias
    return attention.out_proj(value)


def _upscaled_logits(decoder: MaskDecoder, image: Tensor, kernel: Tensor, visible: tuple[int, int]) -> Tensor:
    """Two transposed convolutions of stride 2, and the product with the mask token's kernel: (P, 4h, 4w).

    Each convolution turns every position separately into a square of 2 x 2, so it is a product with four matrices.

    Parameters
    ----------
    image : (P, h, w, D)
    kernel : (P, D / 8)
    visible : rows and columns of the grid to upscale
    """
    first, norm, activation, second, _ = decoder.output_upscaling
    prompts, height, width, _ = image.shape
    rows, columns = visible
    part = image[:, :rows, :columns].flatten(0, 2)
    x = _four_places(first, part)
    x = activation(F.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, norm.eps))
    x = activation(_four_places(second, x))
    x = (x.view(prompts, -1, kernel.shape[-1]) @ kernel[..., None]).view(prompts, rows, columns, 2, 2, 2, 2)
    logits = x.permute(0, 1, 3, 5, 2, 4, 6).reshape(prompts, 4 * rows, 4 * columns)
    padding = (0, 4 * (width - columns), 0, 4 * (height - rows))
    return logits if visible == (height, width) else F.pad(logits, padding, value=PADDING_LOGIT)


def _four_places(convolution: torch.nn.ConvTranspose2d, x: Tensor) -> Tensor:
    """(M, inputs) to (4 M, outputs): the square of 2 x 2 that each position becomes, row by row."""
    weight = convolution.weight.permute(2, 3, 1, 0).flatten(0, 2)  # (2 * 2 * outputs, inputs)
    assert convolution.bias is not None
    return F.linear(x, weight, convolution.bias.repeat(4)).view(-1, convolution.out_channels)
