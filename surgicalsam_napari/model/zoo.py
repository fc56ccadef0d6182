"""Known weights: find them on this machine, and download them."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pooch
import requests

from surgicalsam_napari.errors import CheckpointError, DiskSpaceError, DownloadError
from surgicalsam_napari.files import replacing
from surgicalsam_napari.formatting import in_bytes
from surgicalsam_napari.model.encoders import DEFAULT_CHECKPOINT, is_checkpoint_name, refuse_removed_encoder

MODELS_VARIABLE = "SURGICALSAM_MODELS"
WEIGHTS_SUFFIXES = (".pth", ".pt", ".safetensors")
PIECE_BYTES = 1 << 16  # a broken connection loses at most one piece
REPORT_BYTES = 1 << 20
TIMEOUT_SECONDS = (15.0, 60.0)  # to connect; between two pieces


@dataclass(frozen=True)
class KnownWeights:
    """A published weights file.

    Attributes
    ----------
    name : its name on the command line and in the code
    title : its name for users
    url : its published address
    file_name : its name on this machine
    size_bytes, sha256 : of a complete and unchanged copy
    encoder_id : the image encoder in it, a key of `encoders.ENCODERS`
    """

    name: str
    title: str
    url: str
    file_name: str
    size_bytes: int
    sha256: str
    encoder_id: str


@dataclass(frozen=True)
class DownloadReport:
    """Progress of a download: bytes on disk, bytes in total, and the path of the complete file (exists if both agree)."""

    done_bytes: int
    total_bytes: int
    path: Path


def _sam_weights(name: str, title: str, file_name: str, size_bytes: int, sha256: str) -> KnownWeights:
    url = f"https://dl.fbaipublicfiles.com/segment_anything/{file_name}"
    return KnownWeights(name, title, url, file_name, size_bytes, sha256, encoder_id=name)


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
    )
}


# Where weights are ---------------------------------------------------------------------------------------------------


def known_weights(name: str) -> KnownWeights:
    """The weights with this name; if there are none, a CheckpointError that lists the known names."""
    if name not in KNOWN_WEIGHTS:
        raise CheckpointError(f'Known weights are {", ".join(KNOWN_WEIGHTS)}; got "{name}". Choose one of these.')
    return KNOWN_WEIGHTS[name]


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

    A file counts if it has the published size. A file that $SURGICALSAM_MODELS names may have any name.

    Raises
    ------
    CheckpointError
        no weights are known by this name, or $SURGICALSAM_MODELS names a weights file that does not exist
    """
    weights = known_weights(name)
    chosen = _chosen_path()
    candidates = [_cache_folder() / weights.file_name]
    if chosen is not None:
        candidates.insert(0, chosen if chosen.is_file() else chosen / weights.file_name)
    return next((path for path in candidates if _file_size(path) == weights.size_bytes), None)


def bundled_checkpoint() -> Path:
    """The light weights that come with the package; a CheckpointError if they are missing."""
    path = Path(__file__).parent / "weights" / f"{DEFAULT_CHECKPOINT}.safetensors"
    if not path.is_file():
        raise CheckpointError(
            f"The {DEFAULT_CHECKPOINT} weights should be at {path}; there is no such file. "
            "Install surgicalsam-napari again, or choose a checkpoint."
        )
    return path


def checkpoint_path(checkpoint: Path | str) -> Path:
    """The file of a checkpoint; the name `DEFAULT_CHECKPOINT` is the bundled one, unless a file has that name.

    Raises
    ------
    CheckpointError
        the bundled file is missing, or the name is that of the demo checkpoint of earlier versions
    """
    path = Path(checkpoint).expanduser()
    if not is_checkpoint_name(path) or path.exists():
        return path
    return bundled_checkpoint() if str(path) == DEFAULT_CHECKPOINT else refuse_removed_encoder(str(path))


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


def _file_size(path: Path) -> int | None:
    """Bytes of a file; None if there is none."""
    return path.stat().st_size if path.is_file() else None


# Downloading ---------------------------------------------------------------------------------------------------------


def download_weights(name: str, *, folder: Path | None = None, url: str | None = None) -> Iterator[DownloadReport]:
    """Download known weights, and report after every megabyte; an interrupted download is resumed.

    The bytes go to `<file name>.part`, which gets its final name only if its SHA-256 is the published one. Closing the
    generator cancels the download; the part stays for the next time.

    Parameters
    ----------
    name : a key of `KNOWN_WEIGHTS`
    folder : folder for the file; `models_folder()` if None
    url : address to download from instead of the published one

    Raises
    ------
    CheckpointError
        no weights are known by this name
    DownloadError
        the server cannot be reached, has no such file, stops early or sends another file; the folder is not writable
    DiskSpaceError
        the file does not fit on the disk
    """
    weights = known_weights(name)
    path = (models_folder() if folder is None else Path(folder)) / weights.file_name
    if _file_size(path) == weights.size_bytes and _sha256(path) == weights.sha256:
        yield DownloadReport(weights.size_bytes, weights.size_bytes, path)
        return
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, part, keep_partial=True):
            for done_bytes in _fetch(weights, url or weights.url, part):
                if done_bytes < weights.size_bytes:  # the last report follows the rename
                    yield DownloadReport(done_bytes, weights.size_bytes, path)
            _check_hash(weights, part, url or weights.url)
    except requests.RequestException as error:
        _refuse_connection(weights, url or weights.url, part, error)
    except OSError as error:
        _refuse_disk(weights, path.parent, error)
    yield DownloadReport(weights.size_bytes, weights.size_bytes, path)


