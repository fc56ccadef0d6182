"""The model that a training starts from, its classes, and its tuned weights (4.65 million with SAM)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from surgicalsam_napari.errors import CheckpointError, TrainingError
from surgicalsam_napari.instruments import ClassSet, plain, same_classes
from surgicalsam_napari.model import zoo
from surgicalsam_napari.model.checkpoint import build_parts, load_checkpoint
from surgicalsam_napari.model.class_prompt_encoder import ClassPromptEncoder, Prototypes
from surgicalsam_napari.model.device import choose_device
from surgicalsam_napari.model.encoders import ENCODERS
from surgicalsam_napari.model.image_encoder import build_image_encoder, load_encoder_weights, read_weights
from surgicalsam_napari.model.sam_parts import read_sam_mask_decoder_state, read_sam_prompt_encoder_state, sam_parts_file
from surgicalsam_napari.model.segment_anything import PromptEncoder
from surgicalsam_napari.model.surgical_sam import SurgicalSAM, build_presence_head
from surgicalsam_training.config import TrainingConfig
from surgicalsam_training.data.training_data import TrainingData
from surgicalsam_training.loop.ablation import ablate, left_out_parts

TUNED = ("prototypes", "class_prompt_encoder", "mask_decoder", "presence_head")


def starting_model(config: TrainingConfig, classes: ClassSet | None = None) -> SurgicalSAM:
    """The checkpoint to tune (default: the bundled one), or SAM's decoder with new prototypes and a new prompt encoder.

    Parameters
    ----------
    classes : needed to start from SAM, which has no classes, or from an authors' .pth, which does not name its classes

    Raises
    ------
    CheckpointError, DeviceError, TrainingError
        weights are missing or do not fit, or there are no classes
    """
    if config.encoder is not None:
        if classes is None:
            raise TrainingError("A training that starts from SAM needs classes, but none are given. Name them (classes).")
        return ablate(_model_on_sam(config, classes), config)
    model = load_checkpoint(
        config.checkpoint or zoo.bundled_checkpoint(),
        encoder_weights=config.encoder_weights,
        device=config.device,
        classes=classes if classes is None or config.checkpoint is None else _named_by(classes, config.checkpoint),
    )
    model.pixel_head = None  # it would hide what the training changes
    return ablate(model, config)


def _named_by(classes: ClassSet, path: Path) -> ClassSet:
    """The names of the classes in an authors' .pth: the first of the data's, for those that a person added come behind."""
    prototypes = read_weights(path).get("prototypes_state_dict", {}).get("class_embeddings.weight")
    if path.suffix == ".safetensors":  # it names its own
        return classes
    count = len(classes) if prototypes is None else len(prototypes)
    return ClassSet(classes.name, classes.classes[:count])


def _model_on_sam(config: TrainingConfig, classes: ClassSet) -> SurgicalSAM:
    encoder_id = cast(str, config.encoder)
    spec = ENCODERS[encoder_id]
    torch.manual_seed(config.seed)
    parts = build_parts(
        spec,
        len(classes),
        config.tokens_per_class,
        dense_hidden_dim=config.dense_hidden_dim,
        sparse_hidden_dim=config.sparse_hidden_dim,
    )
    if spec.is_bundled:  # no SAM exists for it: the bundled checkpoint contains the decoder for points
        bundled = load_checkpoint(zoo.bundled_checkpoint(), device="cpu")
        assert bundled.sam_mask_decoder is not None
        encoder, digest = bundled.image_encoder, bundled.encoder_digest
        prompt_state, decoder_state = bundled.prompt_encoder.state_dict(), bundled.sam_mask_decoder.state_dict()
    else:
        file = _encoder_file(config, encoder_id)
        encoder = build_image_encoder(encoder_id)
        digest = load_encoder_weights(encoder, file, encoder_id)
        complete = sam_parts_file(file, encoder_id)
        prompt_state, decoder_state = read_sam_prompt_encoder_state(complete), read_sam_mask_decoder_state(complete)
    parts["prompt_encoder"].load_state_dict(prompt_state)
    parts["mask_decoder"].load_state_dict(decoder_state)
    _copy_point_embeddings(
        cast(PromptEncoder, parts["prompt_encoder"]), cast(ClassPromptEncoder, parts["class_prompt_encoder"])
    )
    model = SurgicalSAM(classes, encoder_id, digest, image_encoder=encoder, name="untrained", **parts)  # type: ignore[arg-type]
    return model.eval().requires_grad_(False).to(choose_device(config.device))


def _copy_point_embeddings(prompt_encoder: PromptEncoder, class_prompt_encoder: ClassPromptEncoder) -> None:
    """Mark other classes with SAM's negative and the prompted class with its positive point embedding."""
    for index, marks in enumerate(class_prompt_encoder.pn_cls_embeddings):
        weight = cast(nn.Embedding, marks).weight
        weight.data.copy_(prompt_encoder.point_embeddings[index].weight.expand_as(weight))


