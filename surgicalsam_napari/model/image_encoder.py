"""Building the frozen image encoders of `encoders.ENCODERS`, and reading their weights."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from surgicalsam_napari.errors import CheckpointError
from surgicalsam_napari.model.encoders import ENCODERS, encoder_spec
from surgicalsam_napari.model.mask_decoder import build_mask_decoder
from surgicalsam_napari.model.segment_anything import PromptEncoder

IMAGE_ENCODER_PREFIX = "image_encoder."
PROMPT_ENCODER_PREFIX = "prompt_encoder."
MASK_DECODER_PREFIX = "mask_decoder."

Shapes = Mapping[str, tuple[int, ...]]


# Building ------------------------------------------------------------------------------------------------------------


def build_image_encoder(encoder_id: str) -> nn.Module:
    """An image encoder with random weights, in eval mode.

    It takes (B, 3, S, S), normalised and padded as `FrameGeometry.to_input` does, and gives (B, D, h, w); S, D, h and w are
    in `ENCODERS[encoder_id]`. Inside `torch.device("meta")` it costs no memory, and `load_encoder_weights` fills it.

    Raises
    ------
    CheckpointError
        there is no encoder of this id
    """
    return encoder_spec(encoder_id).build().eval()


# Reading weights -----------------------------------------------------------------------------------------------------


def read_weights(path: Path | str) -> dict[str, Any]:
    """All tensors of a weights file, on the CPU, memory-mapped where the format allows it.

    A `.safetensors` file is read as such, anything else as PyTorch's `.pth` with `weights_only=True`: no code in the file
    is ever run. What is not a tensor (an epoch, a name) is left out.

    Returns
    -------
    Tensors by name; where the file holds dictionaries of tensors (as the authors' do), these by name

    Raises
    ------
    CheckpointError
        the file is missing, cut short, holds more than weights, or is no weights file at all
    """
    path = Path(path)
    try:
        start = _file_start(path)
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        return _read_pth(path, start)
    except safetensors.SafetensorError as error:
        raise CheckpointError(
            f"{path.name} should be a safetensors file; it is damaged or cut short ({_first_line(error)}). Fetch it again."
        ) from error
    except OSError as error:
        reason = error.strerror or _first_line(error)
        raise CheckpointError(
            f"{path} should be a weights file; it cannot be read ({reason}). Choose another file."
        ) from error


def _file_start(path: Path) -> bytes:
    if not path.is_file():
        found = "a folder lies there" if path.is_dir() else "there is no such file"
        raise CheckpointError(f"{path} should be a weights file; {found}. Choose a .pth, .pt or .safetensors file.")
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise CheckpointError(f"{path.name} should be a weights file; it is empty. Fetch it again.")
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise CheckpointError(
            f"{path.name} should be a weights file; it is a web page saved under that name. Download the file itself again."
        )
    return start


def _read_pth(path: Path, start: bytes) -> dict[str, Any]:
    is_zip = start.startswith(b"PK\x03\x04")
    if not is_zip and not start.startswith(b"\x80"):  # torch's formats since 1.6 and before
        raise CheckpointError(
            f"{path.name} should be a PyTorch checkpoint; it does not start like one. "
            "Choose a .pth, .pt or .safetensors file."
        )
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path.name} should hold weights alone; it holds other Python objects, which could run code and were not "
            "loaded. Get the weights from their authors, or save them as safetensors."
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"{path.name} should be a whole PyTorch checkpoint; its {path.stat().st_size:,} bytes are damaged or cut short, "
            "as by a download that stopped. Fetch it again."
        ) from error
    return _weights_alone(path, loaded)


def _weights_alone(path: Path, loaded: Any) -> dict[str, Any]:
    weights = _keep_tensors(loaded) if isinstance(loaded, Mapping) else {}
    if not weights:
        found = "dictionary without tensors" if isinstance(loaded, Mapping) else type(loaded).__name__
        raise CheckpointError(
            f"{path.name} should hold a dictionary of named weights; it holds a {found}. Choose another file."
        )
    return weights


def _keep_tensors(values: Mapping[Any, Any]) -> dict[str, Any]:
    """The tensors, and the dictionaries that hold some."""
    kept = {str(name): _keep_tensors(value) if isinstance(value, Mapping) else value for name, value in values.items()}
    return {name: value for name, value in kept.items() if isinstance(value, Tensor) or (isinstance(value, dict) and value)}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


# Checking and loading ------------------------------------------------------------------------------------------------


def state_shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor, by name."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def describe_mismatch(expected: Shapes, found: Shapes) -> str:
    """In one line what is missing, extra or of another shape; an empty string where all agree."""
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    misshapen = [
        f"{name} is {found[name]} and should be {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    parts = [
        f"{len(names)} {what} ({', '.join(names[:2])}{', …' if len(names) > 2 else ''})"
        for names, what in ((missing, "missing"), (extra, "not expected"), (misshapen, "of another shape"))
        if names
    ]
    return "; ".join(parts)


@cache
def encoder_shapes(encoder_id: str) -> Shapes:
    """Names and shapes of an encoder's state dict, without allocating it."""
    with torch.device("meta"):
        return state_shapes(build_image_encoder(encoder_id).state_dict())


def detect_encoder(shapes: Shapes) -> str | None:
    """The id of the encoder that most of these names and shapes belong to; None if they fit none."""

    def agreement(encoder_id: str) -> float:
        expected = encoder_shapes(encoder_id)
        return sum(shapes.get(name) == shape for name, shape in expected.items()) / len(expected)

    best = max(ENCODERS, key=agreement)
    return best if agreement(best) > 0.5 else None


def load_encoder_weights(encoder: nn.Module, path: Path | str, encoder_id: str) -> str:
    """Fill an encoder from a SAM or MobileSAM checkpoint, or from any file with its keys under `image_encoder.`.

    Every key and shape is checked before anything is changed. An encoder on the meta device is given memory on the CPU.

    Returns
    -------
    The encoder's digest (see `encoder_digest`), by which stored embeddings are keyed

    Raises
    ------
    CheckpointError
        the file cannot be read, or holds another encoder, or not all of this one
    """
    path = Path(path)
    weights = read_weights(path)
    state = with_prefix_removed(weights, IMAGE_ENCODER_PREFIX)
    check_encoder_state(state, encoder_id, path.name)
    on_meta = any(parameter.is_meta for parameter in encoder.parameters())
    if on_meta:
        state = {name: tensor.clone() for name, tensor in state.items()}  # off the mapped file
    encoder.load_state_dict(state, assign=on_meta)
    return encoder_digest(state)


def with_prefix_removed(weights: Mapping[str, Any], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with the prefix, under the rest of their names."""
    return {
        name.removeprefix(prefix): value
        for name, value in weights.items()
        if name.startswith(prefix) and isinstance(value, Tensor)
    }


def check_encoder_state(state: Mapping[str, Tensor], encoder_id: str, file_name: str) -> None:
    """A CheckpointError unless these are the names and shapes of this encoder; says which encoder they are of."""
    spec = encoder_spec(encoder_id)
    if not state:
        raise CheckpointError(
            f"{file_name} should hold the weights of {spec.title} under {IMAGE_ENCODER_PREFIX}*; it holds none. "
            f"Choose the checkpoint that has {spec.title}."
        )
    found = state_shapes(state)
    mismatch = describe_mismatch(encoder_shapes(encoder_id), found)
    if not mismatch:
        return
    detected = detect_encoder(found)
    if detected is not None and detected != encoder_id:
        raise CheckpointError(
            f"{file_name} holds the image encoder {ENCODERS[detected].title}; {spec.title} is expected. "
            f"Choose the weights of {spec.title}, or a checkpoint trained with {ENCODERS[detected].title}."
        )
    raise CheckpointError(
        f"{file_name} should hold all {len(encoder_shapes(encoder_id))} tensors of {spec.title}; found {mismatch}. "
        "Fetch the file again, or choose another."
    )


def encoder_digest(state_dict: Mapping[str, Tensor]) -> str:
    """Sixteen hexadecimal digits that name these very weights: SHA-256 over sorted names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(state_dict):
        tensor = state_dict[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def read_sam_prompt_encoder_state(path: Path | str) -> dict[str, Tensor]:
    """SAM's prompt encoder from a SAM checkpoint: `prompt_encoder.*` with the prefix removed, every key and shape checked.

    Raises
    ------
    CheckpointError
        the file cannot be read, or has no whole prompt encoder
    """
    state = with_prefix_removed(read_weights(Path(path)), PROMPT_ENCODER_PREFIX)
    point = state.get("not_a_point_embed.weight")
    dim = point.shape[-1] if point is not None and point.ndim == 2 else 256
    with torch.device("meta"):  # grid and image size are in no parameter's shape
        expected = PromptEncoder(dim, image_embedding_size=(64, 64), input_image_size=(1024, 1024), mask_in_chans=16)
    return _checked_part(Path(path), "prompt encoder", PROMPT_ENCODER_PREFIX, state, expected)


def read_sam_mask_decoder_state(path: Path | str) -> dict[str, Tensor]:
    """SAM's mask decoder from a SAM checkpoint, as `read_sam_prompt_encoder_state` reads the prompt encoder."""
    state = with_prefix_removed(read_weights(Path(path)), MASK_DECODER_PREFIX)
    with torch.device("meta"):
        expected = build_mask_decoder()
    return _checked_part(Path(path), "mask decoder", MASK_DECODER_PREFIX, state, expected)


def _checked_part(path: Path, part: str, prefix: str, state: dict[str, Tensor], expected: nn.Module) -> dict[str, Tensor]:
    mismatch = describe_mismatch(state_shapes(expected.state_dict()), state_shapes(state))
    if mismatch:
        raise CheckpointError(
            f"{path.name} should hold SAM's {part} under {prefix}*; found {mismatch}. Choose a SAM or MobileSAM checkpoint."
        )
    return state
