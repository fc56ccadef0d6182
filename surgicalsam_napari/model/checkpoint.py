"""Checkpoints: our .safetensors files, and the authors' .pth files together with a SAM checkpoint.

A safetensors checkpoint holds the tuned weights. Its metadata hold what is needed to use them: classes, encoder id and
digest, presence threshold, training record. It includes the image encoder only if no other file has it (light's neck).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from surgicalsam_napari.errors import CheckpointError, ClassSetError, DiskSpaceError
from surgicalsam_napari.files import replacing
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.model import zoo
from surgicalsam_napari.model.class_prompt_encoder import ClassPromptEncoder, Prototypes
from surgicalsam_napari.model.device import choose_device
from surgicalsam_napari.model.encoders import ENCODERS, REMOVED_ENCODER, EncoderSpec, refuse_removed_encoder
from surgicalsam_napari.model.image_encoder import (
    build_image_encoder,
    encoder_digest,
    encoder_in_file,
    load_encoder_weights,
    read_weights,
)
from surgicalsam_napari.model.mask_decoder import build_mask_decoder
from surgicalsam_napari.model.pixel_head import PixelHead
from surgicalsam_napari.model.sam_parts import read_sam_prompt_encoder_state, sam_parts_file
from surgicalsam_napari.model.segment_anything import PromptEncoder
from surgicalsam_napari.model.surgical_sam import FALLBACK_PRESENCE_THRESHOLD, SurgicalSAM, build_presence_head
from surgicalsam_napari.untrusted import json_from, plain_file

FORMAT = "surgicalsam-napari checkpoint"
FORMAT_VERSION = 1
BEST_OF_A_RUN = "best.safetensors"
AUTHORS_ENCODER = "vit_h"
WHOLE_PROMPTS = "whole"  # the prompts of the complete prompt encoder; ablations in training use other names
UNTESTED = (
    "{name} was trained with {trained} and is used here with {title}, which imitates it. Nobody has measured how good the "
    "masks of this combination are. To adapt it, correct a few frames and use Learn: it trains a model for {title}."
)
AUTHORS_KEYS = {
    "prototypes_state_dict": "prototypes",
    "prototype_prompt_encoder_state_dict": "class_prompt_encoder",
    "sam_decoder_state_dict": "mask_decoder",
}


@dataclass(frozen=True)
class CheckpointInfo:
    """The metadata of a safetensors checkpoint, read without its weights.

    Attributes
    ----------
    presence_threshold : a class with this presence or more counts as present in the frame
    includes_encoder : whether the file holds the image encoder's weights
    prompts : WHOLE_PROMPTS, or the prompts of an ablated prompt encoder; `load_checkpoint` must be given the same
    """

    path: Path
    name: str
    classes: ClassSet
    encoder_id: str
    encoder_digest: str
    presence_threshold: float
    includes_encoder: bool
    training_record: dict
    prompts: str = WHOLE_PROMPTS


def save_checkpoint(
    path: Path | str, model: SurgicalSAM, *, training_record: dict, half: bool = False, name: str | None = None
) -> Path:
    """Write a complete checkpoint, or nothing.

    Parameters
    ----------
    path : ends in .safetensors
    training_record : how these weights were trained; plain JSON
    half : store floats as float16, at half the size
    name : the name shown in the window; by default the file's name

    Raises
    ------
    CheckpointError, DiskSpaceError
        the folder cannot be written, or the disk is full; an existing file stays unchanged
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise CheckpointError(
            f"A checkpoint's name should end in .safetensors; got {path.name}. Choose a name with that ending."
        )
    state = model.state_dict()
    if ENCODERS[model.encoder_id].weights is not None:
        state = {key: tensor for key, tensor in state.items() if not key.startswith("image_encoder.")}
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}
    if half:
        tensors = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "name": name or path.stem,
        "classes": json.dumps(model.classes.to_json()),
        "encoder_id": model.encoder_id,
        "encoder_digest": model.encoder_digest,
        "presence_threshold": repr(float(model.presence_threshold)),
        "training_record": json.dumps(training_record),
        "prompts": getattr(model.class_prompt_encoder, "prompts", WHOLE_PROMPTS),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            partial.touch()  # gets the usual permissions; safetensors would let only the owner read the file
            permissions = partial.stat().st_mode
            save_file(tensors, partial, metadata)
            partial.chmod(permissions)
    except (OSError, SafetensorError) as error:
        if "space" in str(error):
            raise DiskSpaceError(
                f"No space left to write {path.name}. Free some space on this disk, or save to another one."
            ) from error
        raise CheckpointError(f"{path} cannot be written ({error}). Choose a folder you may write to.") from error
    return path


