"""SAM's prompt encoder and mask decoder, as the checkpoints of SAM and of distilled SAMs hold them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from surgicalsam_napari.errors import CheckpointError
from surgicalsam_napari.model import zoo
from surgicalsam_napari.model.encoders import ENCODERS
from surgicalsam_napari.model.image_encoder import (
    describe_mismatch,
    read_sam_weights,
    state_shapes,
    with_prefix_removed,
)
from surgicalsam_napari.model.mask_decoder import build_mask_decoder
from surgicalsam_napari.model.segment_anything import PromptEncoder

PROMPT_ENCODER_PREFIX = "prompt_encoder."
MASK_DECODER_PREFIX = "mask_decoder."


def read_sam_prompt_encoder_state(path: Path | str) -> dict[str, Tensor]:
    """SAM's prompt encoder from a SAM checkpoint: `prompt_encoder.*` with the prefix removed, every key and shape checked.

    Raises
    ------
    CheckpointError
        the file cannot be read, or has no complete prompt encoder
    """
    state = with_prefix_removed(read_sam_weights(path), PROMPT_ENCODER_PREFIX)
    point = state.get("not_a_point_embed.weight")
    dim = point.shape[-1] if point is not None and point.ndim == 2 else 256
    with torch.device("meta"):  # no parameter's shape depends on the grid or the image size
        expected = PromptEncoder(dim, image_embedding_size=(64, 64), input_image_size=(1024, 1024), mask_in_chans=16)
    return _checked_part(Path(path), "prompt encoder", PROMPT_ENCODER_PREFIX, state, expected)


def read_sam_mask_decoder_state(path: Path | str) -> dict[str, Tensor]:
    """SAM's mask decoder from a SAM checkpoint, as `read_sam_prompt_encoder_state` reads the prompt encoder."""
    state = with_prefix_removed(read_sam_weights(path), MASK_DECODER_PREFIX)
    with torch.device("meta"):
        expected = build_mask_decoder()
    return _checked_part(Path(path), "mask decoder", MASK_DECODER_PREFIX, state, expected)


def sam_parts_file(encoder_file: Path, encoder_id: str) -> Path:
    """The file with SAM's prompt encoder and mask decoder for an image encoder.

    It is the encoder's own file. If that holds only an image encoder, it is the complete file of the same encoder on this
    disk, or that of the encoder it was distilled from.

    Raises
    ------
    CheckpointError
        the encoder's file cannot be read; or it holds only an image encoder, and no complete file is on this disk
    """
    if any(name.startswith((PROMPT_ENCODER_PREFIX, MASK_DECODER_PREFIX)) for name in read_sam_weights(encoder_file)):
        return encoder_file
    sources = [name for name in (encoder_id, ENCODERS[encoder_id].distilled_from) if name is not None]
    for name in sources:
        file = zoo.find_weights(name)
        if file is not None and file != encoder_file:
            return file
    raise CheckpointError(
        f"{encoder_file.name} holds only an image encoder. SAM's prompt encoder and mask decoder can come from the complete "
        f"weights of {ENCODERS[sources[-1]].title}, which are not on this machine. {zoo.how_to_get(sources[-1])}"
    )


def _checked_part(path: Path, part: str, prefix: str, state: dict[str, Tensor], expected: nn.Module) -> dict[str, Tensor]:
    mismatch = describe_mismatch(state_shapes(expected.state_dict()), state_shapes(state))
    if mismatch:
        raise CheckpointError(
            f"{path.name} should hold SAM's {part} under {prefix}*; found {mismatch}. "
            "Choose a complete checkpoint of SAM or of a distilled SAM."
        )
    return state
