"""VideoReader: a video as a lazy array of RGB frames."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import EllipsisType, TracebackType
from typing import Any, ClassVar, Protocol, SupportsIndex

import numpy as np

from surgicalsam_napari.errors import UnreachableVideoError, VideoError
from surgicalsam_napari.video.containers import STREAM_SUFFIXES
from surgicalsam_napari.video.content_area import ContentArea, find_content_area
from surgicalsam_napari.video.dicom import DICOM_SUFFIXES, is_dicom, open_dicom
from surgicalsam_napari.video.fingerprint import file_fingerprint, folder_fingerprint, frame_sample
from surgicalsam_napari.video.image_folder import IMAGE_SUFFIXES, ImageFolder
from surgicalsam_napari.video.stream_decoder import StreamDecoder
from surgicalsam_napari.video.tiff_pages import TIFF_SUFFIXES, tiff_pages

VIDEO_SUFFIXES: tuple[str, ...] = (*STREAM_SUFFIXES, *DICOM_SUFFIXES)
FILE_SUFFIXES: tuple[str, ...] = (*VIDEO_SUFFIXES, *TIFF_SUFFIXES)  # also files that may be something else

_PROJECT_SUFFIX = ".surgicalsam"
_AREA_FRAMES = 8  # keyframes in which the content area is looked for,
_AREA_FRAMES_DECODED = 96  # and, in a video with fewer keyframes, about so many frames decoded in all
_KEPT_BEFORE_A_JUMP = 8  # frames before the target of a far jump that are cached, for steps back


@dataclass(frozen=True)
class VideoInfo:
    """The properties of a video.

    Attributes
    ----------
    path : the file or folder
    frame_count : number of frames that can be read
    size : (H, W) in pixels as shown, after rotation; pixels are assumed to be square
    frame_rate : frames per second (the average if it varies), None if unknown
    codec : FFmpeg's name for the codec, or for example "png images"
    fingerprint : 32 hexadecimal digits from the content, independent of the path
    left_out : names of images in the folder that are no frames, such as masks beside the frames
    remarks : what a person should know about how the pictures are shown, in words
    """

    path: Path
    frame_count: int
    size: tuple[int, int]
    frame_rate: float | None
    codec: str
    fingerprint: str
    left_out: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


class _FrameSource(Protocol):
    frame_count: int
    size: tuple[int, int]
    frame_rate: float | None
    codec: str
    frames_decoded: int

    def keyframes(self) -> list[int]: ...
    def frame_times(self) -> np.ndarray | None: ...
    def frames_until(self, index: int, frames_before: int | None = None) -> Any: ...
    def rgb(self, frame: Any) -> np.ndarray: ...
    def byte_count(self, frame: Any) -> int: ...
    def close(self) -> None: ...


class VideoReader:
    """Frames of a video file, or of a folder of numbered images, by exact index in presentation order.

    Frames are decoded on request. Forward play decodes each frame once. A jump decodes from the nearest keyframe; a far jump
    skips pictures that no other picture refers to. Recent frames are cached as the codec outputs them (YUV). Several threads
    may use one reader. Indexing works as for a read-only NumPy array of shape (T, H, W, 3), so napari accepts a reader as
    layer data: `reader[7]`, `reader[-1, 10:20]`, `reader[::100]`.

    Parameters
    ----------
    path : a video file, a folder of images, or a TIFF file with several pages
    cache_megabytes : memory for recent frames, in MB; by default `usual_cache_megabytes`
    every_image : of a folder, also masks and doubles are frames; for projects that were made so

    Attributes
    ----------
    on_unreadable : called with the error if a frame cannot be read by indexing, which then gives a black one, so that a
        viewer goes on; None: indexing raises the error, as `frame` does

    A file that was away, because its disk or share was, is opened again when it is back.

    Raises
    ------
    VideoError
        if the path is missing, empty, no video, too incomplete to read, or a folder of images of several sizes
    """

    ndim = 4
    dtype = np.dtype(np.uint8)
    usual_cache_megabytes: ClassVar[int] = 256  # of readers that are made from now on; napari's Preferences change it

    def __init__(self, path: Path | str, *, cache_megabytes: int | None = None, every_image: bool = False) -> None:
        path = Path(path).expanduser().absolute()
        self._lock = threading.RLock()
        self._closed = False
        self._every_image = every_image
        self._source = _open_source(path, every_image)
        self._file = _identity(path)
        self.on_unreadable: Callable[[VideoError], None] | None = None
        self._cache: OrderedDict[int, Any] = OrderedDict()
        self._cache_limit = 1_000_000 * (self.usual_cache_megabytes if cache_megabytes is None else cache_megabytes)
        self._cache_bytes = 0
        self._last_requested = 0
        self._content_area: ContentArea | None = None
        self._samples: dict[int, str] = {}
        self.info = VideoInfo(
            path=path,
            frame_count=self._source.frame_count,
            size=self._source.size,
            frame_rate=self._source.frame_rate,
            codec=self._source.codec,
            fingerprint=_fingerprint(path, self._source),
            left_out=tuple(file.name for file in getattr(self._source, "left_out", ())),
            remarks=getattr(self._source, "remarks", ()),
        )

    def __repr__(self) -> str:
        height, width = self.info.size
        return f"<VideoReader {self.info.path.name}: {len(self)} frames of {width}x{height}, {self.info.codec}>"

    def __len__(self) -> int:
        return self.info.frame_count

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(T, H, W, 3)"""
        return (self.info.frame_count, *self.info.size, 3)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        return self.size

    @property
    def frames_decoded(self) -> int:
        """Number of frames decoded so far; frames from the cache do not count."""
        return self._source.frames_decoded

    @property
    def content_area(self) -> ContentArea:
        """The part of the picture inside the endoscope's black border: the same in all frames, found on first use.

        Looks at a few frames all over the video, mostly keyframes. The whole frame if they show no border or cannot be read.
        """
        with self._lock:
            if self._content_area is None and not self._closed:
                self._content_area = find_content_area(self._frames_to_look_at(), self.info.size)
            return self._content_area or ContentArea(self.info.size)

    @property
    def frame_samples(self) -> dict[int, str]:
        """Samples (`fingerprint.frame_sample`) of a few readable frames all over the video, by frame index."""
        _ = self.content_area  # it looks at the same frames
        return dict(self._samples)

    @property
    def is_limited(self) -> bool:
        """Whether the file has more frames than are shown; see `limit`."""
        return self.info.frame_count < self._source.frame_count

    def limit(self, frame_count: int) -> None:
        """Be a video of its first frames only, for a project that was made when the recording was shorter."""
        with self._lock:
            self.info = replace(self.info, frame_count=min(frame_count, self.info.frame_count))

    def _frames_to_look_at(self) -> Iterator[np.ndarray]:
        """A few readable frames that decode quickly, spread over the video; not cached. They are sampled on the way."""
        keys = np.array([key for key in self._source.keyframes() if key < len(self)])
        if len(keys) >= _AREA_FRAMES:
            indices = keys[np.linspace(0, len(keys) - 1, _AREA_FRAMES).astype(int)]
        else:
            ahead = np.arange(0, _AREA_FRAMES_DECODED // max(len(keys), 1) + 1, _AREA_FRAMES_DECODED // _AREA_FRAMES)
            indices = np.unique((keys[:, None] + ahead).clip(max=len(self) - 1))
        for index in indices.tolist():
            with suppress(VideoError):
                *_, (_index, frame) = self._source.frames_until(index)  # skipping frames would start at the keyframe again
                rgb = self._source.rgb(frame)
                self._samples[index] = frame_sample(rgb)
                yield rgb

    def frame_times(self) -> np.ndarray | None:
        """When each frame is shown, in seconds from the first frame: (T,) float64, ascending, as the file states it.

        A file without times gets even steps at its frame rate; images in a folder have no times: None.
        """
        with self._lock:
            times = self._source.frame_times()
            return None if times is None else times[: len(self)]

    def frame(self, index: int) -> np.ndarray:
        """Decode one frame.

        Parameters
        ----------
        index : from 0 to T - 1, in presentation order

        Returns
        -------
        (H, W, 3) uint8 RGB, a copy

        Raises
        ------
        IndexError
            if there is no such frame
        VideoError
            if the frame is damaged, or the reader closed
        """
        if not 0 <= index < len(self):
            raise IndexError(f"Frame {index} of {self.info.path.name} does not exist: its frames are 0 to {len(self) - 1}.")
        with self._lock:
            if self._closed:
                raise VideoError(f"{self.info.path.name} is closed; an open video is needed. Open it again.")
            if index in self._cache:
                self._cache.move_to_end(index)
            else:
                self._decode(index)
            self._last_requested = index
            return self._source.rgb(self._cache[index])

    def _decode(self, index: int) -> None:
        """Decode a frame into the cache; if the file was away, open it again."""
        if self._file is None:
            self._open_again()
        try:
            for decoded_index, frame in self._source.frames_until(index, self._frames_wanted_before(index)):
                self._keep(decoded_index, frame)
        except VideoError:
            if self._file == _identity(self.info.path):
                raise
            self._file = None
            self._decode(index)

    def _open_again(self) -> None:
        path = self.info.path
        if (identity := _identity(path)) is None:
            raise UnreachableVideoError(
                f"{path} cannot be reached. Connect its disk or share again, or move it back: then it is read again."
            )
        source = _open_source(path, self._every_image)
        if source.frame_count < len(self) or source.size != self.info.size:
            source.close()
            raise VideoError(
                f"{path.name} is another video than when it was opened. Put the first one back, or open this one."
            )
        self._source.close()
        self._source, self._file = source, identity

    def _frames_wanted_before(self, index: int) -> int:
        """Near the last requested frame: as many as the cache holds, to continue in both directions; otherwise a few."""
        frames_held = self._cache_limit * len(self._cache) // max(self._cache_bytes, 1)
        is_near = abs(index - self._last_requested) <= frames_held
        return max(frames_held, _KEPT_BEFORE_A_JUMP) if is_near else _KEPT_BEFORE_A_JUMP

    def _keep(self, index: int, frame: Any) -> None:
        self._cache_bytes += self._source.byte_count(frame)
        if index in self._cache:
            self._cache_bytes -= self._source.byte_count(self._cache.pop(index))
        self._cache[index] = frame
        while self._cache_bytes > self._cache_limit and len(self._cache) > 1:
            self._cache_bytes -= self._source.byte_count(self._cache.popitem(last=False)[1])

    def __getitem__(self, key: Any) -> np.ndarray:
        """Index as a NumPy array; only the requested frames are decoded.

        The first axis takes an integer, a slice, or a 1-D array of integers or booleans; the others as in NumPy.
        """
        frames, rest = _split_key(key)
        if isinstance(frames, SupportsIndex) and not isinstance(frames, (bool, np.ndarray)):
            return self._shown_frame(self._positive(int(frames)))[rest]
        indices = np.arange(len(self))[frames]
        if indices.ndim != 1:
            raise IndexError(f"The first axis of a video takes an integer, a slice or a 1-D array; got {frames!r}.")
        if len(indices) == 0:
            return np.empty((0, *self.shape[1:]), np.uint8)[(slice(None), *rest)]
        first = self._shown_frame(int(indices[0]))[rest]
        stack = np.empty((len(indices), *first.shape), np.uint8)
        stack[0] = first
        for place, index in enumerate(indices[1:].tolist(), start=1):
            stack[place] = self._shown_frame(index)[rest]
        return stack

    def _shown_frame(self, index: int) -> np.ndarray:
        try:
            return self.frame(index)
        except VideoError as error:
            if self.on_unreadable is None or self._closed:
                raise
            self.on_unreadable(error)
            return np.zeros(self.shape[1:], np.uint8)

    def _positive(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"Frame {index} of {self.info.path.name} does not exist: its frames are 0 to {len(self) - 1}.")
        return index % len(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype)

    def close(self) -> None:
        """Close the file and clear the cache; `info` and `shape` remain available."""
        with self._lock:
            self._closed = True
            self._cache.clear()
            self._cache_bytes = 0
            self._source.close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def is_video(path: Path | str) -> bool:
    """Whether this is a video: a file by its suffix, a DICOM file, a TIFF with several colour pages, a folder with images.

    A TIFF with several grey pages may be a video or the labels of one; `VideoReader` opens it, too.
    """
    path = Path(path)
    if not path.is_dir():
        return path.suffix.lower() in VIDEO_SUFFIXES or _is_colored_stack(path) or (path.is_file() and is_dicom(path))
    if path.suffix.lower() == _PROJECT_SUFFIX:
        return False
    try:
        return any(file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".") for file in path.iterdir())
    except OSError:
        return False


