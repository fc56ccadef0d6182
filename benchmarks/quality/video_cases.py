"""Videos of every kind that recorders and tools write, made with PyAV, and the right value of each frame."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from PIL import Image

SIZE, PAL = (96, 128), (576, 720)
QUIET = "log-level=none:pools=none:frame-threads=1"  # of x265


Frames = list[np.ndarray | None]  # (H, W, 3) uint8 each; None for an incomplete picture, of which the decoder invents a part


@dataclass(frozen=True)
class VideoCase:
    """One kind of video.

    Attributes
    ----------
    kind : in words, for people
    name : of the file or folder; the suffix chooses the container
    write : writes it
    expected : the right frames of the file that was written
    """

    kind: str
    name: str
    write: Callable[[Path], None]
    expected: Callable[[Path], Frames]

    def missing(self) -> str:
        """The encoder or library that is needed to make this case and is not there; empty if nothing is missing."""
        needed = getattr(self.write, "needs", "")
        try:
            return "" if not needed or (find_spec(needed) or av.codec.Codec(needed, "w")) else needed
        except (av.error.UnknownCodecError, ValueError):
            return needed


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


def decoded_from_the_start(path: Path) -> Frames:
    """Every frame as FFmpeg decodes it in one go with one thread."""
    frames: Frames = []
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


def _decoded(context: Any, packet: av.Packet | None) -> Frames:
    try:
        return [None if frame.is_corrupt else frame.to_ndarray(format="rgb24") for frame in context.decode(packet)]
    except (av.FFmpegError, EOFError):
        return []


def _case(kind: str, name: str, codec: str = "libx264", **options: Any) -> VideoCase:
    def write(path: Path) -> None:
        encode(path, codec, **options)

    write.needs = codec  # type: ignore[attr-defined]
    return VideoCase(kind, name, write, decoded_from_the_start)


def _changed(case: VideoCase, kind: str, change: Callable[[Path, Callable[[Path], None]], None]) -> VideoCase:
    def write(path: Path) -> None:
        change(path, case.write)

    write.needs = case.write.needs  # type: ignore[attr-defined]
    return VideoCase(f"{case.kind}, {kind}", case.name, write, decoded_from_the_start)


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


def write_dicom(path: Path, syntax: str, data: bytes | list[bytes], *, frames: int, **elements: Any) -> None:
    """Write a DICOM file of a patient Doe^Jane.

    Parameters
    ----------
    syntax : the transfer syntax; it says how `data` is encoded
    data : one video, one encoded picture per frame, or all uncompressed pictures
    elements : further elements of the header
    """
    from pydicom import Dataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID, VideoEndoscopicImageStorage, generate_uid

    header = Dataset()
    header.PatientName, header.PatientID, header.PatientBirthDate = "Doe^Jane", "4711-SECRET", "19700102"
    header.InstitutionName, header.StudyDate, header.ReferringPhysicianName = "St. Secret", "20240305", "Surgeon^Sam"
    header.Rows, header.Columns, header.SamplesPerPixel, header.PhotometricInterpretation = *SIZE, 3, "RGB"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 8, 8, 7, 0
    header.PlanarConfiguration, header.NumberOfFrames, header.FrameTime = 0, frames, "40"
    header.SOPClassUID, header.SOPInstanceUID = VideoEndoscopicImageStorage, generate_uid()
    for name, value in elements.items():
        setattr(header, name, value)
    header.file_meta = Dataset()  # type: ignore[assignment]
    is_raw = isinstance(data, bytes) and not syntax.startswith("1.2.840.10008.1.2.4")
    header.PixelData = data if is_raw else encapsulate([data] if isinstance(data, bytes) else data)
    header["PixelData"].VR = "OB"
    header.file_meta.TransferSyntaxUID = UID(syntax)
    header.save_as(path, enforce_file_format=True)


def _in_dicom(case: VideoCase, syntax: str) -> VideoCase:
    """A video in a DICOM file; beside it, the video alone."""

    def write(path: Path) -> None:
        video = path.with_name(f"video_{case.name}")
        case.write(video)
        write_dicom(path, syntax, video.read_bytes(), frames=60, PhotometricInterpretation="YBR_PARTIAL_420")

    write.needs = "pydicom"  # type: ignore[attr-defined]
    name = f"{Path(case.name).stem}.dcm"
    return VideoCase(
        f"DICOM, {case.kind}", name, write, lambda path: decoded_from_the_start(path.with_name(f"video_{case.name}"))
    )


def _images_in_dicom(kind: str, syntax: str, encode_picture: Callable[[np.ndarray], bytes] | None) -> VideoCase:
    """Pictures in a DICOM file, encoded without loss."""

    def write(path: Path) -> None:
        pictures = [picture(number) for number in range(20)]
        encoded = [encode_picture(image) for image in pictures] if encode_picture else np.stack(pictures).tobytes()
        write_dicom(path, syntax, encoded, frames=20)

    write.needs = "pydicom"  # type: ignore[attr-defined]
    return VideoCase(f"DICOM, {kind}", "a.dcm", write, lambda _path: [picture(number) for number in range(20)])


def _jpeg_2000(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "jpeg2000", irreversible=False, mct=0, no_jp2=True)
    return file.getvalue()


def write_tiff(path: Path, count: int = 20) -> None:
    """Write a TIFF file with a picture on each page."""
    first, *others = (Image.fromarray(picture(number)) for number in range(count))
    first.save(path, save_all=True, append_images=others, compression="tiff_lzw")


def twelve_bits(number: int) -> np.ndarray:
    """(H, W) uint16, of which 12 bits are used."""
    return picture(number)[..., 0].astype(np.uint16) * 16 + 15


def write_12_bits(path: Path, count: int = 20) -> None:
    """Write a folder of 16-bit images of which 12 bits are used."""
    path.mkdir()
    for number in range(count):
        Image.fromarray(twelve_bits(number)).save(path / f"{number:03d}.tif")


def _grey_frames(count: int) -> Frames:
    return [np.repeat(picture(number)[..., :1], 3, axis=2) for number in range(count)]


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
    _in_dicom(_case("MPEG-4 (H.264)", "a.mp4", bf="3"), "1.2.840.10008.1.2.4.102"),
    _in_dicom(_H264_TS, "1.2.840.10008.1.2.4.106"),
    _in_dicom(_case("HEVC", "a.265", "libx265", **{"x265-params": QUIET}), "1.2.840.10008.1.2.4.107"),
    _in_dicom(_case("MPEG-2", "a.m2v", **_MPEG2), "1.2.840.10008.1.2.4.100"),
    _images_in_dicom("uncompressed", "1.2.840.10008.1.2.1", None),
    _images_in_dicom("JPEG 2000", "1.2.840.10008.1.2.4.90", _jpeg_2000),
    VideoCase("TIFF with several pages", "a.tif", write_tiff, lambda _path: [picture(number) for number in range(20)]),
    VideoCase("12 bits in a folder of 16-bit TIFF", "a", write_12_bits, lambda _path: _grey_frames(20)),
)


def with_another_size(path: Path, codec: str = "libx264", count: int = 20) -> Path:
    """A plain stream whose pictures change from 128x96 to 160x112 at frame `count`."""
    encode(path, codec, count=count)
    first = path.read_bytes()
    encode(path, codec, count=count, size=(112, 160))
    path.write_bytes(first + path.read_bytes())
    return path
