"""Checkpoints that groups share: added from a file, an address or a published list, then used by their names.

They are kept in the folder `shared` of the models folder: `NAME.json` says what the model is, `NAME.safetensors` is its
checkpoint, once it is downloaded.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated
from urllib.parse import urljoin, urlsplit

import requests
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from surgicalsam_napari.errors import CheckpointError, DiskSpaceError, DownloadError
from surgicalsam_napari.files import replacing, write_file
from surgicalsam_napari.model.checkpoint import CheckpointInfo, read_checkpoint_info
from surgicalsam_napari.model.downloading import (
    TIMEOUT_SECONDS,
    DownloadReport,
    PublishedFile,
    download_file,
    file_size,
    sha256_of,
)
from surgicalsam_napari.model.encoders import RESERVED_NAMES
from surgicalsam_napari.model.zoo import KNOWN_WEIGHTS, OTHER_WEIGHTS, shared_folder

LIST_FORMAT = "surgicalsam-napari models"
LIST_VERSION = 1
LARGEST_LIST = 1 << 20  # bytes
LARGEST_CHECKPOINT = 8 << 30  # bytes
SUFFIX = ".safetensors"
NAME = r"[a-z0-9][a-z0-9._-]{0,63}"


class SharedModel(BaseModel):
    """An entry of a list of models.

    Attributes
    ----------
    name : its name on the command line: lower case letters, digits, `.`, `_`, `-`
    title : its name for users
    url : where its checkpoint is; None for one that was added from a file. In a list, it may be relative to the list
    size_bytes, sha256 : of the checkpoint
    encoder : the image encoder it needs, a key of `encoders.ENCODERS`
    classes : the names of its classes
    licence : of the weights, as an SPDX identifier if there is one
    description : what it was trained on, and for which pictures it is meant
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: Annotated[str, Field(pattern=rf"^{NAME}$")]
    title: str = ""
    url: str | None = None
    size_bytes: Annotated[int, Field(gt=0, le=LARGEST_CHECKPOINT)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    encoder: str
    classes: tuple[str, ...] = ()
    licence: str = ""
    description: str = ""

    @field_validator("name")
    @classmethod
    def _is_free(cls, name: str) -> str:
        if name in RESERVED_NAMES or name in KNOWN_WEIGHTS or name in OTHER_WEIGHTS:
            raise ValueError(f'"{name}" is a name of this program; choose another one')
        return name

    @property
    def path(self) -> Path:
        """Where its checkpoint is on this machine, once it is downloaded."""
        return shared_folder() / f"{self.name}{SUFFIX}"

    @property
    def is_here(self) -> bool:
        """Whether its checkpoint is on this machine."""
        return file_size(self.path) == self.size_bytes

    @property
    def label(self) -> str:
        return self.title or self.name


# The models of this machine ------------------------------------------------------------------------------------------


def shared_models() -> dict[str, SharedModel]:
    """The models that were added on this machine, by name; files that are damaged are left out."""
    models = {}
    for path in sorted(shared_folder().glob("*.json")):
        try:
            model = SharedModel.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            continue
        if model.name == path.stem:
            models[model.name] = model
    return models


def remove_model(name: str) -> None:
    """Remove a model and its checkpoint from this machine; a CheckpointError if there is none of this name."""
    _known(name)
    for suffix in (SUFFIX, f"{SUFFIX}.part", ".json"):
        (shared_folder() / f"{name}{suffix}").unlink(missing_ok=True)


def download_model(name: str) -> Iterator[DownloadReport]:
    """Download the checkpoint of a model that was added; see `download_file`.

    Raises
    ------
    CheckpointError
        no model was added by this name, it came from a file that is gone now, or the file is not a checkpoint
    DownloadError, DiskSpaceError
        as for `download_file`
    """
    model = _known(name)
    if model.url is None and not model.is_here:
        raise CheckpointError(
            f"{name} was added from a file, and {model.path} is missing or damaged now. Add the file again: "
            "`surgicalsam models add FILE`."
        )
    if model.url is not None:
        file = PublishedFile(url=model.url, file_name=model.path.name, size_bytes=model.size_bytes, sha256=model.sha256)
        yield from download_file(file, model.path.parent)
    _check_checkpoint(model)


def _known(name: str) -> SharedModel:
    models = shared_models()
    if name not in models:
        there_are = f"there are {', '.join(models)}" if models else "none was added yet"
        raise CheckpointError(f'No shared model has the name "{name}"; {there_are}. See `surgicalsam models`.')
    return models[name]


def _check_checkpoint(model: SharedModel) -> None:
    """Remove a file that is not a checkpoint of this program: nobody could use it."""
    try:
        read_checkpoint_info(model.path)
    except CheckpointError:
        model.path.unlink(missing_ok=True)
        raise


# Adding --------------------------------------------------------------------------------------------------------------


def add_models(
    source: str, *, sha256: str | None = None, name: str | None = None, replaces: bool = False
) -> list[SharedModel]:
    """Add models from a checkpoint, a list, or a folder that `share_model` made.

    A checkpoint file is copied. Of an address or a list, only the description is stored: `download_model` gets the file.

    Parameters
    ----------
    source : a .safetensors file or its address, a .json list or its address, or a folder with a models.json
    sha256 : of the checkpoint; needed for the address of a checkpoint, compared for a file
    name : name for a single checkpoint; by default that of its file
    replaces : whether a model of the same name may be replaced by another one

    Raises
    ------
    CheckpointError
        the source is no checkpoint and no list, has another SHA-256, or its name is taken
    DownloadError, DiskSpaceError
        the address cannot be reached; the disk is full
    """
    path = Path(source).expanduser()
    if path.is_dir():
        path = path / "models.json"
        source = str(path)
    if sha256 is not None:
        sha256 = sha256.strip().lower()
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise CheckpointError(f'A SHA-256 has 64 hexadecimal digits; got "{sha256}". Copy it from the publisher.')
    is_address = _is_address(source)
    if Path(urlsplit(source).path if is_address else source).suffix == ".json":
        return _add_list(source, is_address, name, sha256, replaces)
    return [_add_address(source, sha256, name, replaces) if is_address else _add_file(path, sha256, name, replaces)]


def _is_address(source: str) -> bool:
    return urlsplit(source).scheme in ("http", "https")


def _add_file(path: Path, sha256: str | None, name: str | None, replaces: bool) -> SharedModel:
    if path.suffix != SUFFIX:
        raise CheckpointError(f"A shared model is a {SUFFIX} file or a .json list; got {path}. Choose one of these.")
    model = named_model(read_checkpoint_info(path), name)
    if sha256 not in (None, model.sha256):
        raise CheckpointError(
            f"{path.name} should have the SHA-256 {str(sha256)[:12]}…; it has {model.sha256[:12]}…. Get the file again."
        )
    _refuse_taken(model, replaces)
    try:
        shared_folder().mkdir(parents=True, exist_ok=True)
        if path.resolve() != model.path.resolve():
            with replacing(model.path) as partial:
                shutil.copyfile(path, partial)
    except OSError as error:
        raise DiskSpaceError(
            f"{path.name} cannot be copied to {model.path.parent} ({error.strerror or error}). "
            "Free some space, or make it writable."
        ) from error
    _store(model)
    return model


def _add_address(url: str, sha256: str | None, name: str | None, replaces: bool) -> SharedModel:
    file_name = Path(urlsplit(url).path).name
    if not file_name.endswith(SUFFIX):
        raise CheckpointError(f"A shared model's address ends in {SUFFIX} or .json; got {url}. Choose one of these.")
    if sha256 is None:
        raise CheckpointError(
            f"{url} needs the SHA-256 of the checkpoint, so that it cannot be exchanged on the way. "
            "Give it with --sha256; the publisher states it."
        )
    model = _validated(
        {
            "name": name or _plain_name(file_name.removesuffix(SUFFIX)),
            "title": file_name.removesuffix(SUFFIX),
            "url": url,
            "sha256": sha256,
            "size_bytes": _size_at(url),
            "encoder": "",
        },
        url,
    )
    _refuse_taken(model, replaces)
    _store(model)
    return model


def _add_list(source: str, is_address: bool, name: str | None, sha256: str | None, replaces: bool) -> list[SharedModel]:
    if name is not None or sha256 is not None:
        raise CheckpointError(
            f"{source} is a list, whose entries have their own names and SHA-256. Leave out --name and --sha256."
        )
    content = _fetched_list(source) if is_address else _read_list(Path(source).expanduser())
    try:
        record = json.loads(content)
        if record["format"] != LIST_FORMAT or int(record["format_version"]) > LIST_VERSION:
            raise ValueError("it does not name the format of a list of models, or a newer one")
        entries = record["models"]
        if not isinstance(entries, list) or not entries:
            raise ValueError("it has no models")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{source} should be a list of models, as `surgicalsam models share` writes it ({_short(error)}). "
            "Choose another file."
        ) from error
    models = [_entry(entry, position, source, is_address) for position, entry in enumerate(entries, 1)]
    for model in models:
        _refuse_taken(model, replaces)
    for model in models:
        if model.url is not None and not _is_address(model.url):
            _add_file(Path(model.url), model.sha256, model.name, replaces=True)
            model = model.model_copy(update={"url": None})
        _store(model)
    return models


