"""The model that the baselines prompt: a checkpoint's, or SAM as it is published, with classes from the data."""

from __future__ import annotations

from pathlib import Path

import torch

from surgicalsam_napari.errors import CheckpointError
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.model import zoo
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.model.encoders import ENCODERS, encoder_spec
from surgicalsam_napari.model.image_encoder import read_sam_mask_decoder_state
from surgicalsam_napari.model.mask_decoder import build_mask_decoder
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_training.config import parse_config
from surgicalsam_training.loop.tuning import starting_model


def sam_of_checkpoint(
    checkpoint: Path | None, *, encoder_weights: Path | None = None, classes: ClassSet | None = None, device: str = "auto"
) -> SurgicalSAM:
    """A checkpoint (the demo weights by default) with SAM's own decoder beside the tuned one.

    A checkpoint that lacks it is given it from SAM's weights: `encoder_weights`, or the known file on this disk.

    Raises
    ------
    CheckpointError, DeviceError
        see `load_checkpoint`; or SAM's decoder is not to be had
    """
    path = checkpoint or zoo.demo_checkpoint()
    model = load_checkpoint(path, encoder_weights=encoder_weights, device=device, classes=classes)
    if model.has_click_decoder:
        return model
    spec = ENCODERS[model.encoder_id]
    file = encoder_weights if encoder_weights or spec.weights is None else zoo.find_weights(spec.weights)
    if file is None:
        remedy = "Choose a checkpoint that includes it."
        if spec.weights is not None:
            remedy = f"Get SAM's with `surgicalsam models download {spec.weights}`, or name its file (--encoder-weights)."
        raise CheckpointError(f"Points and boxes need the decoder of SAM, and {model.name} has none. {remedy}")
    add_sam_decoder(model, file)
    return model


def add_sam_decoder(model: SurgicalSAM, file: Path) -> None:
    """Give a model the decoder that answers points and boxes, from SAM's published weights."""
    state = {name: tensor.clone() for name, tensor in read_sam_mask_decoder_state(file).items()}  # off the mapped file
    with torch.device("meta"):
        decoder = build_mask_decoder()
    decoder.load_state_dict(state, assign=True)
    model.sam_mask_decoder = decoder.eval().requires_grad_(False).to(model.device)


def published_sam(
    encoder_id: str, classes: ClassSet, *, encoder_weights: Path | None = None, device: str = "auto"
) -> SurgicalSAM:
    """SAM's published weights and no tuning; with a bundled encoder those of the demo checkpoint.

    Raises
    ------
    CheckpointError, DeviceError
        there is no encoder of this id, or its weights are not at hand
    """
    config = parse_config({"encoder": encoder_spec(encoder_id).id, "encoder_weights": encoder_weights, "device": device})
    model = starting_model(config, classes)
    model.sam_mask_decoder = model.mask_decoder  # a training that starts from SAM tunes SAM's own
    model.name = ENCODERS[encoder_id].title
    return model