def read_checkpoint_info(path: Path | str) -> CheckpointInfo:
    """Read a safetensors checkpoint's metadata; a CheckpointError if it is damaged, not ours, or of a newer format."""
    path = zoo.checkpoint_path(path)
    with _opened(path) as file:
        metadata = file.metadata() or {}
        includes_encoder = any(key.startswith("image_encoder.") for key in file.keys())  # noqa: SIM118 (not a dict)
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path.name} is not a SurgicalSAM checkpoint: its header does not name that format. Choose another file."
        )
    try:
        version = int(metadata["format_version"])
        if version > FORMAT_VERSION:
            raise CheckpointError(
                f"{path.name} has checkpoint format {version}; this version reads formats up to {FORMAT_VERSION}. "
                "Update surgicalsam-napari to use it."
            )
        encoder_id = metadata["encoder_id"]
        if encoder_id == REMOVED_ENCODER:
            refuse_removed_encoder(path.name)
        if encoder_id not in ENCODERS:
            raise CheckpointError(
                f'{path.name} needs the encoder "{encoder_id}"; known encoders are {", ".join(ENCODERS)}. '
                "Update surgicalsam-napari, or choose another checkpoint."
            )
        return CheckpointInfo(
            path,
            _own_name(path, metadata),
            ClassSet.from_json(json_from(metadata["classes"])),
            encoder_id,
            metadata["encoder_digest"],
            _finite(metadata["presence_threshold"]),
            includes_encoder,
            json_from(metadata["training_record"]),
            metadata.get("prompts", WHOLE_PROMPTS),
        )
    except (KeyError, ValueError, ClassSetError) as error:
        raise CheckpointError(f"The header of {path.name} is damaged ({error}). Get the file again.") from error


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"the presence threshold is {value}")
    return value


def _own_name(path: Path, metadata: Mapping[str, str]) -> str:
    """The file's name; for the best.safetensors of a run folder, the run's name."""
    return metadata["name"] if path.name == BEST_OF_A_RUN else path.stem


def load_checkpoint(
    path: Path | str,
    *,
    encoder_weights: Path | str | None = None,
    device: str = "auto",
    classes: ClassSet | None = None,
    load_image_encoder: bool = True,
    prompts: str = WHOLE_PROMPTS,
    fast: bool = False,
) -> SurgicalSAM:
    """Load a checkpoint into a model that is ready to predict.

    Parameters
    ----------
    path : our .safetensors, a .pth as the authors publish it, or the name of a bundled checkpoint ("light")
    encoder_weights : the checkpoint of SAM or of a distilled SAM with the image encoder; by default the known weights on
        this disk. A .pth needs it for SAM's prompt encoder even if no image encoder is loaded, and may be used with an
        encoder that was distilled from its own: such a model has a `caution`
    device : auto, cpu, cuda, cuda:1, … or mps
    classes : the class set for a .pth, which has no class names; a .safetensors has its own
    load_image_encoder : False to decode only cached embeddings; this needs neither the encoder's memory nor its file
    prompts : the prompts that the checkpoint must be trained with; a checkpoint with others is refused
    fast : compute in bfloat16; nearly the same masks (`SurgicalSAM.use_fast`)

    Raises
    ------
    CheckpointError
        a file is missing or damaged, has another encoder or class count, or has keys or shapes that do not fit
    DeviceError
        the device does not exist, or has no fast mode
    """
    path = zoo.checkpoint_path(path)
    chosen_device = choose_device(device)
    encoder_file = None if encoder_weights is None else Path(encoder_weights)
    if path.suffix == ".safetensors":
        model = _load_own(path, encoder_file, load_image_encoder, prompts)
    else:
        model = _load_authors(path, encoder_file, classes, load_image_encoder)
    # trained weights give many denormal numbers, which are slow on CPUs
    torch.set_flush_denormal(True)
    model = model.eval().requires_grad_(False).to(chosen_device)
    if fast:
        model.use_fast()
    return model


