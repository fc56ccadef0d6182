"""The settings of a training: one model for the run's record, the form in the window and the options of the command line.

The presets (`presets/*.yaml`) hold the values of the paper (Yue et al., AAAI 2024), or of the authors' code if the paper
gives none; and the values of a quick update.
"""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from surgicalsam_napari.errors import TrainingError
from surgicalsam_napari.model.encoders import ENCODERS, is_checkpoint_name
from surgicalsam_napari.untrusted import read_yaml

if TYPE_CHECKING:
    EncoderId = str
else:
    EncoderId = Literal[tuple(ENCODERS)]


class TrainingConfig(BaseModel):
    """All settings of a training. The user sees the titles and descriptions; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    data: tuple[Path, ...] = Field(
        (), title="Data", description="Projects, exported datasets, or the authors' processed EndoVis folders"
    )
    checkpoint: Path | None = Field(
        None,
        title="Start from",
        description="Checkpoint to tune. Default: the bundled light weights, or SAM if an encoder is set",
    )
    encoder: EncoderId | None = Field(
        None,
        title="Encoder",
        description="Start from SAM with this image encoder and with new prototypes, as in the paper",
    )
    encoder_weights: Path | None = Field(
        None, title="Encoder weights", description="Checkpoint of SAM or a distilled SAM, if it is not in the models folder"
    )
    classes: tuple[str, ...] | None = Field(
        None,
        title="Classes",
        description="Classes to train, by name. Default: all classes of the checkpoint and of the data",
    )
    ignored_classes: tuple[str, ...] = Field(
        (), title="Ignored classes", description="Classes in the data that count as background, by name"
    )
    data_classes: str | None = Field(
        None,
        title="Class set of the data",
        description="What class numbers mean in data without class names: endovis2018, endovis2017, or a YAML file",
    )
    frame_pattern: str | None = Field(
        None,
        title="Frame names",
        description='How to read the names of frames in datasets if that is not clear, such as "{video}_{frame}_*"',
    )
    overlaps: str | None = Field(
        None,
        title="Overlapping masks",
        description="Which of two masks in a dataset is on top: file-order (the later one), larger-below (the smaller one), "
        "or the name of a class. Default: overlaps are an error",
    )
    unannotated: Literal["alone", "empty"] = Field(
        "alone",
        title="Without annotations",
        description="Frames of datasets without any annotation: alone: they are left out; empty: they show no instrument",
    )
    trust: Literal["frame", "class"] = Field(
        "frame",
        title="Trust",
        description="frame: all labels of a corrected frame are used; class: only its edited or verified classes",
    )
    validation: tuple[str, ...] = Field(
        (), title="Validation videos", description="Videos or sequences kept for validation, by name or number"
    )
    validation_share: float | None = Field(
        None,
        ge=0,
        lt=1,
        title="Validation share",
        description="Share of the frames kept for validation if no videos are named. Default: 0.2, and 0 for fewer than 20 "
        "frames of a single video",
    )
    epochs: int = Field(500, ge=1, title="Epochs", description="Passes over the training data")
    minutes: float | None = Field(
        None, gt=0, title="Minutes", description="Stop after this many minutes, even before the last epoch"
    )
    patience: int | None = Field(
        None, ge=1, title="Patience", description="Stop after this many validations without a better Challenge IoU"
    )
    validate_every: int = Field(1, ge=1, title="Validate every", description="Epochs between validations")
    batch_size: int = Field(32, ge=1, title="Batch size", description="Prompts per step; a prompt is one class in one frame")
    micro_batch_size: int = Field(
        4,
        ge=1,
        title="Prompts at a time",
        description="Prompts computed together; this changes speed and memory, not the result",
    )
    learning_rate: float = Field(1e-3, gt=0, le=1e6, title="Learning rate", description="Learning rate of Adam")
    schedule: Literal["constant", "cosine"] = Field(
        "constant",
        title="Schedule",
        description="constant: one learning rate, as in the paper; cosine: it falls to 0 over the epochs",
    )
    weight_decay: float = Field(1e-4, ge=0, title="Weight decay", description="Weight decay of Adam")
    tokens_per_class: int = Field(
        2, ge=1, title="Tokens per class", description="n in the paper; a tuned checkpoint keeps its own value"
    )
    dense_hidden_dim: int = Field(
        128, ge=1, title="Dense width", description="r_D in the paper; a tuned checkpoint keeps its own value"
    )
    sparse_hidden_dim: int = Field(
        128, ge=1, title="Sparse width", description="r_S in the paper; a tuned checkpoint keeps its own value"
    )
    prototypes: Literal["learned", "fixed"] = Field(
        "learned",
        title="Prototypes",
        description="learned: tuned with the contrastive loss; fixed: mean class embeddings, not tuned (an ablation)",
    )
    prototypes_file: Path | None = Field(
        None,
        title="Prototypes file",
        description="A .safetensors file with one fixed prototype per class name, instead of the mean embeddings",
    )
    dense_prompts: bool = Field(
        True, title="Dense prompts", description="If off, the decoder gets SAM's embedding for 'no mask' (an ablation)"
    )
    sparse_prompts: bool = Field(
        True, title="Sparse prompts", description="If off, the decoder gets no class tokens (an ablation)"
    )
    marks: bool = Field(
        True, title="Marks", description="Positive and negative embeddings on the class tokens; off is an ablation"
    )
    kept_of_start: float = Field(
        0.0,
        ge=0,
        lt=1,
        title="Start weights",
        description="Share of the starting weights in the result; it keeps what the model knew",
    )
    temperature: float = Field(0.07, gt=0, title="Temperature", description="Temperature of the contrastive loss")
    contrastive_weight: float = Field(
        1.0, ge=0, title="Contrastive weight", description="Weight of the contrastive loss; the dice loss has weight 1"
    )
    cross_entropy_weight: float = Field(
        0.0, ge=0, title="Cross-entropy weight", description="Weight of the cross-entropy of the pixels; 0 in the paper"
    )
    predicted_iou_weight: float = Field(
        0.0, ge=0, title="Predicted IoU weight", description="Weight of the error of the predicted IoU; 0 in the paper"
    )
    presence_weight: float = Field(
        1.0,
        ge=0,
        title="Presence weight",
        description="Weight of the loss that learns if a class is in the frame; 0: not trained",
    )
    presence_tunes_decoder: bool = Field(
        False,
        title="Presence tunes the decoder",
        description="The presence loss also tunes the decoder; not in the paper",
    )
    absent_share: float = Field(
        0.25,
        ge=0,
        title="Absent share",
        description="Prompts for absent classes, per prompt for a present class",
    )
    loss_resolution: Literal["frame", "logits"] = Field(
        "frame",
        title="Loss at",
        description="frame: full size, as in the paper; logits: size of the decoder's output, several times faster",
    )
    augmented_versions: int = Field(
        40, ge=0, title="Augmentations", description="Augmented copies of every frame; 0 for none"
    )
    augmentation: Literal["offline", "online"] = Field(
        "offline",
        title="Augment",
        description="offline: embed the copies once and keep them; online: new copies in every second epoch",
    )
    rehearsed_frames: int = Field(
        0,
        ge=0,
        title="Rehearsed frames",
        description="Synthetic frames mixed in, so that the bundled model keeps what it knows",
    )
    mixed_precision: bool = Field(True, title="Mixed precision", description="Use bfloat16 on CUDA")
    device: str = Field("auto", title="Device", description="auto, cpu, cuda, cuda:1, … or mps")
    seed: int = Field(666, ge=0, title="Seed", description="Seed of the frame order, new weights and augmentations")

    @field_validator("data", mode="before")
    @classmethod
    def _one_path_or_several(cls, value: object) -> object:
        return [value] if isinstance(value, (str, Path)) else value

    @field_validator("checkpoint")
    @classmethod
    def _file_of_a_bundled_name(cls, value: Path | None) -> Path | None:
        if value is None or not is_checkpoint_name(value):
            return value
        from surgicalsam_napari.model.zoo import checkpoint_path

        return checkpoint_path(value)

    @field_validator("classes", "ignored_classes", "validation", mode="before")
    @classmethod
    def _one_name_or_several(cls, value: object) -> object:
        """YAML reads `validation: [1, 3]` as numbers; a sequence can be named by its number."""
        names = value if isinstance(value, (list, tuple)) or value is None else [value]
        return names and [str(name) if type(name) is int else name for name in names]

    @model_validator(mode="after")
    def _starts_from_one(self) -> TrainingConfig:
        if self.checkpoint is not None and self.encoder is not None:
            raise ValueError("start from a checkpoint or from an encoder, not both")
        return self

    @model_validator(mode="after")
    def _leaves_a_prompt(self) -> TrainingConfig:
        if not self.dense_prompts and not self.sparse_prompts:
            raise ValueError("turn off the dense or the sparse prompts, not both: the decoder would not know the class")
        if self.prototypes_file is not None and self.prototypes != "fixed":
            raise ValueError("a prototypes_file holds fixed prototypes: set prototypes to fixed, or leave out the file")
        return self

    def changed(self, **fields: Any) -> TrainingConfig:
        """A checked copy with other values; a TrainingError names a field with a wrong value."""
        return parse_config({**self.model_dump(), **fields})

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def parse_config(record: object, source: str = "The training configuration") -> TrainingConfig:
    """Check a plain dict; a TrainingError names the key, the expected and the given value."""
    if not isinstance(record, dict):
        raise TrainingError(f"{source} should map names to values, as in `epochs: 20`; found {type(record).__name__}.")
    try:
        return TrainingConfig.model_validate({str(key): value for key, value in record.items()})
    except ValidationError as error:
        raise TrainingError(f"{source}: {_first_problem(error)}") from error


_EXPECTED = {
    "int_parsing": "should be a whole number",
    "int_from_float": "should be a whole number",
    "int_type": "should be a whole number",
    "float_parsing": "should be a number",
    "float_type": "should be a number",
    "bool_parsing": "should be true or false",
    "bool_type": "should be true or false",
    "string_type": "should be a name",
    "tuple_type": "should be a list",
    "path_type": "should be a path",
}  # by pydantic's type of error; other errors keep pydantic's own text


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    known = list(TrainingConfig.model_fields)
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, known, 1)
        return f'there is no setting "{key}". ' + (
            f"Did you mean {near[0]}?" if near else f"The settings are {', '.join(known)}."
        )
    if not key:
        return f"{first['msg'].removeprefix('Value error, ')}."
    expected = _EXPECTED.get(first["type"], first["msg"].removeprefix("Input ").removeprefix("Value error, "))
    return f"{key} {expected}; got {first['input']!r}."


def read_config(path: Path | str) -> TrainingConfig:
    """Read a YAML file; relative paths in it are relative to its folder.

    Raises
    ------
    TrainingError
        the file cannot be read, is not YAML, has an unknown key or a value out of range
    """
    path = Path(path)
    try:
        record = read_yaml(path)
    except OSError as error:
        raise TrainingError(f"The configuration {path} cannot be read ({error.strerror}). Choose a YAML file.") from error
    except ValueError as error:
        raise TrainingError(f"{path.name} is not valid YAML ({error}). Write lines like `epochs: 20`.") from error
    config = parse_config({} if record is None else record, path.name)

    def resolved(item: Path) -> Path:
        return path.parent / item.expanduser()

    return config.model_copy(
        update={
            "data": tuple(resolved(item) for item in config.data),
            "checkpoint": config.checkpoint and resolved(config.checkpoint),
            "encoder_weights": config.encoder_weights and resolved(config.encoder_weights),
            "prototypes_file": config.prototypes_file and resolved(config.prototypes_file),
        }
    )


def preset_names() -> list[str]:
    """The presets that come with the package."""
    folder = resources.files("surgicalsam_training") / "presets"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def preset(name: str) -> TrainingConfig:
    """The values of a preset; for an unknown name, a TrainingError lists the presets."""
    if name not in preset_names():
        raise TrainingError(f'There is no preset "{name}". Choose one of {", ".join(preset_names())}.')
    text = (resources.files("surgicalsam_training") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    return parse_config(yaml.safe_load(text), f"the preset {name}")
