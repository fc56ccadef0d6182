"""EfficientViT-SAM's image encoder L0 (Zhang et al. 2024): EfficientViT-L (Cai et al., ICCV 2023) distilled from SAM.

Four stages: convolutions at strides 4, 8 and 16, then linear attention at stride 32. A neck enlarges the last three to
64 x 64 and adds them. Its input is 512 pixels wide. Attributes have the names in the published checkpoint, which loads
unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NORM_EPSILON = 1e-6  # of every norm in this network; torch's batch norms have 1e-5
ATTENTION_EPSILON = 1e-15


class Convolution(nn.Module):
    """A convolution with "same" padding before the stride; then a batch norm and GELU (by tanh), each optional."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        *,
        is_normalised: bool = True,
        is_activated: bool = False,
        has_bias: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=has_bias)
        self.norm = nn.BatchNorm2d(outputs, eps=NORM_EPSILON) if is_normalised else nn.Identity()
        self.is_activated = is_activated

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return F.gelu(x, approximate="tanh") if self.is_activated else x


class Steps(nn.Module):
    """Modules one after another, under the checkpoint's name for such a list."""

    def __init__(self, steps: Iterable[nn.Module]) -> None:
        super().__init__()
        self.op_list = nn.ModuleList(steps)

    def forward(self, x: Tensor) -> Tensor:
        for step in self.op_list:
            x = step(x)
        return x


class Branch(nn.Module):
    """The module `main`, plus its input if there is a shortcut."""

    def __init__(self, main: nn.Module, has_shortcut: bool = True) -> None:
        super().__init__()
        self.main = main
        self.has_shortcut = has_shortcut

    def forward(self, x: Tensor) -> Tensor:
        return x + self.main(x) if self.has_shortcut else self.main(x)