def _is_stack(path: Path) -> bool:
    return path.suffix.lower() in TIFF_SUFFIXES and len(tiff_pages(path)) > 1


def _is_colored_stack(path: Path) -> bool:
    return _is_stack(path) and tiff_pages(path)[0].is_colored


def _open_source(path: Path, every_image: bool) -> _FrameSource:
    if path.is_dir() or _is_stack(path):
        return ImageFolder(path, every_image=every_image)
    if not path.exists():
        raise VideoError(f"{path} does not exist; a video file or a folder of images is needed. Check the path.")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise VideoError(
            f"{path.name} is a single image; a video or a folder of images is needed. Open the folder {path.parent}."
        )
    if not path.is_file():
        raise VideoError(f"{path.name} is neither a file nor a folder; a video file is needed. Choose a video file.")
    if path.stat().st_size == 0:
        raise VideoError(f"{path.name} is empty (0 bytes); a video file is needed. Copy it again from its source.")
    return open_dicom(path) if is_dicom(path) else StreamDecoder(path)


def _identity(path: Path) -> tuple[int, ...] | None:
    """What tells a file from the one that was at its place before; None if it cannot be reached."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if path.is_dir() else (status.st_dev, status.st_ino, status.st_size)


def _fingerprint(path: Path, source: _FrameSource) -> str:
    return folder_fingerprint(source.files) if isinstance(source, ImageFolder) and path.is_dir() else file_fingerprint(path)


def _split_key(key: Any) -> tuple[Any, tuple[Any, ...]]:
    """Split a NumPy index into the index of the time axis and the indices of the three other axes."""
    parts = key if isinstance(key, tuple) else (key,)
    if any(part is None for part in parts):
        raise IndexError("A video index cannot contain None (a new axis). Index the returned array instead.")
    if sum(isinstance(part, EllipsisType) for part in parts) > 1:
        raise IndexError("An index can contain only one ellipsis ('...'). Remove the others.")
    if len(parts) - any(isinstance(part, EllipsisType) for part in parts) > VideoReader.ndim:
        raise IndexError(f"A video has {VideoReader.ndim} axes (time, row, column, colour); got {len(parts)} indices.")
    if parts and not isinstance(parts[0], EllipsisType):
        return parts[0], tuple(parts[1:])
    # a leading ellipsis stands for all missing axes
    full = (slice(None),) * (VideoReader.ndim - max(0, len(parts) - 1))
    parts = full + tuple(parts[1:])
    return parts[0], parts[1:]
