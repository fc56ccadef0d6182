"""Build the frozen image encoders of `encoders.ENCODERS`, and read their weights."""

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

IMAGE_ENCODER_PREFIX = "image_encoder."

Shapes = Mapping[str, tuple[int, ...]]


# Building ------------------------------------------------------------------------------------------------------------


def build_image_encoder(encoder_id: str) -> nn.Module:
    """An image encoder with random weights, in eval mode.

    It maps (B, 3, S, S), normalised and padded as `FrameGeometry.to_input` does, to (B, D, h, w); S, D, h and w are in
    `ENCODERS[encoder_id]`. Inside `torch.device("meta")` it uses no memory, and `load_encoder_weights` fills it.

    Raises
    ------
    CheckpointError
        there is no encoder with this id
    """
    return encoder_spec(encoder_id).build().eval()


# Reading weights -----------------------------------------------------------------------------------------------------


def read_weights(path: Path | str) -> dict[str, Any]:
    """Read all tensors of a weights file, on the CPU, memory-mapped if the format allows it.

    Every file that is not a `.safetensors` is read as PyTorch's `.pth` with `weights_only=True`: code in the file is
    never run. Values that are not tensors (an epoch, a name) are skipped.

    Returns
    -------
    Tensors by name; if the file holds dictionaries of tensors (as the authors' files do), these by name

    Raises
    ------
    CheckpointError
        the file is missing or incomplete, holds more than weights, or is not a weights file
    """
    path = Path(path)
    try:
        start = _file_start(path)
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        return _read_pth(path, start)
    except safetensors.SafetensorError as error:
        raise CheckpointError(
            f"{path.name} should be a safetensors file; it is damaged or incomplete ({_first_line(error)}). "
            "Download it again."
        ) from error
    except OSError as error:
        reason = error.strerror or _first_line(error)
        raise CheckpointError(
            f"{path} should be a weights file; it cannot be read ({reason}). Choose another file."
        ) from error


def _file_start(path: Path) -> bytes:
    if not path.is_file():
        problem = "it is a folder" if path.is_dir() else "there is no such file"
        raise CheckpointError(f"{path} should be a weights file; {problem}. Choose a .pth, .pt or .safetensors file.")
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise CheckpointError(f"{path.name} should be a weights file; it is empty. Download it again.")
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise CheckpointError(
            f"{path.name} should be a weights file; it is a saved web page. Download the weights file itself."
        )
    return start


def _read_pth(path: Path, start: bytes) -> dict[str, Any]:
    is_zip = start.startswith(b"PK\x03\x04")
    if not is_zip and not start.startswith(b"\x80"):  # torch's formats since 1.6 and before
        raise CheckpointError(
            f"{path.name} should be a PyTorch checkpoint; its first bytes are not those of one. "
            "Choose a .pth, .pt or .safetensors file."
        )
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path.name} should hold only weights; it holds other Python objects, which could run code and were not "
            "loaded. Get the weights from their authors, or save them as safetensors."
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"{path.name} should be a complete PyTorch checkpoint; its {path.stat().st_size:,} bytes are damaged or "
            "incomplete, as after an interrupted download. Download it again."
        ) from error
    return _only_weights(path, loaded)


def _only_weights(path: Path, loaded: Any) -> dict[str, Any]:
    weights = _keep_tensors(loaded) if isinstance(loaded, Mapping) else {}
    if not weights:
        content = "dictionary without tensors" if isinstance(loaded, Mapping) else type(loaded).__name__
        raise CheckpointError(
            f"{path.name} should hold a dictionary of named weights; it holds a {content}. Choose another file."
        )
    return weights


def _keep_tensors(values: Mapping[Any, Any]) -> dict[str, Any]:
    """The tensors, and the dictionaries that hold tensors."""
    kept = {str(name): _keep_tensors(value) if isinstance(value, Mapping) else value for name, value in values.items()}
    return {name: value for name, value in kept.items() if isinstance(value, Tensor) or (isinstance(value, dict) and value)}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


