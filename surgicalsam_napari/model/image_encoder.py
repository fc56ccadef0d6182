"""The frozen image encoders: SAM's ViT-H, ViT-L and ViT-B, MobileSAM's, and the demo encoder; and how weights are read.

SAM's encoders keep segment-anything's parameter names, so that SAM's checkpoints load, but attend in chunks of rows: the
relative position, which the original adds to the whole 4096 x 4096 attention map of every head, is formed for a few rows
at a time. The result is the same; the memory is a fraction and the time about two thirds (on two CPU cores).
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from surgicalsam_napari.errors import CheckpointError
from surgicalsam_napari.model.demo_encoder import DemoEncoder
from surgicalsam_napari.model.mask_decoder import build_mask_decoder
from surgicalsam_napari.model.segment_anything import ImageEncoderAttention, ImageEncoderViT, PromptEncoder, get_rel_pos

IMAGE_ENCODER_PREFIX = "image_encoder."
PROMPT_ENCODER_PREFIX = "prompt_encoder."
MASK_DECODER_PREFIX = "mask_decoder."

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class EncoderSpec:
    """What the rest of the program needs to know of an image encoder.

    Attributes
    ----------
    id : its name in checkpoints and on the command line
    title : its name for people
    input_size : side in pixels of the padded square it takes
    embedding_shape : (D, h, w) of the image embedding it gives
    mlp_dim : hidden width of the mask decoder's transformer that goes with it
    weights : name of its weights in `zoo.KNOWN_WEIGHTS`; None where the weights come with the checkpoint
    memory_megabytes : rough GPU memory for the weights and one frame in half precision
    """

    id: str
    title: str
    input_size: int
    embedding_shape: tuple[int, int, int]
    mlp_dim: int
    weights: str | None
    memory_megabytes: int


@dataclass(frozen=True)
class ViTSize:
    """The figures in which SAM's three encoders differ."""

    embed_dim: int
    depth: int
    num_heads: int
    global_attn_indexes: tuple[int, ...]


VIT_SIZES = {
    "vit_h": ViTSize(1280, 32, 16, (7, 15, 23, 31)),
    "vit_l": ViTSize(1024, 24, 16, (5, 11, 17, 23)),
    "vit_b": ViTSize(768, 12, 12, (2, 5, 8, 11)),
}


def _sam_spec(encoder_id: str, title: str, memory_megabytes: int) -> EncoderSpec:
    return EncoderSpec(encoder_id, title, 1024, (256, 64, 64), 2048, encoder_id, memory_megabytes)


ENCODERS: dict[str, EncoderSpec] = {
    spec.id: spec
    for spec in (
        _sam_spec("vit_h", "SAM ViT-H", 2000),
        _sam_spec("vit_l", "SAM ViT-L", 1200),
        _sam_spec("vit_b", "SAM ViT-B", 700),
        _sam_spec("mobile_sam", "MobileSAM TinyViT", 250),
        EncoderSpec("demo", "Demo encoder", 256, (128, 32, 32), 512, None, 50),
    )
}


# Building ------------------------------------------------------------------------------------------------------------


def encoder_spec(encoder_id: str) -> EncoderSpec:
    """The encoder of this id; a CheckpointError that lists the known ones if there is none."""
    if encoder_id not in ENCODERS:
        raise CheckpointError(
            f'The image encoder should be one of {", ".join(ENCODERS)}; got "{encoder_id}". '
            "Choose one of these, or update surgicalsam-napari."
        )
    return ENCODERS[encoder_id]