def _entry(entry: object, position: int, source: str, is_address: bool) -> SharedModel:
    model = _validated(entry, f"entry {position} of {source}")
    if model.url is None:
        raise CheckpointError(f"Entry {position} of {source} needs a url, the place of its checkpoint. Add it to the list.")
    if _is_address(model.url):
        return model
    if is_address:
        return model.model_copy(update={"url": urljoin(source, model.url)})
    folder = Path(source).expanduser().resolve().parent
    path = (folder / model.url).resolve()
    if not path.is_relative_to(folder):
        raise CheckpointError(
            f"Entry {position} of {source} should name a file beside the list; it names {model.url}. Correct the list."
        )
    return model.model_copy(update={"url": str(path)})


def _read_list(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST_LIST:
            raise CheckpointError(f"{path} is larger than a list of models can be. Choose another file.")
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}). Choose another list of models.") from error


def _fetched_list(url: str) -> bytes:
    try:
        with requests.get(url, stream=True, timeout=TIMEOUT_SECONDS) as response:
            response.raise_for_status()
            content = b""
            for piece in response.iter_content(1 << 16):
                content += piece
                if len(content) > LARGEST_LIST:
                    raise CheckpointError(f"{url} is larger than a list of models can be. Check the address.")
            return content
    except requests.RequestException as error:
        raise DownloadError(
            f"{url} should hold a list of models; it cannot be read ({_answer(error)}). Check the address and the network."
        ) from error