# Checking and loading ------------------------------------------------------------------------------------------------


def state_shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor, by name."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def describe_mismatch(expected: Shapes, actual: Shapes) -> str:
    """One line that names the tensors that are missing, extra or of another shape; an empty string if all agree."""
    missing = [name for name in expected if name not in actual]
    extra = [name for name in actual if name not in expected]
    misshapen = [
        f"{name} is {actual[name]} and should be {shape}"
        for name, shape in expected.items()
        if name in actual and actual[name] != shape
    ]
    parts = [
        f"{len(names)} {problem} ({', '.join(names[:2])}{', …' if len(names) > 2 else ''})"
        for names, problem in ((missing, "missing"), (extra, "not expected"), (misshapen, "of another shape"))
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


def encoder_in_file(path: Path | str) -> str | None:
    """The id of the image encoder in a weights file; None if it holds no known one.

    Names and shapes decide; between encoders that have the same (MobileSAM and TinySAM), the file's name.

    Raises
    ------
    CheckpointError
        the file cannot be read
    """
    path = Path(path)
    found = detect_encoder(state_shapes(with_prefix_removed(read_sam_weights(path), IMAGE_ENCODER_PREFIX)))
    if found is None:
        return None
    letters = path.stem.lower().replace("_", "").replace("-", "")
    alike = (id for id in ENCODERS if encoder_shapes(id) == encoder_shapes(found))
    return next((id for id in alike if id.replace("_", "") in letters), found)


def read_sam_weights(path: Path | str) -> dict[str, Any]:
    """As `read_weights`, without the dictionary `state_dict` that some files have around all weights."""
    weights = read_weights(path)
    inner = weights.get("state_dict")
    return inner if isinstance(inner, dict) else weights


def load_encoder_weights(encoder: nn.Module, path: Path | str, encoder_id: str) -> str:
    """Fill an encoder from a checkpoint of SAM or a distilled SAM, or from any file with its keys under `image_encoder.`.

    Every key and shape is checked before anything changes. An encoder on the meta device gets memory on the CPU.

    Returns
    -------
    The encoder's digest (see `encoder_digest`), the key of stored embeddings

    Raises
    ------
    CheckpointError
        the file cannot be read, or holds another encoder, or only a part of this one
    """
    path = Path(path)
    state = with_prefix_removed(read_sam_weights(path), IMAGE_ENCODER_PREFIX)
    check_encoder_state(state, encoder_id, path.name)
    on_meta = any(parameter.is_meta for parameter in encoder.parameters())
    if on_meta:
        state = {name: tensor.clone() for name, tensor in state.items()}  # independent of the mapped file
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
    """A CheckpointError unless these are the names and shapes of this encoder; it names the encoder that they fit."""
    spec = encoder_spec(encoder_id)
    if not state:
        raise CheckpointError(
            f"{file_name} should hold the weights of {spec.title} under {IMAGE_ENCODER_PREFIX}*; it holds none. "
            f"Choose a checkpoint with {spec.title}."
        )
    shapes = state_shapes(state)
    mismatch = describe_mismatch(encoder_shapes(encoder_id), shapes)
    if not mismatch:
        return
    detected = detect_encoder(shapes)
    if detected is not None and detected != encoder_id:
        raise CheckpointError(
            f"{file_name} holds the image encoder {ENCODERS[detected].title}; {spec.title} is expected. "
            f"Choose the weights of {spec.title}, or a checkpoint trained with {ENCODERS[detected].title}."
        )
    raise CheckpointError(
        f"{file_name} should hold all {len(encoder_shapes(encoder_id))} tensors of {spec.title}; found {mismatch}. "
        "Download the file again, or choose another."
    )


def encoder_digest(state_dict: Mapping[str, Tensor]) -> str:
    """Sixteen hexadecimal digits that identify these weights: SHA-256 over sorted names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(state_dict):
        tensor = state_dict[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
