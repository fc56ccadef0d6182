"""MobileSAM's image encoder (Zhang et al. 2023): a TinyViT (Wu et al., ECCV 2022) instead of SAM's ViT.

Four stages of widths 64, 128, 160 and 320: inverted-bottleneck convolutions at stride 4, then transformer blocks within
windows at strides 8, 16 and 16 (MobileSAM keeps the last stage at SAM's grid of 64 x 64), then SAM's neck. Attributes
have the names in MobileSAM's checkpoint, which loads unchanged.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from surgicalsam_napari.model.segment_anything import LayerNorm2d


def normalised_convolution(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution without bias (`c`) and its batch norm (`bn`); "same" padding before the stride."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(OrderedDict(c=convolution, bn=nn.BatchNorm2d(outputs)))


class PatchEmbedding(nn.Module):
    """Two strided convolutions: (B, 3, S, S) to (B, D, S / 4, S / 4)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            normalised_convolution(3, dim // 2, 3, 2), nn.GELU(), normalised_convolution(dim // 2, dim, 3, 2)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.seq(images)


class InvertedBottleneck(nn.Module):
    """Widen, filter each channel separately, narrow, and add the input: (B, D, h, w) to the same shape."""

    def __init__(self, dim: int, expansion: int = 4) -> None:
        super().__init__()
        wide = dim * expansion
        self.conv1 = normalised_convolution(dim, wide)
        self.conv2 = normalised_convolution(wide, wide, 3, groups=wide)
        self.conv3 = normalised_convolution(wide, dim)

    def forward(self, x: Tensor) -> Tensor:
        widened = F.gelu(self.conv2(F.gelu(self.conv1(x))))
        return F.gelu(x + self.conv3(widened))


class PatchMerging(nn.Module):
    """The step between stages: (B, D, h, w) to (B, D', h / stride, w / stride)."""

    def __init__(self, dim: int, out_dim: int, stride: int) -> None:
        super().__init__()
        self.conv1 = normalised_convolution(dim, out_dim)
        self.conv2 = normalised_convolution(out_dim, out_dim, 3, stride, groups=out_dim)
        self.conv3 = normalised_convolution(out_dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))


class WindowAttention(nn.Module):
    """Attention within a window, with one learned bias per head and distance (rows, columns) between two positions."""

    def __init__(self, dim: int, heads: int, window_size: int) -> None:
        super().__init__()
        self.heads = heads
        self.window_size = window_size
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window_size**2))

    def position_bias(self) -> Tensor:
        """(heads, n, n) for the n = window_size ** 2 positions of a window, row-major."""
        place = torch.arange(self.window_size, device=self.attention_biases.device)
        distance = (place[:, None] - place[None, :]).abs()
        rows, columns = distance[:, None, :, None], distance[None, :, None, :]
        index = (rows * self.window_size + columns).reshape(self.window_size**2, -1)
        return self.attention_biases[:, index]

    def forward(self, windows: Tensor) -> Tensor:
        """(B, n, D) to (B, n, D)"""
        # the query, key and value of each head are adjacent
        qkv = self.qkv(self.norm(windows)).unflatten(-1, (self.heads, 3, -1))
        query, key, value = qkv.permute(3, 0, 2, 1, 4)
        bias = self.position_bias().to(query.dtype)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.proj(attended.transpose(1, 2).flatten(2))


class Perceptron(nn.Module):
    """A pre-norm two-layer perceptron on the last axis."""

    def __init__(self, dim: int, expansion: int = 4) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, dim * expansion)
        self.fc2 = nn.Linear(dim * expansion, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(self.norm(x))))


class WindowBlock(nn.Module):
    """Window attention, a depthwise convolution that connects windows, a perceptron: (B, D, h, w) to the same shape."""

    def __init__(self, dim: int, heads: int, window_size: int) -> None:
        super().__init__()
        self.attn = WindowAttention(dim, heads, window_size)
        self.mlp = Perceptron(dim)
        self.local_conv = normalised_convolution(dim, dim, 3, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.local_conv(x + self.attend(x))
        return x + self.mlp(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def attend(self, x: Tensor) -> Tensor:
        """Window attention over a grid, zero-padded right and below to complete windows."""
        batch, dim, height, width = x.shape
        side = self.attn.window_size
        padded = F.pad(x, (0, -width % side, 0, -height % side))
        grid = padded.unflatten(3, (-1, side)).unflatten(2, (-1, side))  # (B, D, rows, side, columns, side)
        rows, columns = grid.shape[2], grid.shape[4]
        windows = grid.permute(0, 2, 4, 3, 5, 1).reshape(-1, side * side, dim)
        attended = self.attn(windows).view(batch, rows, columns, side, side, dim)
        return attended.permute(0, 5, 1, 3, 2, 4).reshape(padded.shape)[:, :, :height, :width]


class Stage(nn.Module):
    """Blocks of one width, and the step to the next stage."""

    def __init__(self, blocks: list[nn.Module], downsample: nn.Module | None = None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class MobileSAMEncoder(nn.Module):
    """(B, 3, 1024, 1024), normalised and padded as SAM's, to (B, 256, 64, 64)."""

    def __init__(self, embedding_dim: int = 256) -> None:
        super().__init__()
        self.patch_embed = PatchEmbedding(64)
        self.layers = nn.ModuleList(
            [
                Stage([InvertedBottleneck(64) for _ in range(2)], PatchMerging(64, 128, stride=2)),
                Stage([WindowBlock(128, 4, 7) for _ in range(2)], PatchMerging(128, 160, stride=2)),
                Stage([WindowBlock(160, 5, 14) for _ in range(6)], PatchMerging(160, 320, stride=1)),
                Stage([WindowBlock(320, 10, 7) for _ in range(2)]),
            ]
        )
        # TinyViT's classifier from pretraining: in the checkpoint, never run
        self.norm_head = nn.LayerNorm(320)
        self.head = nn.Linear(320, 1000)
        self.neck = nn.Sequential(
            nn.Conv2d(320, embedding_dim, 1, bias=False),
            LayerNorm2d(embedding_dim),
            nn.Conv2d(embedding_dim, embedding_dim, 3, padding=1, bias=False),
            LayerNorm2d(embedding_dim),
        )

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch_embed(images)
        for stage in self.layers:
            x = stage(x)
        return self.neck(x)
