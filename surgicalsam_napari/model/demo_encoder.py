"""The small image encoder of the bundled demo weights: made to be trained and run on two CPU cores."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from surgicalsam_napari.model.segment_anything import LayerNorm2d


def _convolution(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    padding = kernel // 2
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _convolution(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


class GlobalBlock(nn.Module):
    """A pre-norm transformer block over all positions: this is where a shaft learns what tip it ends in."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.projection = nn.Linear(channels, channels)
        self.mlp = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, 3 * channels), nn.GELU(), nn.Linear(3 * channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) to (B, N, C)"""
        qkv = self.qkv(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        x = x + self.projection(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(x)


class DemoEncoder(nn.Module):
    """A convolutional pyramid with global attention at stride 16, merged at stride 8.

    (B, 3, 256, 256) to (B, 128, 32, 32): the place of SAM's ViT, at a thousandth of its cost.
    """

    def __init__(self, embedding_dim: int = 128, input_size: int = 256) -> None:
        super().__init__()
        grid = input_size // 16
        self.stride_4 = nn.Sequential(_convolution(3, 32, 2, 5), _convolution(32, 48, 2), ResidualBlock(48))
        self.stride_8 = nn.Sequential(_convolution(48, 96, 2), ResidualBlock(96), ResidualBlock(96))
        self.stride_16 = nn.Sequential(_convolution(96, 192, 2), ResidualBlock(192))
        self.position = nn.Parameter(torch.zeros(1, grid * grid, 192))
        nn.init.trunc_normal_(self.position, std=0.02)
        self.blocks = nn.Sequential(*(GlobalBlock(192, 6) for _ in range(4)))
        self.context = nn.Conv2d(192, embedding_dim, 1)
        self.detail = nn.Conv2d(96, embedding_dim, 1)
        self.merge = nn.Sequential(_convolution(embedding_dim, embedding_dim), ResidualBlock(embedding_dim))
        self.neck = nn.Sequential(nn.Conv2d(embedding_dim, embedding_dim, 1), LayerNorm2d(embedding_dim))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S), normalised and padded as SAM's, to (B, D, S / 8, S / 8)."""
        detail = self.stride_8(self.stride_4(images))
        coarse = self.stride_16(detail)
        tokens = self.blocks(coarse.flatten(2).transpose(1, 2) + self.position)
        context = self.context(tokens.transpose(1, 2).unflatten(2, coarse.shape[-2:]))
        context = F.interpolate(context, detail.shape[-2:], mode="bilinear", align_corners=False)
        return self.neck(self.merge(self.detail(detail) + context))
