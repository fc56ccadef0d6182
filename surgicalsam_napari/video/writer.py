"""Writing frames to a video file."""

from __future__ import annotations

import errno
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream

from surgicalsam_napari.errors import DiskSpaceError, VideoError
from surgicalsam_napari.files import replacing

_QUALITY = "16"  # x264's constant rate factor: no visible loss
_CLOCK = Fraction(1, 90_000)  # time base of frames with times of their own, as in MPEG
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
    with writing_video(path, frame_rate) as write:
        for frame in frames:
            write(frame)
    return Path(path)


@contextmanager
def writing_video(
    path: Path | str, frame_rate: float = 25.0, times: Sequence[float] | np.ndarray | None = None
) -> Iterator[Callable[[np.ndarray], None]]:
    """Yield a function that writes the next frame; the file appears when the block ends, and only if it does not fail.

    Parameters and errors as for `write_video`, and

    times : seconds at which each frame is shown, ascending, for a video without a constant rate; by default even steps
    """
    path = Path(path)
    if not frame_rate > 0:
        raise VideoError(f"{path.name} needs a frame rate above 0; got {frame_rate}. Give the frames per second.")
    # keep the suffix: FFmpeg derives the format from it; the name is unique, so no other process writes to it
    partial = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix or '.mp4'}")
    try:
        with replacing(path, partial), av.open(f"file:{partial}", "w") as container:
            encoder = _Encoder(container, path.name, Fraction(frame_rate).limit_denominator(10_000), times)
            yield encoder.write
            encoder.finish()
    except OSError as error:  # FFmpeg's errors about files are OSErrors as well
        if error.errno == errno.ENOSPC:
            raise DiskSpaceError(
                f"The disk is full: {path.name} was not written. Free some space in {path.parent}."
            ) from error
        raise VideoError(
            f"{path} cannot be written ({error.strerror or error}). Choose another folder or file name."
        ) from error
    except (av.FFmpegError, ValueError) as error:  # PyAV raises a ValueError for an unknown suffix
        raise VideoError(f"{path} cannot be written ({error}). Choose a name that ends in .mp4.") from error


class _Encoder:
    """Encodes frames as H.264 into an open container; the first frame sets the size."""

    def __init__(
        self, container: OutputContainer, name: str, rate: Fraction, times: Sequence[float] | np.ndarray | None
    ) -> None:
        self._container, self._name, self._rate, self._times = container, name, rate, times
        self._stream: VideoStream | None = None
        self._shape: tuple[int, ...] = ()
        self._count = 0

    def write(self, image: np.ndarray) -> None:
        stream = self._stream_for(_checked(image))
        if image.shape != self._shape:
            raise VideoError(
                f"Frame {self._count} for {self._name} has shape {image.shape}, the first has {self._shape}. "
                "Write frames of one size."
            )
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.time_base = stream.codec_context.time_base
        frame.pts = self._count if self._times is None else round(self._times[self._count] / float(frame.time_base))
        self._container.mux(stream.encode(frame))
        self._count += 1

    def finish(self) -> None:
        if self._stream is None:
            raise VideoError(f"No frames to write to {self._name}; at least 1 is needed. Choose a range that has frames.")
        self._container.mux(self._stream.encode())

    def _stream_for(self, image: np.ndarray) -> VideoStream:
        if self._stream is None:
            height, width, _ = self._shape = image.shape
            stream = self._container.add_stream("libx264", rate=self._rate)
            stream.width, stream.height = width, height
            stream.pix_fmt = "yuv444p" if height % 2 or width % 2 else "yuv420p"
            stream.codec_context.time_base = 1 / self._rate if self._times is None else _CLOCK
            stream.codec_context.colorspace = _BT601
            stream.options = {"crf": _QUALITY, "preset": "fast"}
            self._stream = stream
        return self._stream


def _checked(image: np.ndarray) -> np.ndarray:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise VideoError(
            f"Frames of shape (H, W, 3) and type uint8 are needed; got {image.shape} {image.dtype}. Convert them first."
        )
    return image
