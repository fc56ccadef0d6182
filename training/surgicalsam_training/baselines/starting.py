"""The model that the baselines prompt: a checkpoint, or published SAM weights with the classes of the data."""

from __future__ import annotations

from pathlib import Path

import torch

from surgicalsam_napari.errors import CheckpointError
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.model import zoo
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.model.encoders import ENCODERS, encoder_spec
from surgicalsam_napari.model.mask_decoder import build_mask_decoder
from surgicalsam_napari.model.sam_parts import read_sam_mask_decoder_state, sam_parts_file
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_training.config import parse_config
from surgicalsam_training.loop.tuning import starting_model


def sam_of_checkpoint(
    checkpoint: Path | None, *, encoder_weights: Path | None = None, classes: ClassSet | None = None, device: str = "auto"
) -> SurgicalSAM:
    """A checkpoint (the bundled one by default) with SAM's own decoder in addition to the tuned one.

    If the checkpoint lacks it, it is read from SAM's weights: `encoder_weights`, or the known file on this disk.

    Raises
    ------
    CheckpointError, DeviceError
        see `load_checkpoint`; or SAM's decoder is not available
    """
    path = checkpoint or zoo.bundled_checkpoint()
    model = load_checkpoint(path, encoder_weights=encoder_weights, device=device, classes=classes)
    if model.has_click_decoder:
        return model
    spec = ENCODERS[model.encoder_id]
    file = encoder_weights if encoder_weights or spec.weights is None else zoo.find_weights(spec.weights)
    if file is None:
        remedy = "Choose a checkpoint that includes this decoder."
        if spec.weights is not None:
            remedy = zoo.how_to_get(spec.weights)
        raise CheckpointError(f"Points and boxes need the decoder of SAM, and {model.name} has none. {remedy}")
    add_sam_decoder(model, sam_parts_file(file, model.encoder_id))
    return model


def add_sam_decoder(model: SurgicalSAM, file: Path) -> None:
    """Add the decoder for points and boxes to a model, from SAM's published weights."""
    state = {
        name: tensor.clone() for name, tensor in read_sam_mask_decoder_state(file).items()
    }  # copies, not views of the mapped file
    with torch.device("meta"):
        decoder = build_mask_decoder()
    decoder.load_state_dict(state, assign=True)
    model.sam_mask_decoder = decoder.eval().requires_grad_(False).to(model.device)


def published_sam(
    encoder_id: str, classes: ClassSet, *, encoder_weights: Path | None = None, device: str = "auto"
) -> SurgicalSAM:
    """SAM's published weights without tuning; with the light encoder those of the bundled checkpoint.

    Raises
    ------
    CheckpointError, DeviceError
        the encoder id is unknown, or its weights are not on this disk
    """
    config = parse_config({"encoder": encoder_spec(encoder_id).id, "encoder_weights": encoder_weights, "device": device})
    model = starting_model(config, classes)
    model.sam_mask_decoder = model.mask_decoder  # a training that starts from SAM tunes SAM's own decoder
    model.name = ENCODERS[encoder_id].title
    return model
