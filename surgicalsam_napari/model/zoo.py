"""Known weights: which there are, where they are on this machine, and their download."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pooch

from surgicalsam_napari.errors import CheckpointError
from surgicalsam_napari.model.downloading import MODELS_VARIABLE, DownloadReport, PublishedFile, download_file, file_size
from surgicalsam_napari.model.encoders import (
    DEFAULT_CHECKPOINT,
    REMOVED_ENCODER,
    is_checkpoint_name,
    refuse_removed_encoder,
)

WEIGHTS_SUFFIXES = (".pth", ".pt", ".safetensors")


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The published weights file of an image encoder.

    Attributes
    ----------
    name : its name on the command line and in the code
    title : its name for users
    encoder_id : the image encoder in it, a key of `encoders.ENCODERS`
    url : its published address
    file_name : its name as published
    licence : SPDX identifier, or the licence's name
    is_commercial : whether the licence allows commercial use
    """

    name: str
    title: str
    encoder_id: str
    url: str
    file_name: str
    licence: str = "Apache-2.0"
    is_commercial: bool = True


@dataclass(frozen=True, kw_only=True)
class KnownWeights(Weights, PublishedFile):
    """A weights file of known size and SHA-256: this program downloads and checks it."""


def _sam_weights(name: str, title: str, file_name: str, size_bytes: int, sha256: str) -> KnownWeights:
    url = f"https://dl.fbaipublicfiles.com/segment_anything/{file_name}"
    return KnownWeights(
        name=name, title=title, url=url, file_name=file_name, size_bytes=size_bytes, sha256=sha256, encoder_id=name
    )


