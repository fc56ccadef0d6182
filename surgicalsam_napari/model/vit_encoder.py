"""SAM's image encoders ViT-H, ViT-L and ViT-B, with its attention in chunks.

They keep segment-anything's parameter names, so that SAM's checkpoints load, but attend in chunks of rows: the relative
position, which the original adds to the whole 4096 x 4096 attention map of every head, is computed for a few rows at a
time. The result is the same and needs a fraction of the memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from surgicalsam_napari.model.segment_anything import ImageEncoderAttention, ImageEncoderViT, get_rel_pos


@dataclass(frozen=True)
class ViTSize:
    """The numbers in which SAM's three encoders differ."""

    embed_dim: int
    depth: int
    num_heads: int
    global_attn_indexes: tuple[int, ...]


VIT_SIZES = {
    "vit_h": ViTSize(1280, 32, 16, (7, 15, 23, 31)),
    "vit_l": ViTSize(1024, 24, 16, (5, 11, 17, 23)),
    "vit_b": ViTSize(768, 12, 12, (2, 5, 8, 11)),
}


def build_vit_encoder(size: ViTSize, input_size: int = 1024, window_size: int = 14) -> nn.Module:
    """SAM's image encoder with chunked attention; parameter names and values as in segment-anything."""
    encoder = ImageEncoderViT(
        img_size=input_size,
        embed_dim=size.embed_dim,
        depth=size.depth,
        num_heads=size.num_heads,
        global_attn_indexes=size.global_attn_indexes,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),  # type: ignore[arg-type]
        use_rel_pos=True,
        window_size=window_size,
        out_chans=256,
    )
    for block in encoder.blocks:
        block.attn.__class__ = ChunkedAttention  # the same parameters, another forward
    return encoder


class ChunkedAttention(ImageEncoderAttention):
    """SAM's attention with decomposed relative position, exact, a few rows of queries at a time.

    The relative position of query (y, x) and key (y', x') is a sum of one term in (y, y') and one in (x, x'); their outer
    sum is the additive mask of `scaled_dot_product_attention`, and never takes more than `bias_bytes` at once.
    """

    bias_bytes: Mapping[str, int] = {"cpu": 16 << 20, "cuda": 256 << 20, "mps": 256 << 20}

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C); B counts windows in a windowed block."""
        batch, height, width, _ = x.shape
        qkv = self.qkv(x).view(batch, height * width, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)  # (B, heads, H * W, c)
        query = query.unflatten(2, (height, width))
        position_h = get_rel_pos(height, height, self.rel_pos_h).to(query.dtype)  # (H, H, c)
        position_w = get_rel_pos(width, width, self.rel_pos_w).to(query.dtype)
        batches, rows = self.chunk_size(query)
        attended = []
        for batch_slice in slices(batch, batches):
            keys, values = key[batch_slice], value[batch_slice]
            chunks = [
                self.attend(query[batch_slice, :, row_slice], keys, values, position_h[row_slice], position_w)
                for row_slice in slices(height, rows)
            ]
            attended.append(torch.cat(chunks, dim=2))
        attention = torch.cat(attended).transpose(1, 2)  # (B, H * W, heads, c)
        return self.proj(attention.reshape(batch, height, width, -1))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, position_h: Tensor, position_w: Tensor) -> Tensor:
        """Queries (b, heads, r, W, c) over all keys (b, heads, H * W, c) to (b, heads, r * W, c)."""
        bias_h = torch.einsum("bnrwc,rkc->bnrwk", query, position_h)
        bias_w = torch.einsum("bnrwc,wkc->bnrwk", query, position_w)
        bias = (bias_h[..., :, None] + bias_w[..., None, :]).flatten(4).flatten(2, 3)
        return F.scaled_dot_product_attention(query.flatten(2, 3), key, value, attn_mask=bias)

    def chunk_size(self, query: Tensor) -> tuple[int, int]:
        """How many batch entries, and how many rows of each, keep the bias within `bias_bytes`."""
        batch, heads, height, width, _ = query.shape
        limit = self.bias_bytes.get(query.device.type, 16 << 20)
        row_bytes = heads * width * height * width * query.element_size()
        rows = min(max(limit // row_bytes, 1), height)
        batches = min(max(limit // (row_bytes * height), 1), batch)
        return batches, rows


def slices(length: int, step: int) -> Iterator[slice]:
    """Consecutive slices of at most `step` that cover `length`."""
    return (slice(start, min(start + step, length)) for start in range(0, length, step))
