"""CLIP's text embeddings of the class names as fixed prototypes, instead of prototypes learnt by contrast (paper, 8.5).

They are for a training with `prototypes: fixed` and `contrastive_weight: 0`, which reads them from `prototypes_file`. They
come from a file of CLIP's embeddings, or are computed with CLIP's weights on this disk; nothing is downloaded.

CLIP's embeddings have 512 or 768 numbers, SAM's 256. The paper does not say how it maps them. This module uses a fixed map
that keeps the inner product of every two classes: the C vectors span at most C dimensions, which are mapped to C directions
of a random basis. Without training, such a map has no relation to image embeddings; the class prompt encoder, which is
trained on these prototypes, has to learn it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional as F

from surgicalsam_napari.errors import CheckpointError
from surgicalsam_napari.exchange.files import write_file
from surgicalsam_napari.instruments import ClassSet, plain
from surgicalsam_napari.model.surgical_sam import SurgicalSAM

TEMPLATE = "a photo of a {} in surgery"
SEED = 666


def set_text_prototypes(model: SurgicalSAM, path: Path, *, seed: int = SEED) -> None:
    """Replace the model's prototypes by text embeddings, from a file or from CLIP's weights in a folder.

    Raises
    ------
    CheckpointError
        see `text_embeddings`
    """
    projected = projected_embeddings(text_embeddings(path, model.classes), model.decoder_dim, seed)
    model.prototypes.class_embeddings.weight.data.copy_(projected)


def write_text_prototypes(out: Path, path: Path, classes: ClassSet, embedding_dim: int, *, seed: int = SEED) -> Path:
    """Write the prototypes as a `prototypes_file`: a .safetensors with a vector (D,) per class name.

    Parameters
    ----------
    path : see `text_embeddings`, whose errors are raised
    embedding_dim : D, channels of the image embedding
    """
    projected = projected_embeddings(text_embeddings(path, classes), embedding_dim, seed)
    return write_file(
        out, safetensors.torch.save({name: row.clone() for name, row in zip(classes.names, projected, strict=True)})
    )


def text_embeddings(path: Path, classes: ClassSet) -> Tensor:
    """(C, D) float32: one row per class, in the order of the class set.

    Parameters
    ----------
    path : a .npy of (C, D) in the order of the classes; a .safetensors with one tensor (C, D), or with a tensor (D,) per
        class name; or a folder of CLIP weights, saved by `transformers`

    Raises
    ------
    CheckpointError
        the path cannot be read, or does not fit the classes
    """
    path = Path(path)
    if path.is_dir():
        return clip_text_embeddings(classes.names, path)
    try:
        loaded = safetensors.torch.load_file(path) if path.suffix == ".safetensors" else np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} should hold text embeddings (.npy or .safetensors) or be a folder of CLIP weights; it cannot be read "
            f"({error}). Choose another file or folder."
        ) from error
    rows = _by_name(path, loaded, classes) if isinstance(loaded, Mapping) else torch.from_numpy(np.asarray(loaded))
    if rows.ndim != 2 or len(rows) != len(classes) or not rows.is_floating_point() or not rows.isfinite().all():
        raise CheckpointError(
            f"{path.name} should hold {len(classes)} finite text embeddings, one for each of {', '.join(classes.names)}; "
            f"it has {tuple(rows.shape)} {str(rows.dtype).removeprefix('torch.')}. Create it for these classes."
        )
    return rows.float()


def _by_name(path: Path, loaded: Mapping[str, Tensor], classes: ClassSet) -> Tensor:
    if len(loaded) == 1 and next(iter(loaded.values())).ndim == 2:
        return next(iter(loaded.values()))
    vectors = {plain(name): tensor for name, tensor in loaded.items()}
    missing = [name for name in classes.names if plain(name) not in vectors]
    if missing:
        raise CheckpointError(
            f"{path.name} should hold a text embedding for each class; it has none for {', '.join(missing)} (it has "
            f"{', '.join(list(loaded)[:8])}). Create it for these classes."
        )
    rows = [vectors[plain(name)] for name in classes.names]
    if len({tuple(row.shape) for row in rows}) > 1:
        raise CheckpointError(
            f"The text embeddings of {path.name} should have equal lengths; they differ. Create the file again."
        )
    return torch.stack(rows)


def projected_embeddings(embeddings: Tensor, embedding_dim: int, seed: int = SEED) -> Tensor:
    """Normalise text embeddings (C, T) to length 1 and map them to (C, D), with D channels of the image embedding.

    If T is D, they are only normalised. Otherwise the inner product of every two embeddings is kept: exactly if C is at most
    D; with more classes as closely as D dimensions allow (the largest singular values are kept).
    """
    unit = F.normalize(embeddings.double(), dim=1)
    if unit.shape[1] == embedding_dim:
        return unit.float()
    left, scales, _ = torch.linalg.svd(unit, full_matrices=False)
    coordinates = (left * scales)[:, :embedding_dim]  # (C, r), with the same inner products
    basis = torch.randn(
        embedding_dim, coordinates.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    return (coordinates @ torch.linalg.qr(basis).Q.T).float()


@torch.inference_mode()
def clip_text_embeddings(names: Sequence[str], folder: Path, template: str = TEMPLATE) -> Tensor:
    """CLIP's projected text embeddings of the class names: (C, D) float32.

    Parameters
    ----------
    folder : weights and tokenizer, as written by `CLIPModel.save_pretrained` and `CLIPTokenizer.save_pretrained`
    template : the text for a class, with {} for its name

    Raises
    ------
    CheckpointError
        `transformers` is not installed, or the folder contains no CLIP model
    """
    try:
        from transformers import CLIPTextModelWithProjection, CLIPTokenizer
    except ImportError as error:
        raise CheckpointError(
            "Text embeddings are computed by the library transformers, which is not installed. Install it with: "
            'pip install "surgicalsam-napari[baselines]".'
        ) from error
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        model = CLIPTextModelWithProjection.from_pretrained(folder, local_files_only=True).eval()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, json.JSONDecodeError) as error:
        reason = (str(error).splitlines() or [""])[0][:120]
        raise CheckpointError(
            f"{folder} should hold CLIP's weights and tokenizer, saved by transformers; it cannot be read ({reason}). "
            "Choose another folder, or a file of text embeddings."
        ) from error
    tokens = tokenizer([template.format(name.lower()) for name in names], padding=True, return_tensors="pt")
    return model(**tokens).text_embeds.float()
