"""The paper's model with random weights, and random embeddings for it; the scripts of this folder decode and train them."""

from __future__ import annotations

import torch

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.checkpoint import build_parts
from surgicalsam_napari.model.encoders import ENCODERS
from surgicalsam_napari.model.surgical_sam import SurgicalSAM

CLASSES = ENDOVIS2018
SIZE = (1024, 1280)  # of EndoVis frames
QUICK_SIZE = (256, 320)


def untrained_model(encoder_id: str = "vit_h") -> SurgicalSAM:
    """The paper's model without its image encoder: embeddings of 64 x 64 x 256, seven classes, n = 2, fixed random weights.

    With `encoder_id` "light" the model is smaller, for `--quick`.
    """
    torch.manual_seed(0)
    parts = build_parts(ENCODERS[encoder_id], len(CLASSES), tokens_per_class=2)
    model = SurgicalSAM(
        CLASSES, encoder_id, "random", image_encoder=None, presence_threshold=-torch.inf, name="random", **parts
    )
    return model.eval().requires_grad_(False)


def smooth_embeddings(model: SurgicalSAM, count: int) -> torch.Tensor:
    """(count, D, h, w) float16: noise with the smoothness of an embedding."""
    channels, height, width = model.embedding_shape
    noise = torch.randn(count, channels, height // 4, width // 4, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(noise, (height, width), mode="bicubic").half()