class TwoConvolutions(nn.Module):
    """Two convolutions of 3 x 3: (B, D, h, w) to the same shape."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = Convolution(dim, dim, 3, is_activated=True)
        self.conv2 = Convolution(dim, dim, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))


class FusedBottleneck(nn.Module):
    """Widen by a full 3 x 3 convolution, and narrow."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int = 1) -> None:
        super().__init__()
        self.spatial_conv = Convolution(inputs, inputs * expansion, 3, stride, is_activated=True)
        self.point_conv = Convolution(inputs * expansion, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.point_conv(self.spatial_conv(x))


class Bottleneck(nn.Module):
    """Widen, filter each channel separately, and narrow; only the last of the three is normalised."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int = 1) -> None:
        super().__init__()
        wide = inputs * expansion
        self.inverted_conv = Convolution(inputs, wide, is_normalised=False, is_activated=True, has_bias=True)
        self.depth_conv = Convolution(wide, wide, 3, stride, wide, is_normalised=False, is_activated=True, has_bias=True)
        self.point_conv = Convolution(wide, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.point_conv(self.depth_conv(self.inverted_conv(x)))


class LinearAttention(nn.Module):
    """Attention whose weights are products of rectified queries and keys, over the pixels and their 5 x 5 surroundings.

    Its cost grows with the number of positions, not with the square: keys and values are multiplied first.
    """

    def __init__(self, dim: int, head_dim: int = 32, surroundings: int = 5) -> None:
        super().__init__()
        self.head_dim = head_dim
        wide = 3 * dim  # query, key and value of each head are adjacent
        self.qkv = Convolution(dim, wide, is_normalised=False)
        self.aggreg = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Conv2d(wide, wide, surroundings, padding=surroundings // 2, groups=wide, bias=False),
                    nn.Conv2d(wide, wide, 1, groups=wide // head_dim, bias=False),
                )
            ]
        )
        self.proj = Convolution(2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w) to (B, D, h, w)"""
        pixels = self.qkv(x)
        heads = torch.cat([pixels, self.aggreg[0](pixels)], dim=1).unflatten(1, (-1, 3, self.head_dim)).flatten(4)
        kind = "cuda" if x.is_cuda else "cpu"
        with torch.autocast(kind, enabled=False):  # sums over all positions: too large for half precision
            attended = self.attend(*heads.float().unbind(2))
        return self.proj(attended.to(pixels.dtype).flatten(1, 2).unflatten(2, x.shape[2:]))

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Three of (B, heads, c, n) to (B, heads, c, n)."""
        query, key = query.relu(), key.relu()
        weighted = (value @ key.transpose(2, 3)) @ query
        total = key.sum(3).unsqueeze(2) @ query  # (B, heads, 1, n)
        return weighted / (total + ATTENTION_EPSILON)


class AttentionBlock(nn.Module):
    """Linear attention, then a bottleneck, each with a shortcut: (B, D, h, w) to the same shape."""

    def __init__(self, dim: int, expansion: int = 6) -> None:
        super().__init__()
        self.context_module = Branch(LinearAttention(dim))
        self.local_module = Branch(Bottleneck(dim, dim, expansion))

    def forward(self, x: Tensor) -> Tensor:
        return self.local_module(self.context_module(x))


def convolution_stage(inputs: int, outputs: int) -> Steps:
    """Halve rows and columns, then one block more."""
    return Steps(
        [
            Branch(FusedBottleneck(inputs, outputs, 16, stride=2), has_shortcut=False),
            Branch(FusedBottleneck(outputs, outputs, 4)),
        ]
    )


class Backbone(nn.Module):
    """EfficientViT-L0: (B, 3, S, S) to its stages 2, 3 and 4, at strides 8, 16 and 32 with 128, 256 and 512 channels."""

    def __init__(self) -> None:
        super().__init__()
        stem = Steps([Convolution(3, 32, 3, 2, is_activated=True), Branch(TwoConvolutions(32))])
        third = Branch(Bottleneck(128, 256, 16, stride=2), has_shortcut=False)
        fourth = Branch(Bottleneck(256, 512, 24, stride=2), has_shortcut=False)
        self.stages = nn.ModuleList(
            [
                stem,
                convolution_stage(32, 64),
                convolution_stage(64, 128),
                Steps([third, *(Branch(Bottleneck(256, 256, 4)) for _ in range(4))]),
                Steps([fourth, *(AttentionBlock(512) for _ in range(4))]),
            ]
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = []
        x = images
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps[2:]


class Neck(nn.Module):
    """Bring the stages, the last one first, to the embedding's grid and add them; then four blocks."""

    def __init__(self, dims: tuple[int, ...], width: int, embedding_dim: int, grid: int) -> None:
        super().__init__()
        self.grid = grid
        self.input_ops = nn.ModuleList([Steps([Convolution(dim, width)]) for dim in dims])
        self.middle = Steps([Branch(FusedBottleneck(width, width, 1)) for _ in range(4)])
        last = Convolution(width, embedding_dim, is_normalised=False, has_bias=True)
        self.output_ops = nn.ModuleList([Steps([last])])

    def forward(self, maps: list[Tensor]) -> Tensor:
        added = sum(self.enlarge(project(x)) for project, x in zip(self.input_ops, reversed(maps), strict=True))
        return self.output_ops[0](self.middle(added))

    def enlarge(self, x: Tensor) -> Tensor:
        """Bicubic, to the grid."""
        if x.shape[2:] == (self.grid, self.grid):
            return x
        return F.interpolate(x.float(), (self.grid, self.grid), mode="bicubic", align_corners=False).to(x.dtype)


class EfficientViTSAMEncoder(nn.Module):
    """EfficientViT-SAM L0's: (B, 3, 512, 512), normalised and padded as SAM's, to (B, 256, 64, 64)."""

    def __init__(self, embedding_dim: int = 256) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.neck = Neck((512, 256, 128), 256, embedding_dim, grid=64)
        self.norm = nn.LayerNorm(embedding_dim, eps=NORM_EPSILON)

    def forward(self, images: Tensor) -> Tensor:
        embedding = self.neck(self.backbone(images))
        return self.norm(embedding.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
