"""Videos of every kind that recorders and tools write, made with PyAV, and the right value of each frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

SIZE, PAL = (96, 128), (576, 720)
QUIET = "log-level=none:pools=none:frame-threads=1"  # of x265


@dataclass(frozen=True)
class VideoCase:
    """One kind of video.

    Attributes
    ----------
    kind : in words, for people
    name : of the file; the suffix chooses the container
    write : writes it
    """

    kind: str
    name: str
    write: Callable[[Path], None]

    def is_writable(self) -> bool:
        """Whether this FFmpeg has the encoder."""
        codec = getattr(self.write, "codec", "")
        try:
            av.codec.Codec(codec, "w")
        except (av.error.UnknownCodecError, ValueError):
            return False
        return True


@cache
def _texture(size: tuple[int, int]) -> np.ndarray:
    noise = np.random.default_rng(5).integers(0, 255, (2 * size[0], 2 * size[1], 3)).astype(np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), 2)
    return (cv2.normalize(blurred, None, 0, 235, cv2.NORM_MINMAX)).astype(np.uint8)


def picture(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W, 3) uint8: a texture that moves, with noise, so that every picture differs from the others everywhere."""
    height, width = size
    row, column = int(height * (0.3 + 0.25 * np.sin(number / 7))), int(width * (0.3 + 0.25 * np.cos(number / 9)))
    noise = np.random.default_rng(number).integers(0, 20, (*size, 3), np.uint8)
    return _texture(size)[row : row + height, column : column + width] + noise


def encode(
    path: Path,
    codec: str,
    *,
    count: int = 60,
    first: int = 0,
    size: tuple[int, int] = SIZE,
    pix_fmt: str = "yuv420p",
    gop: int = 12,
    b_frames: int | None = None,
    muxer: str | None = None,
    muxer_options: dict[str, str] | None = None,
    **options: str,
) -> None:
    """Write pictures `first` and following."""
    with av.open(str(path), "w", format=muxer, container_options=muxer_options or {}) as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *size, pix_fmt
        stream.codec_context.gop_size, stream.codec_context.thread_count = gop, 1
        if b_frames is not None:
            stream.codec_context.max_b_frames = b_frames
        stream.options = options
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(picture(first + number, size)).reformat(format=pix_fmt)
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def decoded_from_the_start(path: Path) -> list[np.ndarray | None]:
    """Every frame as FFmpeg decodes it in one go with one thread, (H, W, 3) uint8.

    None for a picture that is incomplete in the file, so that the decoder invents a part of it.
    """
    frames: list[np.ndarray | None] = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return frames
            except av.FFmpegError:  # the file is cut off; what the decoder still holds follows
                return frames + _decoded(stream.codec_context, None)
            frames += _decoded(stream.codec_context, packet)


def _decoded(context: Any, packet: av.Packet | None) -> list[np.ndarray | None]:
    try:
        return [None if frame.is_corrupt else frame.to_ndarray(format="rgb24") for frame in context.decode(packet)]
    except (av.FFmpegError, EOFError):
        return []


def _case(kind: str, name: str, codec: str = "libx264", **options: Any) -> VideoCase:
    def write(path: Path) -> None:
        encode(path, codec, **options)

    write.codec = codec  # type: ignore[attr-defined]
    return VideoCase(kind, name, write)


def _changed(case: VideoCase, kind: str, change: Callable[[Path, Callable[[Path], None]], None]) -> VideoCase:
    def write(path: Path) -> None:
        change(path, case.write)

    write.codec = case.write.codec  # type: ignore[attr-defined]
    return VideoCase(f"{case.kind}, {kind}", case.name, write)


def _cut(case: VideoCase, share: float = 0.8) -> VideoCase:
    """The first bytes of a file, as a copy that was interrupted leaves them."""

    def change(path: Path, write: Callable[[Path], None]) -> None:
        write(path)
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])

    return _changed(case, "cut off", change)


def _joined(case: VideoCase) -> VideoCase:
    """One file after the other, as recorders and `cat` join segments."""

    def change(path: Path, write: Callable[[Path], None]) -> None:
        write(path)
        path.write_bytes(path.read_bytes() * 2)

    return _changed(case, "segments joined", change)


def _x264(params: str, **options: Any) -> dict[str, Any]:
    return {"preset": "fast", "x264-params": params, **options}


_LONG = {"count": 150}
_FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}
_OPEN = "open-gop=1:scenecut=0:bframes=3"
_MPEG2 = {"codec": "mpeg2video", "b_frames": 2, "b": "2M"}
_H264_TS, _H264_FRAGMENTS = (
    _case("H.264 in ts", "a.ts", bf="2"),
    _case("H.264 in fragments", "a.mp4", muxer_options=_FRAGMENTS),
)
_VOB = _case("MPEG-2 in vob", "a.vob", **_MPEG2)