def _size_at(url: str) -> int:
    try:
        response = requests.head(url, allow_redirects=True, timeout=TIMEOUT_SECONDS, headers={"Accept-Encoding": "identity"})
        response.raise_for_status()
    except requests.RequestException as error:
        raise DownloadError(
            f"{url} should hold a checkpoint; it cannot be reached ({_answer(error)}). Check the address and the network."
        ) from error
    length = response.headers.get("Content-Length", "")
    if not length.isdigit() or not int(length):
        raise DownloadError(
            f"{url} should state its size, and does not. Download the file by hand, then: `surgicalsam models add FILE`."
        )
    return int(length)


def _answer(error: requests.RequestException) -> str:
    response = error.response
    return type(error).__name__ if response is None else f"the server answered {response.status_code} {response.reason}"


def named_model(info: CheckpointInfo, name: str | None = None) -> SharedModel:
    """The entry of a checkpoint on this machine; a CheckpointError if the name is not allowed."""
    record: Mapping[str, object] = {
        "name": name or _plain_name(info.name),
        "title": info.name,
        "sha256": sha256_of(info.path),
        "size_bytes": info.path.stat().st_size,
        "encoder": info.encoder_id,
        "classes": info.classes.names,
    }
    return _validated(record, info.path.name)


def _validated(record: object, what: str) -> SharedModel:
    try:
        return SharedModel.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the entry"
        raise CheckpointError(
            f"{what[:1].upper()}{what[1:]} cannot be added: {place} is wrong ({first['msg']}). Correct it, or give --name."
        ) from error


def _refuse_taken(model: SharedModel, replaces: bool) -> None:
    present = shared_models().get(model.name)
    if present is not None and present.sha256 != model.sha256 and not replaces:
        raise CheckpointError(
            f'A model with the name "{model.name}" and other weights was added before. '
            "Give another name with --name, or replace it with --replace."
        )


def _store(model: SharedModel) -> None:
    path = shared_folder() / f"{model.name}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, model.model_dump_json(indent=2).encode())
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written ({error.strerror}). Make the folder writable.") from error


def _plain_name(name: str) -> str:
    """A title as a name: "My Model 2" becomes "my-model-2"."""
    return re.sub(r"[^a-z0-9._]+", "-", name.casefold()).strip("-._")[:64] or "model"


def _short(error: BaseException) -> str:
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__
