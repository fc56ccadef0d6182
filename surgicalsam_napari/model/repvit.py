"""RepViT image encoders (Wang et al., CVPR 2024) distilled from SAM: RepViT-SAM (2023) and EdgeSAM (Zhou et al. 2023).

Only convolutions: a 3 x 3 filter per channel, some with a gate per channel, then an inverted bottleneck. The two differ
in size, in the filter's parallel branch, and in the last stage: RepViT-SAM keeps it at stride 16; EdgeSAM has it at
stride 32 and adds it, enlarged, to the third. Attributes have the names in the published checkpoints, which load unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from surgicalsam_napari.model.mobile_sam import PatchEmbedding, normalised_convolution
from surgicalsam_napari.model.segment_anything import LayerNorm2d


def bottleneck(dim: int) -> nn.Sequential:
    """Widen to twice the channels and narrow again, without the shortcut."""
    return nn.Sequential(normalised_convolution(dim, 2 * dim), nn.GELU(), normalised_convolution(2 * dim, dim))


class Shortcut(nn.Module):
    """The module `m` plus its input."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.m = module

    def forward(self, x: Tensor) -> Tensor:
        return x + self.m(x)


class ChannelGate(nn.Module):
    """Squeeze and excitation: weigh each channel by a number from 0 to 1 that the mean of all channels decides."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = 8 * ((dim // 4 + 4) // 8)  # a quarter of the channels, rounded to a multiple of 8
        self.fc1 = nn.Conv2d(dim, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        return x * self.fc2(F.relu(self.fc1(mean))).sigmoid()


class ParallelFilter(nn.Module):
    """A filter of 3 x 3 pixels per channel beside one of a single pixel and the input itself; all three are added.

    Parameters
    ----------
    normalises_sum : whether one batch norm follows the sum (RepViT-SAM), or the single pixel's filter has its own (EdgeSAM)
    """

    def __init__(self, dim: int, normalises_sum: bool) -> None:
        super().__init__()
        self.conv = normalised_convolution(dim, dim, 3, groups=dim)
        if normalises_sum:
            self.conv1: nn.Module = nn.Conv2d(dim, dim, 1, groups=dim)
            self.bn: nn.Module = nn.BatchNorm2d(dim)
        else:
            self.conv1 = normalised_convolution(dim, dim, groups=dim)
            self.bn = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x) + self.conv1(x) + x)


class Block(nn.Module):
    """Mix neighbouring positions, then channels: (B, D, h, w) to the same shape."""

    def __init__(self, dim: int, has_gate: bool, normalises_sum: bool) -> None:
        super().__init__()
        gate = ChannelGate(dim) if has_gate else nn.Identity()
        self.token_mixer = nn.Sequential(ParallelFilter(dim, normalises_sum), gate)
        self.channel_mixer = Shortcut(bottleneck(dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.channel_mixer(self.token_mixer(x))


class StageStart(nn.Module):
    """The step between stages: (B, D, h, w) to (B, D', h / stride, w / stride)."""

    def __init__(self, dim: int, out_dim: int, stride: int) -> None:
        super().__init__()
        spatial = normalised_convolution(dim, dim, 3, stride, groups=dim)
        self.token_mixer = nn.Sequential(spatial, nn.Identity(), normalised_convolution(dim, out_dim))
        self.channel_mixer = Shortcut(bottleneck(out_dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.channel_mixer(self.token_mixer(x))


def stage_blocks(dim: int, pairs: int, is_last: bool, normalises_sum: bool) -> list[nn.Module]:
    """Pairs of a block with a gate and one without; one without more, except in the last stage."""
    gates = [True, False] * pairs + [False] * (not is_last)
    return [Block(dim, has_gate, normalises_sum) for has_gate in gates]


def build_features(
    dims: Sequence[int], pairs: Sequence[int], last_stride: int, normalises_sum: bool
) -> tuple[nn.ModuleList, int]:
    """All stages in one list, as in the checkpoints, and where the last stage starts in it."""
    features: list[nn.Module] = [PatchEmbedding(dims[0]).seq]
    last = len(dims) - 1
    start = 0
    for stage, dim in enumerate(dims):
        start = len(features)
        if stage > 0:
            features.append(StageStart(dims[stage - 1], dim, last_stride if stage == last else 2))
        features += stage_blocks(dim, pairs[stage], stage == last, normalises_sum)
    return nn.ModuleList(features), start


def sam_neck(dim: int, embedding_dim: int = 256) -> nn.Sequential:
    """The end of SAM's encoder: (B, D, h, w) to (B, embedding_dim, h, w)."""
    return nn.Sequential(
        nn.Conv2d(dim, embedding_dim, 1, bias=False),
        LayerNorm2d(embedding_dim),
        nn.Conv2d(embedding_dim, embedding_dim, 3, padding=1, bias=False),
        LayerNorm2d(embedding_dim),
    )


class RepViTSAMEncoder(nn.Module):
    """RepViT-SAM's: (B, 3, 1024, 1024), normalised and padded as SAM's, to (B, 256, 64, 64)."""

    def __init__(self) -> None:
        super().__init__()
        self.features, _ = build_features((80, 160, 320, 640), (3, 3, 17, 1), last_stride=1, normalises_sum=True)
        self.neck = sam_neck(640)

    def forward(self, images: Tensor) -> Tensor:
        x = images
        for layer in self.features:
            x = layer(x)
        return self.neck(x)


class Enlarged(nn.Module):
    """A convolution of single pixels, then twice as many rows and columns, by bicubic interpolation."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.op_list = nn.ModuleList([nn.Conv2d(dim, out_dim, 1, bias=False)])

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.op_list[0](x), scale_factor=2, mode="bicubic", align_corners=False)


class EdgeSAMEncoder(nn.Module):
    """EdgeSAM's: (B, 3, 1024, 1024), normalised and padded as SAM's, to (B, 256, 64, 64)."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.last_start = build_features(
            (48, 96, 192, 384), (1, 1, 7, 1), last_stride=2, normalises_sum=False
        )
        self.fuse_stage2 = nn.Conv2d(192, 256, 1, bias=False)
        self.fuse_stage3 = Enlarged(384, 256)
        self.neck = sam_neck(256)

    def forward(self, images: Tensor) -> Tensor:
        x = images
        for layer in self.features[: self.last_start]:
            x = layer(x)
        coarse = x
        for layer in self.features[self.last_start :]:
            coarse = layer(coarse)
        return self.neck(self.fuse_stage2(x) + self.fuse_stage3(coarse))