KNOWN_WEIGHTS: dict[str, KnownWeights] = {
    weights.name: weights
    for weights in (
        _sam_weights(
            "vit_h",
            "SAM ViT-H",
            "sam_vit_h_4b8939.pth",
            2564550879,
            "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        ),
        _sam_weights(
            "vit_l",
            "SAM ViT-L",
            "sam_vit_l_0b3195.pth",
            1249524607,
            "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        ),
        _sam_weights(
            "vit_b",
            "SAM ViT-B",
            "sam_vit_b_01ec64.pth",
            375042383,
            "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        ),
        KnownWeights(
            name="mobile_sam",
            title="MobileSAM",
            url="https://github.com/ChaoningZhang/MobileSAM/raw/master/weights/mobile_sam.pt",
            file_name="mobile_sam.pt",
            size_bytes=40728226,
            sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
            encoder_id="mobile_sam",
        ),
        KnownWeights(
            name="edge_sam",
            title="EdgeSAM",
            url="https://huggingface.co/spaces/chongzhou/EdgeSAM/resolve/main/weights/edge_sam_3x.pth",
            file_name="edge_sam_3x.pth",
            size_bytes=38807540,
            sha256="5a3e3261da9e2f4c8154410885689ae57d09cbf4cf5d0c848b9d80b6df336ece",
            encoder_id="edge_sam",
            licence="S-Lab License 1.0",
            is_commercial=False,
        ),
    )
}

# size or SHA-256 not known here: a person downloads them in a browser
OTHER_WEIGHTS: dict[str, Weights] = {
    weights.name: weights
    for weights in (
        Weights(
            name="tiny_sam",
            title="TinySAM",
            url="https://github.com/xinghaochen/TinySAM/releases/download/3.0/tinysam_42.3.pth",
            file_name="tinysam_42.3.pth",
            encoder_id="tiny_sam",
        ),
        Weights(
            name="repvit_sam",
            title="RepViT-SAM",
            url="https://github.com/THU-MIG/RepViT/releases/download/v1.0/repvit_sam.pt",
            file_name="repvit_sam.pt",
            encoder_id="repvit_sam",
        ),
        Weights(
            name="efficientvit_sam_l0",
            title="EfficientViT-SAM L0",
            url="https://huggingface.co/mit-han-lab/efficientvit-sam/resolve/main/efficientvit_sam_l0.pt",
            file_name="efficientvit_sam_l0.pt",
            encoder_id="efficientvit_sam_l0",
        ),
    )
}


def known_weights(name: str) -> KnownWeights:
    """The weights with this name, to download; if there are none, a CheckpointError that lists the known names."""
    if name in OTHER_WEIGHTS:
        raise CheckpointError(f"{OTHER_WEIGHTS[name].title} cannot be downloaded from here. {how_to_get(name)}")
    if name not in KNOWN_WEIGHTS:
        known = ", ".join([*KNOWN_WEIGHTS, *OTHER_WEIGHTS])
        raise CheckpointError(f'Known weights are {known}; got "{name}". Choose one of these.')
    return KNOWN_WEIGHTS[name]


def weights_named(name: str) -> Weights:
    """The weights with this name, downloadable or not; if there are none, a CheckpointError that lists the names."""
    return OTHER_WEIGHTS[name] if name in OTHER_WEIGHTS else known_weights(name)


def how_to_get(name: str) -> str:
    """A sentence for error messages: how a person gets these weights."""
    weights = weights_named(name)
    if isinstance(weights, KnownWeights):
        return f"Download it with `surgicalsam models download {name}`, or choose the file (--encoder-weights)."
    return (
        f"Download {weights.file_name} from {weights.url} in a browser. Then choose the file (--encoder-weights), or move "
        f"it to {models_folder()}."
    )


def models_folder() -> Path:
    """The folder for downloads: $SURGICALSAM_MODELS if that names a folder, else the user's cache folder.

    Raises
    ------
    CheckpointError
        $SURGICALSAM_MODELS names a weights file that does not exist
    """
    chosen = _chosen_path()
    return _cache_folder() if chosen is None or chosen.is_file() else chosen


def find_weights(name: str) -> Path | None:
    """Known weights on this machine: the file $SURGICALSAM_MODELS, or one in that folder or in the user's cache folder.

    A file counts if it has the published size; of weights without one, if it has the published name. A file that
    $SURGICALSAM_MODELS names may have any name, if its size is known.

    Raises
    ------
    CheckpointError
        no weights are known by this name, or $SURGICALSAM_MODELS names a weights file that does not exist
    """
    weights = weights_named(name)
    chosen = _chosen_path()
    candidates = [_cache_folder() / weights.file_name]
    if chosen is not None:
        candidates.insert(0, chosen if chosen.is_file() else chosen / weights.file_name)
    if not isinstance(weights, KnownWeights):
        return next((path for path in candidates if path.name == weights.file_name and path.is_file()), None)
    return next((path for path in candidates if file_size(path) == weights.size_bytes), None)


def bundled_checkpoint() -> Path:
    """The light weights that come with the package; a CheckpointError if they are missing."""
    path = Path(__file__).parent / "weights" / f"{DEFAULT_CHECKPOINT}.safetensors"
    if not path.is_file():
        raise CheckpointError(
            f"The {DEFAULT_CHECKPOINT} weights should be at {path}; there is no such file. "
            "Install surgicalsam-napari again, or choose a checkpoint."
        )
    return path


def shared_folder() -> Path:
    """The folder of the checkpoints that were added with `surgicalsam models add`."""
    return models_folder() / "shared"


def checkpoint_path(checkpoint: Path | str) -> Path:
    """The file of a checkpoint: a path, `DEFAULT_CHECKPOINT` for the bundled one, or the name of a shared model.

    A file that has the name comes first.

    Raises
    ------
    CheckpointError
        the bundled file is missing, the shared model is not downloaded, or the name is that of the demo checkpoint of
        earlier versions
    """
    path = Path(checkpoint).expanduser()
    if not is_checkpoint_name(path) or path.exists():
        return path
    name = str(path)
    if name == DEFAULT_CHECKPOINT:
        return bundled_checkpoint()
    if name == REMOVED_ENCODER:
        refuse_removed_encoder(name)
    shared = shared_folder() / f"{name}.safetensors"
    if shared.with_suffix(".json").is_file() and not shared.is_file():
        raise CheckpointError(
            f"{name} is a shared model, and its checkpoint should be at {shared}; there is no such file. "
            f"Download it with `surgicalsam models download {name}`."
        )
    return shared if shared.is_file() else path


def _cache_folder() -> Path:
    return Path(pooch.os_cache("surgicalsam-napari"))


def _chosen_path() -> Path | None:
    value = os.environ.get(MODELS_VARIABLE, "").strip()
    if not value:
        return None
    path = Path(value).expanduser()
    if path.suffix in WEIGHTS_SUFFIXES and not path.exists():
        raise CheckpointError(
            f"{MODELS_VARIABLE} should name a folder or a weights file; there is no {path}. Correct it, or unset it."
        )
    return path


def download_weights(name: str, *, folder: Path | None = None, url: str | None = None) -> Iterator[DownloadReport]:
    """Download known weights, as `download_file` does, into `models_folder()` if no folder is given.

    Raises
    ------
    CheckpointError
        no weights are known by this name
    DownloadError, DiskSpaceError
        as for `download_file`
    """
    yield from download_file(known_weights(name), models_folder() if folder is None else Path(folder), url=url)