def _encoder_file(config: TrainingConfig, encoder_id: str) -> Path:
    file = config.encoder_weights or zoo.find_weights(encoder_id)
    if file is None:
        raise CheckpointError(
            f"Starting from {ENCODERS[encoder_id].title} needs its weights ({zoo.weights_named(encoder_id).file_name}). "
            + zoo.how_to_get(encoder_id)
        )
    return file


def known_classes(config: TrainingConfig) -> ClassSet | None:
    """The classes of the checkpoint to tune; None for a training that starts from SAM, or from an authors' .pth."""
    from surgicalsam_napari.model.checkpoint import read_checkpoint_info

    path = config.checkpoint or zoo.bundled_checkpoint()
    if config.encoder is not None or path.suffix != ".safetensors":
        return None
    return read_checkpoint_info(path).classes


def has_own_classes(data: TrainingData, known: ClassSet | None) -> bool:
    """Whether the class sets of the data have no class of the start checkpoint: then its classes would only compete.

    Parameters
    ----------
    known : the classes of the checkpoint; None if it names none
    """
    return known is not None and not any(same_classes(classes, known) for classes in data.class_sets)


def replace_classes(model: SurgicalSAM, classes: ClassSet, class_embeddings: Mapping[int, Tensor]) -> None:
    """Give the model these classes instead of its own; their prototypes are the mean embeddings inside their masks.

    Parameters
    ----------
    class_embeddings : by class id, (D,)

    Raises
    ------
    TrainingError
        a class has no class embedding: no training frame shows it
    """
    dim = model.prototypes.class_embeddings.weight.shape[1]
    model.prototypes = Prototypes(0, dim).to(model.device)
    add_classes(model, classes, class_embeddings)


def add_classes(model: SurgicalSAM, classes: ClassSet, class_embeddings: Mapping[int, Tensor]) -> None:
    """Add a prototype row for every new class of `classes`; the existing rows do not change.

    Parameters
    ----------
    classes : the model's classes in their order, then the new ones
    class_embeddings : by class id, (D,), the mean embedding inside the new class's masks

    Raises
    ------
    TrainingError
        a new class has no class embedding: no training frame shows it
    """
    old = model.prototypes.class_embeddings.weight
    new = classes.classes[len(old) :]
    missing = [instrument.name for instrument in new if instrument.id not in class_embeddings]
    if missing:
        raise TrainingError(
            f"A new class needs at least one frame to learn from; {', '.join(missing)} has none in the training data. "
            "Correct a frame that shows it, or leave out the class."
        )
    rows = [old, *(class_embeddings[instrument.id].to(old)[None] for instrument in new)]
    prototypes = Prototypes(len(classes), old.shape[1]).requires_grad_(False)
    prototypes.class_embeddings.weight.data = torch.cat(rows).detach().clone()
    model.prototypes, model.classes = prototypes.to(old.device), classes


