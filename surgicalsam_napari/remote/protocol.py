"""What a worker and its clients say to each other: HTTP/1.1 with bytes and numbers only; no side runs what the other sends.

| Request | Answer |
| --- | --- |
| GET /hello | JSON: program, protocol, version, device |
| GET /encoder | steps until the encoder is loaded; then nothing |
| POST /frames, `pack_frames` | steps until they are embedded; then `pack_embeddings` |
| POST /line, up to 1 MiB | the same bytes, to measure the line |

An answer in steps is a WORKING byte every two seconds, which shows that the line and the worker are alive, then DONE and the
content, or FAILED and JSON with `message`. A refused request is answered with a status from 400 on and the same JSON.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from surgicalsam_napari import __version__
from surgicalsam_napari.errors import WorkerRefused
from surgicalsam_napari.model.encoders import ENCODERS

PROGRAM = "surgicalsam worker"
PROTOCOL = 1
WORKING, DONE, FAILED = b"\x00", b"\x01", b"\x02"
WORKING_SECONDS = 2.0
QUIET_SECONDS = 15.0  # without a byte; then the line counts as cut
MOST_FRAMES = 16  # in one request
LINE_BYTES = 1 << 20
MOST_MESSAGE_BYTES = 4096
DTYPES = ("float16", "float32")
_PREFIX = "SurgicalSAM-"


@dataclass(frozen=True)
class EncoderName:
    """An image encoder: its id in `ENCODERS`, and the digest of its weights."""

    id: str
    digest: str

    def __str__(self) -> str:
        return f"{self.id} {self.digest}"


@dataclass(frozen=True)
class FramesRequest:
    """What a request to /frames holds.

    Attributes
    ----------
    shape : (B, h, w, 3) of the frames; the longer side is the side of the encoder's square
    dtype : of the embeddings
    """

    encoder: EncoderName
    shape: tuple[int, int, int, int]
    dtype: str

    @property
    def embeddings_shape(self) -> tuple[int, int, int, int]:
        """(B, D, h, w)"""
        return (self.shape[0], *ENCODERS[self.encoder.id].embedding_shape)


def request_headers(encoder: EncoderName | None = None, request: FramesRequest | None = None) -> dict[str, str]:
    """The headers of a request; they hold no name of a file, a person or a class."""
    headers = {f"{_PREFIX}Version": __version__, f"{_PREFIX}Protocol": str(PROTOCOL)}
    if request is not None:
        encoder = request.encoder
        headers[f"{_PREFIX}Frames"] = " ".join(map(str, request.shape[:3]))
        headers[f"{_PREFIX}Dtype"] = request.dtype
    if encoder is not None:
        headers[f"{_PREFIX}Encoder"] = str(encoder)
    return headers


def check_versions(version: object, protocol: object, side: str) -> None:
    """A WorkerRefused unless the other side has this version of the package and of the protocol."""
    if (str(version), str(protocol)) != (__version__, str(PROTOCOL)):
        raise WorkerRefused(
            f"{side} should have surgicalsam-napari {__version__} (protocol {PROTOCOL}), as here; it has "
            f"{plain_text(str(version), 40)} (protocol {plain_text(str(protocol), 10)}). "
            "Install the same version on both machines."
        )


def read_encoder(headers: Any) -> EncoderName:
    """The encoder that a request names; a WorkerRefused if this version has no such encoder."""
    encoder_id, _, digest = str(headers.get(f"{_PREFIX}Encoder", "")).partition(" ")
    if encoder_id not in ENCODERS or not digest.isalnum() or len(digest) > 64:
        raise WorkerRefused(
            f"A request should name one of the encoders {', '.join(ENCODERS)} and the digest of its weights."
        )
    return EncoderName(encoder_id, digest)


def read_versions(headers: Any) -> tuple[object, object]:
    """Version and protocol of the other side."""
    return headers.get(f"{_PREFIX}Version"), headers.get(f"{_PREFIX}Protocol")


def read_frames_request(headers: Any) -> FramesRequest:
    """What the headers of a request to /frames say; a WorkerRefused if it cannot be."""
    encoder = read_encoder(headers)
    numbers = str(headers.get(f"{_PREFIX}Frames", "")).split()
    dtype = str(headers.get(f"{_PREFIX}Dtype", ""))
    side = ENCODERS[encoder.id].input_size
    if len(numbers) == 3 and all(number.isdecimal() and len(number) < 6 for number in numbers) and dtype in DTYPES:
        count, height, width = map(int, numbers)
        if 0 < count <= MOST_FRAMES and min(height, width) > 0 and max(height, width) == side:
            return FramesRequest(encoder, (count, height, width, 3), dtype)
    raise WorkerRefused(
        f"A request should have 1 to {MOST_FRAMES} frames with a longer side of {side}, and a type of embeddings."
    )


def failure(message: str) -> bytes:
    """The JSON of a refused or failed request."""
    return json.dumps({"message": plain_text(message, MOST_MESSAGE_BYTES // 6)}).encode("ascii")


def read_failure(content: bytes) -> str:
    """The message of `failure`, without anything that a terminal or window could take for more than text."""
    try:
        message = json.loads(content)["message"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "it gives no reason"
    return plain_text(str(message), MOST_MESSAGE_BYTES)


def plain_text(text: str, most: int) -> str:
    """One line of printable characters, at most so many."""
    return "".join(character if character.isprintable() else " " for character in text[:most]).strip()
