"""The image encoders by name: the one list for options, forms and checkpoints.

This module does not import torch, so that `surgicalsam --help` answers at once: `build` imports its module when called.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from surgicalsam_napari.errors import CheckpointError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class EncoderSpec:
    """What the rest of the program needs to know about an image encoder.

    Attributes
    ----------
    id : its name in checkpoints and on the command line
    title : its name for users
    build : returns the encoder with random weights
    input_size : side in pixels of its input, the padded square
    embedding_shape : (D, h, w) of its image embedding
    pyramid : (channels, side of a cell in cells of the grid h x w) of each map of features that is packed behind the
        decoder's channels of the embedding, for the pixel head
    mlp_dim : hidden width of the transformer in the matching mask decoder
    weights : name of its weights in `zoo.KNOWN_WEIGHTS`; None if the checkpoint includes the weights
    memory_megabytes : approximate GPU memory for the weights and one frame in half precision
    is_light : whether a CPU embeds a frame quickly
    is_bundled : whether a checkpoint on this encoder comes with the package
    has_sam_decoder : whether clicks go to SAM's own decoder, trained on a billion masks of photographs
    distilled_from : the encoder whose embeddings it has learned to imitate, so that a decoder for that one may fit it, too
    gigaflops : arithmetic of one embedding, in units of 10^9 operations, as torch.utils.flop_counter counts them
    efficiency : its speed on a CPU as a share of the speed of a plain matrix product; measured, rounded
    """

    id: str
    title: str
    build: Callable[[], nn.Module]
    input_size: int
    embedding_shape: tuple[int, int, int]
    mlp_dim: int
    weights: str | None
    memory_megabytes: int
    is_light: bool = False
    is_bundled: bool = False
    pyramid: tuple[tuple[int, int], ...] = ()
    has_sam_decoder: bool = False
    distilled_from: str | None = None
    gigaflops: float = 0.0
    efficiency: float = 0.6

    @property
    def decoder_dim(self) -> int:
        """The first channels of the embedding: those that prompt encoders and mask decoders read."""
        return self.embedding_shape[0] - sum(channels // cell**2 for channels, cell in self.pyramid)


def _build_vit(encoder_id: str) -> nn.Module:
    from surgicalsam_napari.model.vit_encoder import VIT_SIZES, build_vit_encoder

    return build_vit_encoder(VIT_SIZES[encoder_id])


def _build_mobile_sam() -> nn.Module:
    from surgicalsam_napari.model.mobile_sam import MobileSAMEncoder

    return MobileSAMEncoder()


def _build_efficientvit() -> nn.Module:
    from surgicalsam_napari.model.efficientvit import EfficientViTSAMEncoder

    return EfficientViTSAMEncoder()


def _build_repvit() -> nn.Module:
    from surgicalsam_napari.model.repvit import RepViTSAMEncoder

    return RepViTSAMEncoder()


def _build_edge_sam() -> nn.Module:
    from surgicalsam_napari.model.repvit import EdgeSAMEncoder

    return EdgeSAMEncoder()


def _build_light() -> nn.Module:
    from surgicalsam_napari.model.light_encoder import LightEncoder

    return LightEncoder()


def _sam_spec(
    encoder_id: str,
    title: str,
    build: Callable[[], nn.Module],
    memory_megabytes: int,
    gigaflops: float,
    efficiency: float = EncoderSpec.efficiency,
    *,
    input_size: int = 1024,
    distilled_from: str | None = None,
) -> EncoderSpec:
    """An encoder with SAM's output; its weights file also holds SAM's prompt encoder and mask decoder."""
    return EncoderSpec(
        encoder_id,
        title,
        build,
        input_size,
        (256, 64, 64),
        2048,
        encoder_id,
        memory_megabytes,
        has_sam_decoder=True,
        distilled_from=distilled_from,
        gigaflops=gigaflops,
        efficiency=efficiency,
    )


_distilled_spec = partial(_sam_spec, distilled_from="vit_h")


LIGHT_PYRAMID = ((48, 1), (120, 2), (352, 4))  # of EfficientNet-Lite2: strides 8, 16 and 32

ENCODERS: dict[str, EncoderSpec] = {
    spec.id: spec
    for spec in (
        _sam_spec("vit_h", "SAM ViT-H", lambda: _build_vit("vit_h"), 2000, 5961),
        _sam_spec("vit_l", "SAM ViT-L", lambda: _build_vit("vit_l"), 1200, 2986),
        _sam_spec("vit_b", "SAM ViT-B", lambda: _build_vit("vit_b"), 700, 972),
        _distilled_spec("mobile_sam", "MobileSAM TinyViT", _build_mobile_sam, 250, 77.5, 0.25),
        _distilled_spec("tiny_sam", "TinySAM TinyViT", _build_mobile_sam, 250, 77.5, 0.25),  # the same layers
        _distilled_spec("edge_sam", "EdgeSAM RepViT", _build_edge_sam, 150, 40.1, 0.35),
        _distilled_spec("repvit_sam", "RepViT-SAM", _build_repvit, 250, 226.6, 0.45),
        _distilled_spec("efficientvit_sam_l0", "EfficientViT-SAM L0", _build_efficientvit, 250, 69.5, 0.55, input_size=512),
        EncoderSpec(
            "light",
            "Light encoder",
            _build_light,
            512,
            (228, 64, 64),
            512,
            None,
            150,
            is_light=True,
            is_bundled=True,
            pyramid=LIGHT_PYRAMID,
            gigaflops=9.2,
            efficiency=0.25,
        ),
    )
}


CHECKPOINT_SUFFIXES = (".safetensors", ".pth", ".pt")
DEFAULT_CHECKPOINT = "light"  # the name of the bundled checkpoint, which is loaded if none is named
REMOVED_ENCODER = "demo"  # an encoder of earlier versions; checkpoints on it may still be in use
RESERVED_NAMES = (DEFAULT_CHECKPOINT, REMOVED_ENCODER)  # no shared model may have one


def is_checkpoint_name(checkpoint: object) -> bool:
    """Whether this may be the name of a bundled or a shared checkpoint, not a file: it has no folder and no suffix."""
    return re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", str(checkpoint)) is not None and not str(checkpoint).endswith(
        CHECKPOINT_SUFFIXES
    )


def refuse_removed_encoder(checkpoint_name: str) -> NoReturn:
    """The CheckpointError for a checkpoint on the demo encoder."""
    raise CheckpointError(
        f"{checkpoint_name} was trained on the demo encoder of an earlier version, which this version no longer has. "
        "Train again from the bundled light weights; your corrected labels are kept."
    )


def encoder_spec(encoder_id: str) -> EncoderSpec:
    """The encoder with this id; if there is none, a CheckpointError that lists the known ones."""
    if encoder_id not in ENCODERS:
        raise CheckpointError(
            f'The image encoder should be one of {", ".join(ENCODERS)}; got "{encoder_id}". '
            "Choose one of these, or update surgicalsam-napari."
        )
    return ENCODERS[encoder_id]
