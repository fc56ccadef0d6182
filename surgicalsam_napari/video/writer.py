"""Writing frames to a video file."""

from __future__ import annotations

import errno
import uuid
from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np

from surgicalsam_napari.errors import DiskSpaceError, VideoError
from surgicalsam_napari.files import replacing

_QUALITY = "16"  # x264's constant rate factor: no visible loss
_BT601 = 6  # FFmpeg's default matrix from RGB to YUV; the file names it, for other players


def write_video(path: Path | str, frames: Iterable[np.ndarray], frame_rate: float = 25.0) -> Path:
    """Write frames as H.264 in an mp4, near lossless. After an error the old file, if any, stays.

    Even sizes are written as yuv420p, which every player supports; odd sizes as yuv444p, to keep every row and column.

    Parameters
    ----------
    path : file to write, with the suffix .mp4, .mov or .mkv
    frames : (H, W, 3) uint8 RGB each, all of one size
    frame_rate : frames per second

    Returns
    -------
    the path

    Raises
    ------
    VideoError
        if there are no frames, if they differ in size, or if the file cannot be written
    DiskSpaceError
        if the disk is full
    """
    path = Path(path)
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise VideoError(f"No frames to write to {path.name}; at least 1 is needed. Choose a range that has frames.")
    if not frame_rate > 0:
        raise VideoError(f"{path.name} needs a frame rate above 0; got {frame_rate}. Give the frames per second.")
    # keep the suffix: FFmpeg derives the format from it; the name is unique, so no other process writes to it
    partial = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix or '.mp4'}")
    try:
        with replacing(path, partial):
            _encode(partial, chain([first], iterator), _checked(first).shape[:2], frame_rate)
    except OSError as error:  # FFmpeg's errors about files are OSErrors as well
        if error.errno == errno.ENOSPC:
            raise DiskSpaceError(
                f"The disk is full: {path.name} was not written. Free some space in {path.parent}."
            ) from error
        raise VideoError(
            f"{path} cannot be written ({error.strerror or error}). Choose another folder or file name."
        ) from error
    except av.FFmpegError as error:
        raise VideoError(f"{path} cannot be written ({error}). Choose a name that ends in .mp4.") from error
    return path


def _encode(path: Path, frames: Iterable[np.ndarray], size: tuple[int, ...], frame_rate: float) -> None:
    height, width = size
    with av.open(f"file:{path}", "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(frame_rate).limit_denominator(10_000))
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv444p" if height % 2 or width % 2 else "yuv420p"
        stream.codec_context.colorspace = _BT601
        stream.options = {"crf": _QUALITY, "preset": "fast"}
        shape = (height, width, 3)
        for index, image in enumerate(frames):
            if image.shape != shape:
                raise VideoError(
                    f"Frame {index} for {path.name.lstrip('.')} has shape {image.shape}, the first has {shape}. "
                    "Write frames of one size."
                )
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(_checked(image)), format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _checked(image: np.ndarray) -> np.ndarray:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise VideoError(
            f"Frames of shape (H, W, 3) and type uint8 are needed; got {image.shape} {image.dtype}. Convert them first."
        )
    return image