def _load_own(path: Path, encoder_file: Path | None, load_image_encoder: bool, prompts: str) -> SurgicalSAM:
    info = read_checkpoint_info(path)
    if info.prompts != prompts:
        raise CheckpointError(
            f'{path.name} should have the prompts "{prompts}"; it has "{info.prompts}". Only `surgicalsam experiment` reads '
            "such an ablation. Choose another checkpoint."
        )
    with _opened(path) as file:
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    state = {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    encoder_state = _take(state, "image_encoder")
    encoder: nn.Module | None = None
    digest = info.encoder_digest
    if info.includes_encoder and ENCODERS[info.encoder_id].weights is not None:
        raise CheckpointError(
            f"{path.name} should be tuned on {info.encoder_id}, whose weights are a file of their own, but holds an image "
            "encoder. Get the file again."
        )
    if load_image_encoder and info.includes_encoder:
        encoder = build_image_encoder(info.encoder_id)
        _load_exactly(encoder, encoder_state, path, "image_encoder")
        digest = encoder_digest(encoder.state_dict())
    elif load_image_encoder:
        encoder, digest = _read_encoder(info.encoder_id, encoder_file)
    if digest != info.encoder_digest:
        source = path if info.includes_encoder else encoder_file
        raise CheckpointError(
            f"{path.name} was tuned on the {info.encoder_id} encoder {info.encoder_digest}; {source} holds {digest}. "
            "Choose the encoder weights it was tuned on."
        )
    model = _assemble(path, state, info.classes, info.encoder_id, digest, encoder, info.presence_threshold)
    model.name = info.name
    return model


def _load_authors(path: Path, encoder_file: Path | None, classes: ClassSet | None, load_image_encoder: bool) -> SurgicalSAM:
    weights = read_weights(path)
    missing = sorted(AUTHORS_KEYS.keys() - weights.keys())
    if missing:
        raise CheckpointError(
            f"{path.name} is not a SurgicalSAM checkpoint: it lacks {', '.join(missing)}. Choose a .pth published by the "
            "authors, or a .safetensors of this program."
        )
    state = {
        f"{part}.{key}": tensor
        for authors_part, part in AUTHORS_KEYS.items()
        for key, tensor in weights[authors_part].items()
    }
    if classes is None:
        raise CheckpointError(
            f"{path.name} holds no class names, and one id means different instruments in different class sets. "
            "Give its class set: endovis2018, endovis2017, or a YAML file."
        )
    encoder_id, encoder_file = _encoder_for_authors(path, encoder_file)
    encoder, digest = _read_encoder(encoder_id, encoder_file) if load_image_encoder else (None, "")
    prompt_state = read_sam_prompt_encoder_state(sam_parts_file(encoder_file, encoder_id))
    state |= {f"prompt_encoder.{key}": tensor for key, tensor in prompt_state.items()}
    model = _assemble(path, state, classes, encoder_id, digest, encoder)
    if encoder_id != AUTHORS_ENCODER:
        trained, title = ENCODERS[AUTHORS_ENCODER].title, ENCODERS[encoder_id].title
        model.caution = UNTESTED.format(name=path.name, trained=trained, title=title)
    return model


def _encoder_for_authors(path: Path, file: Path | None) -> tuple[str, Path]:
    """The image encoder for an authors' .pth, and its file: SAM ViT-H's, or one that was distilled from it."""
    own = ENCODERS[AUTHORS_ENCODER]
    if file is None:
        file = zoo.find_weights(AUTHORS_ENCODER)
        if file is None:
            raise CheckpointError(
                f"{path.name} also needs SAM's own checkpoint ({zoo.KNOWN_WEIGHTS[AUTHORS_ENCODER].file_name}). "
                f"Download it with `surgicalsam models download {AUTHORS_ENCODER}`, or choose the file. The file of an "
                "encoder that imitates SAM's, such as MobileSAM's, also works, but is untested."
            )
        return AUTHORS_ENCODER, file
    encoder_id = encoder_in_file(file) or AUTHORS_ENCODER  # reading it reports what is wrong
    if AUTHORS_ENCODER not in (encoder_id, ENCODERS[encoder_id].distilled_from):
        imitations = ", ".join(spec.title for spec in ENCODERS.values() if spec.distilled_from == AUTHORS_ENCODER)
        raise CheckpointError(
            f"{path.name} was trained with {own.title}; {file.name} holds {ENCODERS[encoder_id].title}, whose features are "
            f"others. Choose the weights of {own.title}, or of an encoder that imitates it: {imitations}."
        )
    return encoder_id, file


def _read_encoder(encoder_id: str, file: Path | None) -> tuple[nn.Module, str]:
    file = file or zoo.find_weights(encoder_id)
    if file is None:
        file_name = zoo.weights_named(encoder_id).file_name
        raise CheckpointError(f"The encoder weights {file_name} are not on this machine. {zoo.how_to_get(encoder_id)}")
    encoder = build_image_encoder(encoder_id)
    return encoder, load_encoder_weights(encoder, file, encoder_id)


def build_parts(spec: EncoderSpec, class_count: int, tokens_per_class: int = 2, **hidden: int) -> dict[str, nn.Module]:
    """Untrained parts of a model for this encoder: prototypes, class_prompt_encoder, mask_decoder, prompt_encoder.

    Parameters
    ----------
    hidden : dense_hidden_dim and sparse_hidden_dim, if they differ from the paper's 128
    """
    dim, (height, width) = spec.decoder_dim, spec.embedding_shape[1:]
    return {
        "prototypes": Prototypes(class_count, dim),
        "class_prompt_encoder": ClassPromptEncoder(dim, (height, width), tokens_per_class, **hidden),
        "mask_decoder": build_mask_decoder(dim, spec.mlp_dim),
        "prompt_encoder": PromptEncoder(dim, (height, width), (spec.input_size, spec.input_size), mask_in_chans=16),
    }


def _assemble(
    path: Path,
    state: dict[str, Tensor],
    classes: ClassSet,
    encoder_id: str,
    digest: str,
    encoder: nn.Module | None,
    presence_threshold: float = FALLBACK_PRESENCE_THRESHOLD,
) -> SurgicalSAM:
    """Build the model from the parts that the tensors belong to, and load every tensor."""
    spec = ENCODERS[encoder_id]
    prototype_count, *dims = _sizes(path, state)
    if prototype_count != len(classes):
        raise CheckpointError(
            f"{path.name} knows {prototype_count} classes, and the class set {classes.name} has {len(classes)}. "
            "Choose the class set it was trained on."
        )
    tokens_per_class, dense_hidden_dim, sparse_hidden_dim = dims
    with torch.device("meta"):  # every tensor comes from the file, so none needs random values first
        parts = build_parts(
            spec, len(classes), tokens_per_class, dense_hidden_dim=dense_hidden_dim, sparse_hidden_dim=sparse_hidden_dim
        )
        if any(key.startswith("sam_mask_decoder.") for key in state):
            parts["sam_mask_decoder"] = build_mask_decoder(spec.decoder_dim, spec.mlp_dim)
        if any(key.startswith("presence_head.") for key in state):
            parts["presence_head"] = build_presence_head(spec.decoder_dim)
        if any(key.startswith("pixel_head.") for key in state):
            parts["pixel_head"] = PixelHead(spec.decoder_dim, spec.pyramid, len(classes))
    for name, part in parts.items():
        _load_exactly(part, _take(state, name), path, name)
    if state:
        raise CheckpointError(
            f"{path.name} has unknown keys: {_listed(state)}. Update surgicalsam-napari, or choose another checkpoint."
        )
    return SurgicalSAM(
        classes,
        encoder_id,
        digest,
        image_encoder=encoder,
        presence_threshold=presence_threshold,
        name=path.stem,
        **parts,  # type: ignore[arg-type]
    )


def _sizes(path: Path, state: Mapping[str, Tensor]) -> list[int]:
    """Class count, tokens per class, r_D and r_S, from the shapes of the tensors."""
    sources = (
        "prototypes.class_embeddings",
        *(f"class_prompt_encoder.{n}" for n in ("sparse_fc_2", "dense_fc_1", "sparse_fc_1")),
    )
    missing = [f"{source}.weight" for source in sources if f"{source}.weight" not in state]
    if missing:
        raise CheckpointError(
            f"{path.name} lacks {', '.join(missing)}. It is not a complete SurgicalSAM checkpoint. Get the file again."
        )
    return [state[f"{source}.weight"].shape[0] for source in sources]


def _take(state: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    """Remove and return the tensors of one part, without its prefix."""
    prefix = f"{part}."
    return {key.removeprefix(prefix): state.pop(key) for key in list(state) if key.startswith(prefix)}


def _load_exactly(module: nn.Module, state: Mapping[str, Tensor], path: Path, part: str) -> None:
    """Load a state dict; every key and shape must fit."""
    expected = module.state_dict()
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    misshapen = [key for key in sorted(expected.keys() & state.keys()) if expected[key].shape != state[key].shape]
    problems = []
    if missing:
        problems.append(f"{len(missing)} keys are missing ({_listed(missing)})")
    if extra:
        problems.append(f"{len(extra)} are not known ({_listed(extra)})")
    if misshapen:
        key = misshapen[0]
        actual, wanted = tuple(state[key].shape), tuple(expected[key].shape)
        problems.append(f"{len(misshapen)} have another shape ({key} is {actual}, should be {wanted})")
    if problems:
        raise CheckpointError(
            f"{path.name} does not fit as {part}: {', '.join(problems)}. Choose a checkpoint for this encoder."
        )
    module.load_state_dict(dict(state), assign=True)


def _listed(keys: object) -> str:
    names = list(keys)  # type: ignore[call-overload]
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


@contextmanager
def _opened(path: Path) -> Iterator:
    """Open the safetensors file; a CheckpointError if it is missing or damaged."""
    try:
        with safe_open(plain_file(path), framework="pt") as file:
            yield file
    except FileNotFoundError as error:
        raise CheckpointError(f"There is no checkpoint {path}. Choose a .safetensors or .pth file.") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path.name} is damaged or only partly downloaded ({error}). Get the file again.") from error
