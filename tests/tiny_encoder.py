"""An image encoder for tests that only need some model: two convolutions, in `ENCODERS` as "tiny" while tests run.

Every process that loads a checkpoint on it must import this module.
"""

from __future__ import annotations

from torch import nn

from surgicalsam_napari.model.encoders import ENCODERS, EncoderSpec

TINY = "tiny"


def build_tiny_encoder() -> nn.Module:
    """(B, 3, 256, 256) to (B, 128, 32, 32)"""
    return nn.Sequential(nn.Conv2d(3, 32, 5, 4, 1), nn.GELU(), nn.Conv2d(32, 128, 3, 2, 1))


ENCODERS[TINY] = EncoderSpec(TINY, "Tiny encoder", build_tiny_encoder, 256, (128, 32, 32), 512, None, 50, True)
