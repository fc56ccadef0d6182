"""The model that the baselines prompt: a checkpoint's, or SAM as it is published, with classes from the data."""

from __future__ import annotations

from pathlib import Path

import torch

from surgicalsam_napari.errors import CheckpointError
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.model import zoo
from surgicalsam_napari.model.checkpoint import load_checkpoint
from surgicalsam_napari.model.image_encoder import ENCODERS, encoder_spec, read_sam_mask_decoder_state
from surgicalsam_napari.model.mask_decoder import build_mask_decoder
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_training.config import parse_config
from surgicalsam_training.tuning import starting_model


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
    if not model.has_click_decoder:
        file = encoder_weights or zoo.find_weights(model.encoder_id)
        if file is None:
            raise CheckpointError(
                f"{model.name} has no decoder for points and boxes, and the weights of {ENCODERS[model.encoder_id].title} "
                f"are not on this machine. Get them with `surgicalsam models download {model.encoder_id}`, or name the file "
                "(--encoder-weights)."
            )
        with torch.device("meta"):
            decoder = build_mask_decoder()
        decoder.load_state_dict({k: t.clone() for k, t in read_sam_mask_decoder_state(file).items()}, assign=True)
        model.sam_mask_decoder = decoder.eval().requires_grad_(False).to(model.device)
    return model


def published_sam(
    encoder_id: str, classes: ClassSet, *, encoder_weights: Path | None = None, device: str = "auto"
) -> SurgicalSAM:
    """SAM's published weights and no tuning; with "demo" those of the demo checkpoint.

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
