"""The image encoders by name: the one list for options, forms and checkpoints.

This module does not import torch, so that `surgicalsam --help` answers at once: `build` imports its module when called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    mlp_dim : hidden width of the transformer in the matching mask decoder
    weights : name of its weights in `zoo.KNOWN_WEIGHTS`; None if the checkpoint includes the weights
    memory_megabytes : approximate GPU memory for the weights and one frame in half precision
    is_light : whether a CPU embeds a frame quickly
    bundled_title : for users, title of the checkpoint that comes with the package under the encoder's id; None if none does
    has_sam_decoder : whether clicks go to SAM's own decoder, trained on a billion masks of photographs
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
    bundled_title: str | None = None
    has_sam_decoder: bool = False

    @property
    def is_bundled(self) -> bool:
        """Whether a checkpoint on this encoder comes with the package."""
        return self.bundled_title is not None


def _build_vit(encoder_id: str) -> nn.Module:
    from surgicalsam_napari.model.vit_encoder import VIT_SIZES, build_vit_encoder

    return build_vit_encoder(VIT_SIZES[encoder_id])


def _build_mobile_sam() -> nn.Module:
    from surgicalsam_napari.model.mobile_sam import MobileSAMEncoder

    return MobileSAMEncoder()


def _build_demo() -> nn.Module:
    from surgicalsam_napari.model.demo_encoder import DemoEncoder

    return DemoEncoder()


def _build_light() -> nn.Module:
    from surgicalsam_napari.model.light_encoder import LightEncoder

    return LightEncoder()


def _sam_spec(encoder_id: str, title: str, build: Callable[[], nn.Module], memory_megabytes: int) -> EncoderSpec:
    """An encoder with SAM's input and output; its weights file also holds SAM's prompt encoder and mask decoder."""
    return EncoderSpec(
        encoder_id, title, build, 1024, (256, 64, 64), 2048, encoder_id, memory_megabytes, has_sam_decoder=True
    )


ENCODERS: dict[str, EncoderSpec] = {
    spec.id: spec
    for spec in (
        _sam_spec("vit_h", "SAM ViT-H", lambda: _build_vit("vit_h"), 2000),
        _sam_spec("vit_l", "SAM ViT-L", lambda: _build_vit("vit_l"), 1200),
        _sam_spec("vit_b", "SAM ViT-B", lambda: _build_vit("vit_b"), 700),
        _sam_spec("mobile_sam", "MobileSAM TinyViT", _build_mobile_sam, 250),
        EncoderSpec(
            "demo", "Demo encoder", _build_demo, 256, (128, 32, 32), 512, None, 50, True, "Demo (trained on the phantom)"
        ),
        EncoderSpec(
            "light", "Light encoder", _build_light, 512, (128, 64, 64), 512, None, 150, True, "Light (for real video)"
        ),
    )
}


BUNDLED_CHECKPOINTS = tuple(spec.id for spec in ENCODERS.values() if spec.is_bundled)  # names that stand for files
DEFAULT_CHECKPOINT = BUNDLED_CHECKPOINTS[0]  # loaded if none is named


def encoder_spec(encoder_id: str) -> EncoderSpec:
    """The encoder with this id; if there is none, a CheckpointError that lists the known ones."""
    if encoder_id not in ENCODERS:
        raise CheckpointError(
            f'The image encoder should be one of {", ".join(ENCODERS)}; got "{encoder_id}". '
            "Choose one of these, or update surgicalsam-napari."
        )
    return ENCODERS[encoder_id]