def _fetch(weights: KnownWeights, url: str, part: Path) -> Iterator[int]:
    """Append the missing bytes to the part; yields the number of bytes it holds."""
    done_bytes = _file_size(part) or 0
    if done_bytes > weights.size_bytes:
        part.unlink()
        done_bytes = 0
    if done_bytes == weights.size_bytes:
        return
    _check_free_space(weights, part.parent, weights.size_bytes - done_bytes)
    headers = {"Accept-Encoding": "identity"}  # no compression, so that the bytes can be counted
    if done_bytes:
        headers["Range"] = f"bytes={done_bytes}-"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as response:
        if done_bytes and response.status_code != requests.codes.partial_content:
            done_bytes = 0  # a server that ignores Range sends the complete file
        _check_response(weights, url, response, part, done_bytes)
        with part.open("ab" if done_bytes else "wb") as file:
            yield done_bytes
            reported_bytes = done_bytes
            for piece in response.iter_content(PIECE_BYTES):
                file.write(piece)
                done_bytes += len(piece)
                if done_bytes > weights.size_bytes:
                    break
                if done_bytes - reported_bytes >= REPORT_BYTES:
                    yield done_bytes
                    reported_bytes = done_bytes
            file.flush()
            os.fsync(file.fileno())
    if done_bytes != weights.size_bytes:
        _refuse_length(weights, url, part, done_bytes)


def _check_response(weights: KnownWeights, url: str, response: requests.Response, part: Path, start: int) -> None:
    if not response.ok:
        raise DownloadError(
            f"{url} should hold {weights.file_name}; the server answered {response.status_code} {response.reason}. "
            f"Try later, or copy the file to {part.parent} by hand."
        )
    if start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        sent = response.headers.get("Content-Range", "no such range")
        raise DownloadError(f"{url} should continue at byte {start:,}; the server sent {sent}. Delete {part} and try again.")
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and start + int(length) != weights.size_bytes:
        _refuse_other_file(weights, url, f"{start + int(length):,} bytes")


def _check_hash(weights: KnownWeights, part: Path, url: str) -> None:
    """Remove a complete file with other content, because it could never be resumed."""
    digest = _sha256(part)
    if digest != weights.sha256:
        part.unlink()
        _refuse_other_file(weights, url, f"{weights.size_bytes:,} bytes with SHA-256 {digest[:12]}…")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_free_space(weights: KnownWeights, folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskSpaceError(
            f"{weights.file_name} needs {in_bytes(needed)} in {folder}; {in_bytes(free)} are free. "
            f"Free some space, or set {MODELS_VARIABLE} to a folder on another disk."
        )


def _refuse_other_file(weights: KnownWeights, url: str, received: str) -> NoReturn:
    raise DownloadError(
        f"{url} should hold {weights.size_bytes:,} bytes with SHA-256 {weights.sha256[:12]}…; it sent {received}, "
        "and nothing was kept. Try again, or download the file from another address."
    )


def _refuse_length(weights: KnownWeights, url: str, part: Path, done_bytes: int) -> NoReturn:
    if done_bytes > weights.size_bytes:
        part.unlink()
        _refuse_other_file(weights, url, "more than that")
    raise DownloadError(
        f"{weights.file_name} should have {weights.size_bytes:,} bytes; the connection ended after {done_bytes:,}. "
        "Download again: it resumes from there."
    )


def _refuse_connection(weights: KnownWeights, url: str, part: Path, error: requests.RequestException) -> NoReturn:
    done_bytes = _file_size(part) or 0
    if isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError) and done_bytes:
        raise DownloadError(
            f"{weights.file_name} should have {weights.size_bytes:,} bytes; the connection broke after {done_bytes:,}. "
            "Download again: it resumes from there."
        ) from error
    raise DownloadError(
        f"{url} should hold {weights.file_name}; it cannot be reached ({type(error).__name__}). "
        f"Check the network, or copy the file to {part.parent} by hand."
    ) from error


def _refuse_disk(weights: KnownWeights, folder: Path, error: OSError) -> NoReturn:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise DiskSpaceError(
            f"{weights.file_name} needs {in_bytes(weights.size_bytes)} in {folder}; the disk is full. "
            "Free some space and download again: it resumes from there."
        ) from error
    raise DownloadError(
        f"{weights.file_name} should be written to {folder}; that failed ({error.strerror or error}). "
        f"Make the folder writable, or set {MODELS_VARIABLE} to another folder."
    ) from error
