"""Load a model whose image encoder is on another machine; its prompts and decoder run here."""

from __future__ import annotations

from math import prod
from pathlib import Path

from surgicalsam_napari.formatting import in_bytes
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.model.checkpoint import load_checkpoint, read_checkpoint_info
from surgicalsam_napari.model.encoders import ENCODERS
from surgicalsam_napari.model.geometry import FrameGeometry
from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.remote.connection import Connection
from surgicalsam_napari.remote.encoder import RemoteEncoder, WorkerState
from surgicalsam_napari.remote.protocol import EncoderName

PACKED_FRAME, PACKED_EMBEDDING = 0.33, 0.8  # of their bytes, on the line; measured on surgical videos


def load_with_worker(
    path: Path,
    address: str,
    certificates: Path | None = None,
    *,
    encoder_weights: Path | None = None,
    classes: ClassSet | None = None,
    fast: bool = False,
) -> SurgicalSAM:
    """As `load_checkpoint` on this machine's best device, with a worker that computes the image embeddings.

    The weights of a large encoder are not needed on this machine.

    Parameters
    ----------
    address : HOST:PORT of the worker
    certificates : see `Connection`

    Raises
    ------
    WorkerLost, WorkerRefused
        nobody answers; or another version, other weights of the encoder, a wrong certificate, or no TLS
    CheckpointError, DeviceError
        as `load_checkpoint`
    """
    connection = Connection(address, certificates)
    greeting = connection.greet()
    is_separate = path.suffix == ".safetensors" and not read_checkpoint_info(path).includes_encoder

    def load(with_encoder: bool) -> SurgicalSAM:
        return load_checkpoint(
            path, encoder_weights=encoder_weights, classes=classes, fast=fast, load_image_encoder=with_encoder
        )

    model = load(not is_separate)
    encoder = EncoderName(model.encoder_id, model.encoder_digest)
    connection.load(encoder)

    def prepare_here() -> None:
        if model.image_encoder is None:
            model.image_encoder = load(True).image_encoder

    model.embedder = RemoteEncoder(connection, greeting, encoder, model.embed_here, prepare_here)
    return model


def worker_text(state: WorkerState) -> str:
    """What embeds the frames, and how far away it is: "CUDA: NVIDIA A100, 1.2 ms away"."""
    line = "" if state.is_encrypted else ", without TLS (this machine, or a tunnel from it)"
    return f"{state.device}, {1000 * state.latency:.1f} ms away{line}"


def traffic_text(state: WorkerState) -> str:
    """What the line carries: speed, and what a frame is on it, there and back; empty before the first frame."""
    if state.frames_per_second is None or state.frame_size is None:
        return ""
    height, width = state.frame_size
    sent, received = (in_bytes(round(count / state.frames)) for count in (state.sent, state.received))
    megabits = 8e-6 * (state.sent + state.received) / state.seconds
    return (
        f"{state.frames_per_second:.1f} frames a second, {megabits:.1f} Mbit/s. "
        f"One frame: {width} × {height} pixels, {sent} sent, {received} back."
    )


def bits_per_frame(video_size: tuple[int, int] | None, encoder_id: str) -> float:
    """About how many bits one frame needs on the line, there and back."""
    spec = ENCODERS[encoder_id]
    height, width = FrameGeometry(video_size or (1080, 1920), spec.input_size).resized_size
    return 8 * (3 * height * width * PACKED_FRAME + 2 * prod(spec.embedding_shape) * PACKED_EMBEDDING)


def what_leaves(video_size: tuple[int, int] | None, encoder_id: str) -> str:
    """What leaves this machine, so that a person can decide.

    Parameters
    ----------
    video_size : (H, W) of the video's frames; None for any video
    """
    side = ENCODERS[encoder_id].input_size
    height, width = (side, side) if video_size is None else FrameGeometry(video_size, side).resized_size
    size = f"of {width} × {height} pixels" if video_size is not None else f"of at most {side} × {side} pixels"
    about = in_bytes(round(3 * height * width * PACKED_FRAME))
    return (
        f"Sent: pictures {size}, about {about} each, scaled from the frames, and the name of the image encoder. Not sent: "
        "names of files, patients, persons or classes, labels, frame numbers, sound. Text inside a picture, such as a name "
        "burned into the video, is a part of it. The worker keeps nothing."
    )