CASES = (
    _case("H.264 in mp4", "a.mp4", bf="3"),
    _case("H.264, pyramid of B-frames", "a.mkv", **_x264("b-pyramid=normal:b-adapt=0:bframes=7")),
    _case("H.264, interlaced", "a.mp4", **_x264("tff=1:interlaced=1:bframes=3")),
    _case("H.264, open GOPs", "a.mp4", **_x264(_OPEN)),
    _case("H.264, open GOPs in ts", "a.ts", **_x264(_OPEN)),
    _case("H.264, intra refresh", "a.mp4", **_LONG, **_x264("keyint=30:intra-refresh=1")),
    _case("H.264, intra refresh in ts", "a.mts", **_LONG, **_x264("keyint=30:intra-refresh=1")),
    _case("H.264, intra refresh without B-frames", "a.mkv", **_LONG, **_x264("keyint=25:intra-refresh=1:bframes=0")),
    _case("H.264, intra refresh without container", "a.h264", **_LONG, **_x264("keyint=30:intra-refresh=1")),
    _case("H.264, one keyframe", "a.mp4", **_LONG, **_x264("keyint=infinite:scenecut=0")),
    _case("H.264, 10 bits", "a.mp4", pix_fmt="yuv420p10le"),
    _case("H.264 in avi", "a.avi", bf="2"),
    _case("H.264 in flv", "a.flv", bf="2"),
    _case("H.264 in mxf", "a.mxf", **_x264("keyint=12:bframes=2")),
    _case("H.264 without container", "a.264", bf="3"),
    _H264_TS,
    _H264_FRAGMENTS,
    _cut(_H264_TS),
    _cut(_H264_FRAGMENTS),
    _cut(_case("H.264 in mp4, index first", "a.mp4", bf="2", muxer_options={"movflags": "faststart"})),
    _cut(_case("H.264 in mkv", "a.mkv", bf="2")),
    _cut(_case("H.264 in avi", "a.avi", bf="2")),
    _cut(_case("H.264 in flv", "a.flv", bf="2")),
    _joined(_H264_TS),
    _joined(_case("H.264 without container", "a.h264", bf="2")),
    _case("HEVC, open GOPs", "a.mp4", "libx265", **{"x265-params": f"{QUIET}:keyint=12:open-gop=1"}),
    _case("HEVC, open GOPs in ts", "a.ts", "libx265", **{"x265-params": f"{QUIET}:keyint=12:open-gop=1"}),
    _case("HEVC, intra refresh", "a.mp4", "libx265", count=90, **{"x265-params": f"{QUIET}:keyint=30:intra-refresh=1"}),
    _case("HEVC, 10 bits", "a.mkv", "libx265", pix_fmt="yuv420p10le", **{"x265-params": QUIET}),
    _case("HEVC without container", "a.265", "libx265", **{"x265-params": QUIET}),
    _case("MPEG-2 in mpg", "a.mpg", **_MPEG2),
    _case("MPEG-2 in mxf", "a.mxf", size=PAL, count=30, **_MPEG2),
    _case("MPEG-2 without container", "a.m2v", **_MPEG2),
    _VOB,
    _cut(_VOB),
    _joined(_VOB),
    _case("MPEG-1 in mpg", "a.mpg", "mpeg1video", b_frames=2),
    _case("MPEG-4 in avi", "a.divx", "mpeg4", b_frames=2, muxer="avi"),
    _cut(_case("MPEG-4 in avi", "a.avi", "mpeg4")),
    _case("MPEG-4 in 3gp", "a.3gp", "mpeg4"),
    _case("H.263 in 3gp", "a.3gp", "h263"),
    _case("DV", "a.dv", "dvvideo", size=PAL, count=12),
    _case("Windows Media in asf", "a.asf", "wmv2"),
    _case("Flash video", "a.flv", "flv1"),
    _case("VP8 in webm", "a.webm", "libvpx", **{"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"}),
    _case("VP9 in webm", "a.webm", "libvpx-vp9", **{"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"}),
    _case("VP9 in ivf", "a.ivf", "libvpx-vp9", **{"cpu-used": "8"}),
    _case("AV1 in mp4", "a.mp4", "libsvtav1", preset="12", **{"svtav1-params": "keyint=24"}),
    _case("Motion JPEG in avi", "a.avi", "mjpeg", pix_fmt="yuvj420p"),
    _case("Motion JPEG without container", "a.mjpg", "mjpeg", pix_fmt="yuvj420p"),
    _case("ProRes", "a.mov", "prores_ks", pix_fmt="yuv422p10le"),
    _case("FFV1", "a.mkv", "ffv1"),
    _case("raw in avi", "a.avi", "rawvideo"),
)


def with_another_size(path: Path, codec: str = "libx264", count: int = 20) -> Path:
    """A plain stream whose pictures change from 128x96 to 160x112 at frame `count`."""
    encode(path, codec, count=count)
    first = path.read_bytes()
    encode(path, codec, count=count, size=(112, 160))
    path.write_bytes(first + path.read_bytes())
    return path
