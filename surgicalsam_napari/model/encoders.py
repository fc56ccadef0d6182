"""The image encoders by name: the one list that the options, the forms and the checkpoints follow.

Nothing here imports torch, so that `surgicalsam --help` comes at once: a `build` imports its module when it is called.
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
    """What the rest of the program needs to know of an image encoder.

    Attributes
    ----------
    id : its name in checkpoints and on the command line
    title : its name for people
    build : makes it with random weights
    input_size : side in pixels of the padded square it takes
    embedding_shape : (D, h, w) of the image embedding it gives
    mlp_dim : hidden width of the mask decoder's transformer that goes with it
    weights : name of its weights in `zoo.KNOWN_WEIGHTS`; None where the weights come with the checkpoint
    memory_megabytes : rough GPU memory for the weights and one frame in half precision
    is_light : whether a CPU embeds a frame in a moment
    is_bundled : whether its weights, and the decoder that goes with them, are those of the demo checkpoint
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


def _build_vit(encoder_id: str) -> nn.Module:
    from surgicalsam_napari.model.vit_encoder import VIT_SIZES, build_vit_encoder

    return build_vit_encoder(VIT_SIZES[encoder_id])


def _build_mobile_sam() -> nn.Module:
    from surgicalsam_napari.model.mobile_sam import MobileSAMEncoder

    return MobileSAMEncoder()


def _build_demo() -> nn.Module:
    from surgicalsam_napari.model.demo_encoder import DemoEncoder

    return DemoEncoder()


def _sam_spec(encoder_id: str, title: str, build: Callable[[], nn.Module], memory_megabytes: int) -> EncoderSpec:
    """An encoder that takes the place of SAM's: its weights file holds SAM's prompt encoder and mask decoder, too."""
    return EncoderSpec(encoder_id, title, build, 1024, (256, 64, 64), 2048, encoder_id, memory_megabytes)


ENCODERS: dict[str, EncoderSpec] = {
    spec.id: spec
    for spec in (
        _sam_spec("vit_h", "SAM ViT-H", lambda: _build_vit("vit_h"), 2000),
        _sam_spec("vit_l", "SAM ViT-L", lambda: _build_vit("vit_l"), 1200),
        _sam_spec("vit_b", "SAM ViT-B", lambda: _build_vit("vit_b"), 700),
        _sam_spec("mobile_sam", "MobileSAM TinyViT", _build_mobile_sam, 250),
        EncoderSpec("demo", "Demo encoder", _build_demo, 256, (128, 32, 32), 512, None, 50, is_light=True, is_bundled=True),
    )
}


def encoder_spec(encoder_id: str) -> EncoderSpec:
    """The encoder of this id; a CheckpointError that lists the known ones if there is none."""
    if encoder_id not in ENCODERS:
        raise CheckpointError(
            f'The image encoder should be one of {", ".join(ENCODERS)}; got "{encoder_id}". '
            "Choose one of these, or update surgicalsam-napari."
        )
    return ENCODERS[encoder_id]