def fix_prototypes(model: SurgicalSAM, class_embeddings: Mapping[int, Tensor]) -> None:
    """Set the prototypes to these vectors (D,) by class id; a class without a vector (no frame shows it) gets zeros."""
    weight = model.prototypes.class_embeddings.weight
    rows = [class_embeddings.get(class_id, torch.zeros(weight.shape[1])).to(weight) for class_id in model.classes.ids]
    weight.data = torch.stack(rows).detach().clone()


def read_prototypes(path: Path, classes: ClassSet, embedding_dim: int) -> dict[int, Tensor]:
    """Read fixed prototypes: by class id, the vectors (D,) of a .safetensors file with one vector per class name.

    Raises
    ------
    TrainingError
        the file cannot be read, has no vector for a class, or has vectors of another length
    """
    try:
        vectors = {plain(name): vector.float() for name, vector in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"{path} should hold a vector for each class, but cannot be read ({error}). Create it again."
        ) from error
    missing = [name for name in classes.names if plain(name) not in vectors]
    if missing:
        raise TrainingError(
            f"{path.name} should hold a vector for every class, but has none for {', '.join(missing)}. Add them."
        )
    by_class_id = {instrument.id: vectors[plain(instrument.name)] for instrument in classes}
    misfit = next((vector for vector in by_class_id.values() if vector.shape != (embedding_dim,)), None)
    if misfit is not None:
        raise TrainingError(
            f"{path.name} should hold vectors of {embedding_dim} numbers for this image encoder; found "
            f"{tuple(misfit.shape)}. Create them with this encoder."
        )
    return by_class_id


def unfreeze(model: SurgicalSAM, config: TrainingConfig) -> list[nn.Parameter]:
    """Make the paper's parameters tunable, and presence: prototypes, prompt encoder without point embeddings, mask decoder.

    A model without a presence head gets one if presence is trained.
    """
    if config.presence_weight and model.presence_head is None:
        torch.manual_seed(config.seed)
        model.presence_head = build_presence_head(model.decoder_dim).to(model.device)
    model.requires_grad_(False)
    for part in _tuned_parts(model):
        part.requires_grad_(True)
    # pos/neg embeddings stay frozen: they are SAM's own point embeddings
    model.class_prompt_encoder.pn_cls_embeddings.requires_grad_(False)
    model.prototypes.requires_grad_(config.prototypes == "learned")
    for part in left_out_parts(model.class_prompt_encoder, config):
        part.requires_grad_(False)
    if not config.presence_weight and model.presence_head is not None:
        model.presence_head.requires_grad_(False)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def tuned_state(model: SurgicalSAM) -> dict[str, Tensor]:
    """The weights that training changes, by name, as copies."""
    return {key: tensor.detach().clone() for key, tensor in _tuned_tensors(model)}


def load_tuned_state(model: SurgicalSAM, state: Mapping[str, Tensor]) -> None:
    """Restore the weights from `tuned_state`."""
    for key, tensor in _tuned_tensors(model):
        tensor.data.copy_(state[key])


@contextmanager
def blended(model: SurgicalSAM, start: Mapping[str, Tensor], share: float) -> Iterator[None]:
    """Within the block, the tuned weights are averaged with the starting weights, which have the weight `share` (0 to 1).

    Such an average keeps most of both models (Wortsman et al., CVPR 2022).
    """
    if not share:
        yield
        return
    own = tuned_state(model)
    load_tuned_state(model, {key: weight.lerp(start[key].to(weight), share) for key, weight in own.items()})
    try:
        yield
    finally:
        load_tuned_state(model, own)


def _tuned_tensors(model: SurgicalSAM) -> Iterator[tuple[str, Tensor]]:
    for key, tensor in model.state_dict().items():
        if key.split(".")[0] in TUNED:
            yield key, tensor


def _tuned_parts(model: SurgicalSAM) -> list[nn.Module]:
    parts = [getattr(model, name) for name in TUNED]
    return [part for part in parts if part is not None]
