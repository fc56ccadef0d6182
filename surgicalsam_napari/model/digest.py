"""The digest that identifies a checkpoint, over everything that its predictions depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from itertools import chain
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from surgicalsam_napari.model.surgical_sam import SurgicalSAM


def checkpoint_record(model: SurgicalSAM) -> dict:
    """What the project stores about a checkpoint that predicted in it; two with the same `digest` predict the same."""
    return {
        "digest": _weights_digest(model),
        "name": model.name,
        "encoder_id": model.encoder_id,
        "encoder_digest": model.encoder_digest,
        "classes": list(model.classes.names),
    }


_digests: WeakKeyDictionary[SurgicalSAM, tuple[Hashable, str]] = WeakKeyDictionary()


def _weights_digest(model: SurgicalSAM) -> str:
    """Hash of everything that a prediction depends on; computed again only if the weights change."""
    weights = chain(model.parameters(), model.buffers())
    # torch counts in-place changes of a tensor; a tensor that replaces it has another address
    state = (
        model.presence_threshold,
        model.is_fast,
        model.classes.names,
        tuple((w.data_ptr(), w._version) for w in weights),
    )
    known = _digests.get(model)
    if known is None or known[0] != state:
        known = _digests[model] = state, _hashed_weights(model)
    return known[1]


def _hashed_weights(model: SurgicalSAM) -> str:
    """Hash of the weights; the image encoder is represented by its own digest."""
    digest = hashlib.sha256(f"{model.encoder_digest} {model.presence_threshold} {model.classes.names}".encode())
    if model.is_fast:
        digest.update(b"fast")
    for name, tensor in sorted(model.state_dict().items()):
        if not name.startswith("image_encoder."):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().numpy().tobytes())
    return digest.hexdigest()[:16]
