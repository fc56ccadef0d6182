"""Sharing a checkpoint: a folder with the weights, a card that model hubs and people read, and a list to add it from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import yaml

from surgicalsam_napari import __version__
from surgicalsam_napari.errors import CheckpointError
from surgicalsam_napari.files import replacing, write_file
from surgicalsam_napari.formatting import in_bytes
from surgicalsam_napari.model.checkpoint import CheckpointInfo, read_checkpoint_info
from surgicalsam_napari.model.encoders import ENCODERS, EncoderSpec
from surgicalsam_napari.model.shared_models import LIST_FORMAT, LIST_VERSION, SharedModel, named_model
from surgicalsam_napari.model.zoo import KnownWeights, weights_named

WEIGHTS, CARD, CONFIG, LIST = "model.safetensors", "README.md", "config.json", "models.json"


def share_model(
    checkpoint: Path | str, folder: Path | str, *, name: str | None = None, licence: str, description: str = ""
) -> Path:
    """Write a folder that can be published as it is: on a model hub, a web server or a shared disk.

    It holds `model.safetensors`, `README.md` (the card; its first lines are the metadata that model hubs read),
    `config.json` (classes and encoder) and `models.json` (a list with this one model, for `add_models`).

    Parameters
    ----------
    checkpoint : a .safetensors checkpoint of this program
    folder : a new or empty folder
    licence : of the weights, as an SPDX identifier in lower case, such as "cc-by-4.0"
    description : what the model was trained on, and for which pictures it is meant

    Returns
    -------
    the folder

    Raises
    ------
    CheckpointError
        the checkpoint cannot be read, or the folder is not empty or cannot be written
    """
    folder = Path(folder).expanduser()
    info = read_checkpoint_info(checkpoint)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(f"A shared model needs a new or empty folder, {folder} is neither. Choose another one.")
    model = named_model(info, name).model_copy(update={"url": WEIGHTS, "licence": licence, "description": description})
    listed = {"format": LIST_FORMAT, "format_version": LIST_VERSION, "models": [model.model_dump(mode="json")]}
    config = {
        "library_name": "surgicalsam-napari",
        "library_version": __version__,
        "encoder": info.encoder_id,
        "encoder_digest": info.encoder_digest,
        "presence_threshold": info.presence_threshold,
        **info.classes.to_json(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / WEIGHTS) as partial:
            shutil.copyfile(info.path, partial)
        write_file(folder / CARD, _card(info, model).encode())
        write_file(folder / CONFIG, _as_json(config))
        write_file(folder / LIST, _as_json(listed))
    except OSError as error:
        raise CheckpointError(
            f"The shared model cannot be written to {folder} ({error.strerror or error}). Choose another folder."
        ) from error
    return folder


def _as_json(record: object) -> bytes:
    return (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()


def _card(info: CheckpointInfo, model: SharedModel) -> str:
    metadata = {
        "license": model.licence,
        "library_name": "surgicalsam-napari",
        "pipeline_tag": "image-segmentation",
        "tags": ["surgery", "endoscopy", "surgical-instruments", "napari", "segment-anything"],
    }
    front = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)
    classes = "\n".join(f"| {c.id} | {c.name} |" for c in info.classes)
    encoder = ENCODERS[info.encoder_id]
    included = "included" if info.includes_encoder else f"not included. {_how_to_get_encoder(encoder)}"
    return f"""---
{front}---

# {model.label}

{model.description or "The publisher gives no description."}

A checkpoint of [SurgicalSAM in napari](https://pypi.org/project/surgicalsam-napari/): name an instrument class, get masks.
It is research software, not a medical device.

| Id | Class |
| --- | --- |
{classes}

- Image encoder: {encoder.title} (digest `{info.encoder_digest}`; {included})
- Licence of the weights: {model.licence}
- `{WEIGHTS}`: {in_bytes(model.size_bytes)}, SHA-256 `{model.sha256}`

## Use it

Download this folder, then:

```
surgicalsam models add FOLDER
surgicalsam segment operation.mp4 --all --checkpoint {model.name}
```

Or choose *{model.label}* in the window, under *Model > Checkpoint*.

## How it was trained

```json
{json.dumps(_plain_record(info.training_record), indent=2, ensure_ascii=False)}
```
"""


def _how_to_get_encoder(encoder: EncoderSpec) -> str:
    weights = weights_named(encoder.weights or encoder.id)
    if isinstance(weights, KnownWeights):
        place = f"`surgicalsam models download {weights.name}`"
    else:
        place = f"Download {weights.url}"
    return place if weights.is_commercial else f"{place}; {weights.licence}: not for commercial use"


def _plain_record(record: dict) -> dict:
    """The training record without paths of the publisher's machine: a path says who works where, and may name a patient."""
    return {key: _without_paths(value) for key, value in record.items()}


def _without_paths(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_paths(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_without_paths(entry) for entry in value]
    if isinstance(value, str) and ("/" in value or "\\" in value):
        return "…"
    return value