def build_image_encoder(encoder_id: str) -> nn.Module:
    """An image encoder with random weights, in eval mode.

    It takes (B, 3, S, S), normalised and padded as `FrameGeometry.to_input` does, and gives (B, D, h, w); S, D, h and w are
    in `ENCODERS[encoder_id]`. Inside `torch.device("meta")` it costs no memory, and `load_encoder_weights` fills it.

    Raises
    ------
    CheckpointError
        there is no encoder of this id
    """
    spec = encoder_spec(encoder_id)
    if encoder_id == "demo":
        return DemoEncoder(spec.embedding_shape[0], spec.input_size).eval()
    if encoder_id == "mobile_sam":
        from surgicalsam_napari.model.mobile_sam import MobileSAMEncoder

        return MobileSAMEncoder().eval()
    return build_vit_encoder(VIT_SIZES[encoder_id]).eval()


def build_vit_encoder(size: ViTSize, input_size: int = 1024, window_size: int = 14) -> nn.Module:
    """SAM's image encoder with chunked attention; parameter names and values as segment-anything has them."""
    encoder = ImageEncoderViT(
        img_size=input_size,
        embed_dim=size.embed_dim,
        depth=size.depth,
        num_heads=size.num_heads,
        global_attn_indexes=size.global_attn_indexes,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),  # type: ignore[arg-type]
        use_rel_pos=True,
        window_size=window_size,
        out_chans=256,
    )
    for block in encoder.blocks:
        block.attn.__class__ = ChunkedAttention  # the same parameters, another forward
    return encoder


class ChunkedAttention(ImageEncoderAttention):
    """SAM's attention with decomposed relative position, exact, a few rows of queries at a time.

    The relative position of query (y, x) and key (y', x') is a sum of one term in (y, y') and one in (x, x'); their outer
    sum is the additive mask of `scaled_dot_product_attention`, and is never formed for more than `bias_bytes` at once.
    """

    bias_bytes: Mapping[str, int] = {"cpu": 16 << 20, "cuda": 256 << 20, "mps": 256 << 20}

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) to (B, H, W, C); B counts windows in a windowed block."""
        batch, height, width, _ = x.shape
        qkv = self.qkv(x).view(batch, height * width, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)  # (B, heads, H * W, c)
        query = query.unflatten(2, (height, width))
        position_h = get_rel_pos(height, height, self.rel_pos_h).to(query.dtype)  # (H, H, c)
        position_w = get_rel_pos(width, width, self.rel_pos_w).to(query.dtype)
        batches, rows = self.chunk_size(query)
        attended = []
        for batch_slice in slices(batch, batches):
            keys, values = key[batch_slice], value[batch_slice]
            chunks = [
                self.attend(query[batch_slice, :, row_slice], keys, values, position_h[row_slice], position_w)
                for row_slice in slices(height, rows)
            ]
            attended.append(torch.cat(chunks, dim=2))
        attention = torch.cat(attended).transpose(1, 2)  # (B, H * W, heads, c)
        return self.proj(attention.reshape(batch, height, width, -1))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, position_h: Tensor, position_w: Tensor) -> Tensor:
        """Queries (b, heads, r, W, c) over all keys (b, heads, H * W, c) to (b, heads, r * W, c)."""
        bias_h = torch.einsum("bnrwc,rkc->bnrwk", query, position_h)
        bias_w = torch.einsum("bnrwc,wkc->bnrwk", query, position_w)
        bias = (bias_h[..., :, None] + bias_w[..., None, :]).flatten(4).flatten(2, 3)
        return F.scaled_dot_product_attention(query.flatten(2, 3), key, value, attn_mask=bias)

    def chunk_size(self, query: Tensor) -> tuple[int, int]:
        """How many batch entries, and of each how many rows, have a bias within `bias_bytes`."""
        batch, heads, height, width, _ = query.shape
        limit = self.bias_bytes.get(query.device.type, 16 << 20)
        row_bytes = heads * width * height * width * query.element_size()
        rows = min(max(limit // row_bytes, 1), height)
        batches = min(max(limit // (row_bytes * height), 1), batch)
        return batches, rows


def slices(length: int, step: int) -> Iterator[slice]:
    """Consecutive slices of at most `step` that cover `length`."""
    return (slice(start, min(start + step, length)) for start in range(0, length, step))


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
