"""Exact frames of a video file, by index.

Before a packet is decoded, its timestamp is replaced by its ordinal (its number in decode order). So each decoded frame
identifies its packet, independent of the container's timestamps. The order in which packets are shown follows from the
container's presentation times, if the decoder confirms them; otherwise from decoding the whole stream once.

On the way to a far frame, pictures that no other picture refers to need not be decoded. The stream marks these pictures, and
FFmpeg skips them. The pictures that are decoded in such a stretch are used as references only and are not returned.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, cast

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from surgicalsam_napari.errors import VideoError
from surgicalsam_napari.video.containers import DEMUXERS
from surgicalsam_napari.video.packet_index import NO_TIME, PacketIndex, index_by_demuxing, index_from_sample_table
from surgicalsam_napari.video.time_code import in_time_code
from surgicalsam_napari.video.timing import frame_rate, joined_times
from surgicalsam_napari.video.unreadable import no_frames, size_changes, why_unreadable

_PACKETS_PROBED = 48
_END_PROBED = 96  # MPEG streams do not show that they are incomplete; their groups of pictures are short
_PACKETS_SEARCHED = 2000
_FRAMES_OUT_OF_ORDER = 32
_SKIP_AHEAD = 8  # packets; decoding on to a keyframe this near is faster than a seek
_KEYFRAMES_TRIED = 4
_REFRESHES = 2  # encoders state too few frames to recover: x264 at times needs the next refresh, too
_THREADS = min(4, os.cpu_count() or 1)  # each decoder thread holds its own frames
_HVCC_VERSION, _HVCC_LAYERS_BYTE = 1, 21  # of the HEVC decoder configuration record (ISO/IEC 14496-15, 8.3.3.1)


class _Retry(Exception):
    """Decoding must start again, in another way: slower, but right."""


class StreamDecoder:
    """Decodes the frames of one video file by index, from its present position or from the nearest keyframe.

    Not thread-safe: `VideoReader` holds a lock around it.

    Parameters
    ----------
    path : the file
    open_file : opens the video if it is only a part of the file

    Attributes
    ----------
    frame_count : number of frames that can be shown
    size : (H, W) as shown, after rotation
    frame_rate : frames per second, averaged, or None
    codec : FFmpeg's name for the codec
    frames_decoded : number of frames decoded so far

    Raises
    ------
    VideoError
        if the file is missing, empty, too incomplete to read, or holds no video
    """

    def __init__(self, path: Path, open_file: Callable[[], BinaryIO] | None = None) -> None:
        self.path = path
        self._open_file = open_file
        self.frames_decoded = 0
        self._whole_from = 0  # packets from this ordinal on are all decoded
        self._right_from = 0  # frames from this index on are right
        # frame threads lose frames when a packet is damaged: then, one thread
        self._has_frame_threads = _THREADS > 1
        self._open()
        try:
            self._index = self._read_index()
            self._ordinals = _ordinals_by_key(self._index)
            self._anchors = np.sort(np.fromiter(self._ordinals.values(), np.int64, len(self._ordinals)))
            self._keys = np.flatnonzero(self._index.is_key)
            self._right_after = _right_after(self._keys, self._index.frames_to_recover[self._keys])
            self._seek_methods = ["presentation", "decode", "byte"]
            self._linear = False
            self._keyframes_back = 0  # start this many keyframes earlier than needed; some streams do not state enough
            self._unreadable: set[int] = set()
            self._may_skip = _marks_unreferenced(self._stream.codec_context)
            self._order = np.empty(0, np.int64)
            self._set_order(self._settle_order())
            self._describe()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._container.close()

    # -- the content of the file

    def _open(self) -> None:
        try:
            self._container = av.open(
                f"file:{self.path}" if self._open_file is None else self._open_file(),
                mode="r",
                options={"format_whitelist": DEMUXERS, "protocol_whitelist": "file"},
            )
        except (av.FFmpegError, OSError, UnicodeError) as error:
            raise VideoError(why_unreadable(self.path, error)) from error
        streams = [s for s in self._container.streams.video if not s.disposition & _attached_picture()]
        if not streams:
            kinds = sorted({str(s.type) for s in self._container.streams} - {"video"})
            self._container.close()
            raise VideoError(
                f"{self.path.name} has no video stream (it holds {', '.join(kinds) or 'nothing'}). "
                "Choose a file with moving pictures."
            )
        best = self._container.streams.best("video")
        self._stream = next((s for s in streams if best is not None and s.index == best.index), streams[0])
        self._stream.thread_count = _THREADS if self._has_frame_threads else 1
        self._stream.thread_type = "AUTO"
        for stream in self._container.streams:
            if stream.index != self._stream.index and hasattr(av.stream, "Discard"):
                stream.discard = av.stream.Discard.all
        self._forget_position()

    def _read_index(self) -> PacketIndex:
        if self._stream.codec_context is None or not self._stream.codec_context.is_decoder:
            raise VideoError(f"{self.path.name} uses a codec that this FFmpeg cannot decode. Convert it to H.264 in mp4.")
        with self.path.open("rb") if self._open_file is None else self._open_file() as file:
            index = index_from_sample_table(self._container, self._stream, file)
        if index is None:
            # open it again to read from the very beginning; a seek may not lead there
            self._container.close()
            self._open()
            index = index_by_demuxing(self._container, self._stream)
        if not len(index):
            raise VideoError(no_frames(self.path))
        if not index.is_key.any():
            index.is_key[0] = True
        return index

    def _describe(self) -> None:
        self.frame_count = len(self._order)
        try:
            _, frame = next((t, f) for t, f in self.frames_until(0) if t == 0)
        except (VideoError, StopIteration):
            raise VideoError(no_frames(self.path)) from None
        self._decoded.appendleft(frame)  # forward play starts with this frame
        self._last_rank = -1
        self._picture_size = (frame.height, frame.width)
        self._orientation = _orientation(frame)
        height, width = self._picture_size
        self.size = (width, height) if self._orientation[0] else (height, width)
        self.codec = self._stream.codec_context.codec.canonical_name
        stated = self._stream.average_rate or self._stream.guessed_rate
        self.frame_rate = frame_rate(self._seconds(), float(stated) if stated else None)
        self._reformatter = VideoReformatter()
        self._check_size_stays()

    def _check_size_stays(self) -> None:
        """Decode the first frame wherever the stream states new parameters, and compare its size."""
        for index in sorted(self._rank[list(self._index.new_parameters)].tolist()):
            if index < 0:
                continue
            try:
                *_, (_index, frame) = self.frames_until(index, 0)
            except VideoError:
                continue  # damaged: a request for this frame reports it
            self._check_size(frame, index)

    def _check_size(self, frame: VideoFrame, index: int) -> None:
        size = (frame.height, frame.width)
        if size != self._picture_size:
            times = self.frame_times()
            time = "" if times is None else f" ({in_time_code(float(times[index]))})"
            raise VideoError(size_changes(self.path, self._picture_size, size, f"at frame {index}{time}"))

    def _seconds(self) -> np.ndarray | None:
        times, base = self._index.presentation_time[self._order], self._stream.time_base
        if base is None or (times == NO_TIME).any():
            return None
        seconds = joined_times(times)
        return None if seconds is None else seconds * float(base)

    def frame_times(self) -> np.ndarray | None:
        """Seconds from the first frame to each frame, (T,) float64; None if the file has neither times nor a frame rate."""
        seconds = self._seconds()
        if seconds is None and self.frame_rate:
            return np.arange(self.frame_count) / self.frame_rate
        return seconds

    # -- the order of the frames

    def _set_order(self, order: np.ndarray) -> None:
        self._order = order
        self._rank = np.full(len(self._index), -1, np.int64)
        self._rank[order] = np.arange(len(order))
        # the lowest ordinal of frame t and all frames shown after it
        self._first_needed = np.minimum.accumulate(order[::-1])[::-1]

    def _settle_order(self) -> np.ndarray:
        order = self._index.presentation_order()
        order = None if order is None else self._confirmed_by_decoder(order)
        if order is None:
            order = self._order_by_decoding()
        elif len(self._index) - self._keys[-_KEYFRAMES_TRIED:][0] <= _END_PROBED:
            order = self._without_undecodable_end(order, _KEYFRAMES_TRIED)
        elif self._index.is_cut_off:
            order = self._without_undecodable_end(order, 2)
        if not len(order):
            raise VideoError(no_frames(self.path))
        return order

    def _confirmed_by_decoder(self, order: np.ndarray) -> np.ndarray | None:
        """Decode the beginning: frames must come in `order`; only at the start of a cut stream, some may be missing."""
        beginning = self._ordinal_of(0)
        order = order[order >= beginning]
        self._set_order(order)
        ranks = [int(self._rank[o]) for o in self._ordinals_decoded(beginning, _PACKETS_PROBED) if self._rank[o] >= 0]
        if not ranks or ranks != list(range(ranks[0], ranks[0] + len(ranks))) or ranks[0] > _FRAMES_OUT_OF_ORDER:
            return None
        return order[ranks[0] :]

    def _order_by_decoding(self) -> np.ndarray:
        """Decode the whole stream once: exact for streams without usable timestamps, but slow to open."""
        self._set_order(np.arange(len(self._index)))
        out = dict.fromkeys(self._ordinals_decoded(0, len(self._index) + 1))
        return np.fromiter(out, np.int64, len(out))

    def _without_undecodable_end(self, order: np.ndarray, keyframes: int) -> np.ndarray:
        """Leave out the frames after the last keyframe that a decoder which starts `keyframes` before does not give."""
        self._set_order(order)
        last_key = int(self._keys[-1])
        right = np.flatnonzero(self._right_after <= last_key)  # places from which it is right
        start = self._ordinal_of(min(len(self._keys[:-keyframes]), int(right[-1]) if len(right) else 0))
        out = set(self._ordinals_decoded(start, len(self._index) + 1))
        return np.array([o for o in order if o < last_key or o in out], np.int64)

    def _ordinals_decoded(self, start: int, packet_count: int) -> list[int]:
        """Decode up to `packet_count` packets from a keyframe on; return the ordinals of the decoded frames."""
        out: list[int] = []
        self._seek(start)
        try:
            while self._next_ordinal < start + packet_count and self._feed():
                out += [_ordinal(frame) for frame in self._decoded]
                self._decoded.clear()
        except _Retry:
            return self._ordinals_decoded(start, packet_count)
        return out

    # -- frames

    def keyframes(self) -> list[int]:
        """The frames that decode without others, ascending."""
        ranks = self._rank[self._keys]
        return sorted(ranks[ranks >= 0].tolist())

    def frames_until(self, index: int, frames_before: int | None = None) -> Iterator[tuple[int, VideoFrame]]:
        """Decode up to frame `index`; yield (frame index, frame) for the frames decoded on the way, and last for `index`.

        Parameters
        ----------
        frames_before : how many frames before `index` are wanted; earlier ones may be skipped if that is faster. None for
            all

        Raises
        ------
        VideoError
            if this frame cannot be decoded
        """
        if index in self._unreadable:
            raise VideoError(self._frame_is_damaged(index))
        for place in self._starts(index):
            if place is not None:
                self._seek(self._ordinal_of(place))
                self._right_from = int(self._rank[self._right_after[place]]) if place > 0 else 0
            if frames_before is not None:
                self._skip_up_to(max(0, index - frames_before))
            for rank, frame in self._decode_on(index):
                yield rank, frame
                if rank == index:
                    return
            if self._whole_from > 0:  # skipping may be the reason; decoding everything is always right
                self._may_skip = False
        self._keyframes_back = 0
        self._unreadable.add(index)
        raise VideoError(self._frame_is_damaged(index))

    def _decode_on(self, index: int) -> Iterator[tuple[int, VideoFrame]]:
        while True:
            while self._decoded:
                frame = self._decoded.popleft()
                rank = int(self._rank[_ordinal(frame)])
                if rank < 0:
                    continue
                self._last_rank = max(self._last_rank, rank)
                if _ordinal(frame) < self._whole_from or rank < self._right_from:
                    continue  # only a reference: a second field may have been skipped, or the picture is not whole yet
                yield rank, frame
                if rank == index or rank > index + _FRAMES_OUT_OF_ORDER:
                    return
            try:
                if not self._feed():
                    return
            except _Retry:
                self._forget_position()
                return

    def _skip_up_to(self, index: int) -> None:
        """Skip pictures that no other refers to, up to the first packet needed for frame `index` and later frames."""
        if self._may_skip:
            self._whole_from = max(self._whole_from, int(self._first_needed[index]))

    def _ordinal_of(self, place: int) -> int:
        """The packet to start from for a place in `_keys`; the very first if pictures recover slowly even from there."""
        key = int(self._keys[place])
        return 0 if place == 0 and self._index.frames_to_recover[key] else key

    def _start_for(self, index: int, back: int = 0) -> int:
        """The place in `_keys` of the last keyframe to start from: this frame is right, and decoded and shown no earlier.

        The first place for a frame that no keyframe makes right.
        """
        place = int(np.searchsorted(self._right_after, self._order[index], "right")) - 1
        while place > 0 and self._rank[self._right_after[place]] > index:
            place -= 1
        return max(0, place - back)

    def _starts(self, index: int) -> Iterator[int | None]:
        """The places in `_keys` to start decoding from, one per attempt; None to continue from the present position."""
        on_the_way = self._last_rank < index and (self._decoded or not self._finished)
        on_the_way = on_the_way and self._order[index] >= self._whole_from  # it was not skipped
        on_the_way = on_the_way and self._right_from <= index
        if on_the_way and self._keys[self._start_for(index)] <= self._next_ordinal + _SKIP_AHEAD:
            yield None
        tried: set[tuple[int, bool, bool, bool]] = set()
        for back in range(self._keyframes_back, _KEYFRAMES_TRIED):
            place = self._start_for(index, back)
            # repeat a keyframe only if an attempt has shown that seeking, skipping or threads are unreliable
            while (attempt := (place, self._linear, self._may_skip, self._has_frame_threads)) not in tried:
                tried.add(attempt)
                self._keyframes_back = back
                yield place

    def _frame_is_damaged(self, index: int) -> str:
        return (
            f"Frame {index} of {self.path.name} ({self.frame_count} frames) is damaged and cannot be decoded. "
            "Leave this frame out, or copy the video again from its source."
        )

    def rgb(self, frame: VideoFrame) -> np.ndarray:
        """Convert a decoded frame to (H, W, 3) uint8, upright.

        The stream names the matrix from YUV to RGB; without one it is BT.601, as in FFmpeg and OpenCV.
        """
        self._check_size(frame, int(self._rank[_ordinal(frame)]))
        image = self._reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        transposed, flip_rows, flip_columns = self._orientation
        image = image.swapaxes(0, 1) if transposed else image
        return np.ascontiguousarray(image[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1])

    @staticmethod
    def byte_count(frame: VideoFrame) -> int:
        return sum(plane.buffer_size for plane in frame.planes)

    # -- packets and seeking

    def _forget_position(self) -> None:
        self._packets: Iterator[av.Packet] = iter(())
        self._decoded: deque[VideoFrame] = deque()
        self._next_ordinal = 0
        self._last_rank = -1
        self._whole_from = 0
        self._right_from = 0
        self._finished = True

    def _feed(self) -> bool:
        """Decode one packet into `_decoded`; False at the end of the stream."""
        if self._finished:
            return False
        packet = self._next_packet()
        if packet is None or packet.size == 0 or self._next_ordinal >= len(self._index):
            self._finished = True
            self._decode(None)
            return bool(self._decoded)
        if not self._linear and packet.size != self._index.byte_count[self._next_ordinal]:
            self._linear = True
            raise _Retry
        packet.pts = packet.dts = self._next_ordinal
        self._stream.codec_context.skip_frame = "NONREF" if self._next_ordinal < self._whole_from else "DEFAULT"
        self._next_ordinal += 1
        self._decode(packet)
        return True

    def _next_packet(self) -> av.Packet | None:
        try:
            return next(self._packets, None)
        except av.FFmpegError:
            return None  # the file is cut off here

    def _decode(self, packet: av.Packet | None) -> None:
        try:
            frames = self._stream.codec_context.decode(packet)
        except (av.FFmpegError, EOFError):
            if not self._has_frame_threads:
                return  # a damaged packet gives no frame; a request for that frame reports it
            self._has_frame_threads = False
            self._container.close()
            self._open()
            raise _Retry from None
        self.frames_decoded += len(frames)
        self._decoded.extend(frame for frame in frames if frame.pts is not None and 0 <= frame.pts < len(self._index))

    def _seek(self, start: int) -> None:
        """Go to packet `start`, with an empty decoder."""
        self._forget_position()
        methods = [] if self._linear else list(self._seek_methods)
        for method in methods:
            if self._try_seek(method, start):
                # try the method that works for this container first from now on
                self._seek_methods.remove(method)
                self._seek_methods.insert(0, method)
                break
        else:
            self._reopen(start)
        self._next_ordinal = start
        self._last_rank = max(-1, int(self._rank[start]) - 1)
        self._finished = False

    def _try_seek(self, method: str, start: int) -> bool:
        times = {
            "presentation": self._index.presentation_time,
            "decode": self._index.decode_time,
            "byte": self._index.position,
        }
        # a uniquely identified packet at or before `start`: packets are counted from there
        place = int(np.searchsorted(self._anchors, start, "right")) - 1
        if place < 0:
            return False
        target = int(times[method][self._anchors[place]])
        if target == NO_TIME or (method == "byte" and target < 0):
            return False
        try:
            self._container.seek(target, stream=self._stream, unsupported_byte_offset=method == "byte")
            packets = self._container.demux(self._stream)
            ordinal = None
            for packet in islice(packets, _PACKETS_SEARCHED):
                ordinal = self._ordinals.get(_key(packet))
                if ordinal is not None:
                    break
            if ordinal is None or ordinal > start:
                return False
            for _ in range(start - ordinal):
                packet = next(packets)
        except (av.FFmpegError, StopIteration):
            return False
        if packet.size != self._index.byte_count[start]:
            return False
        self._packets = chain([packet], packets)
        return True

    def _reopen(self, start: int) -> None:
        """Count packets from the beginning of the file: slow, but right for every stream."""
        self._container.close()
        self._open()
        packets = self._container.demux(self._stream)
        try:
            for _ in islice(packets, start):
                pass
        except av.FFmpegError:
            packets = iter(())
        self._packets = packets
        self._next_ordinal = start
        self._finished = False


def _right_after(keys: np.ndarray, frames_to_recover: np.ndarray) -> np.ndarray:
    """From which keyframe on pictures are right if decoding starts at each keyframe.

    Parameters
    ----------
    keys : (K,) ordinals of keyframes
    frames_to_recover : (K,) 0 if pictures are right at once

    Returns
    -------
    (K,) ordinals, ascending; beyond all packets if pictures do not become right
    """
    right, never = keys.copy(), np.iinfo(np.int64).max
    for place in np.flatnonzero(frames_to_recover).tolist():
        reached = place
        for _ in range(_REFRESHES):
            if reached < len(keys):
                reached = max(reached + 1, int(np.searchsorted(keys, keys[reached] + frames_to_recover[reached])))
        right[place] = keys[reached] if reached < len(keys) else never
    return np.minimum.accumulate(right[::-1])[::-1]


def _marks_unreferenced(context: VideoCodecContext) -> bool:
    """Whether the stream reliably marks the pictures that no other picture refers to.

    H.264 does (nal_ref_idc 0). HEVC does with one temporal layer; its configuration record gives the number of layers.
    """
    if context.name == "h264":
        return True
    record = context.extradata or b""
    has_record = len(record) > _HVCC_LAYERS_BYTE and record[0] == _HVCC_VERSION
    return context.name == "hevc" and has_record and record[_HVCC_LAYERS_BYTE] >> 3 & 7 == 1


def _attached_picture() -> int:
    return av.stream.Disposition.attached_pic


def _ordinal(frame: VideoFrame) -> int:
    assert frame.pts is not None  # `_decode` drops other frames
    return frame.pts


def _key(packet: av.Packet) -> tuple[int, int]:
    return (packet.pos, packet.size) if packet.pos is not None and packet.pos >= 0 else (-1, packet.size)


def _ordinals_by_key(index: PacketIndex) -> dict[tuple[int, int], int]:
    """Ordinals of the packets that have a unique position and size."""
    keys = list(zip(index.position.tolist(), index.byte_count.tolist(), strict=True))
    ordinals = dict(zip(keys, range(len(keys)), strict=True))
    if len(ordinals) < len(keys):
        first = dict(zip(reversed(keys), range(len(keys) - 1, -1, -1), strict=True))
        ordinals = {key: ordinal for key, ordinal in ordinals.items() if first[key] == ordinal}
    return {key: ordinal for key, ordinal in ordinals.items() if key[0] >= 0}


def _orientation(frame: VideoFrame) -> tuple[bool, bool, bool]:
    """How to show a frame: (transpose, then flip rows, then flip columns), from its display matrix."""
    try:
        matrix = np.frombuffer(cast(Any, frame.side_data)["DISPLAYMATRIX"], np.int32)
    except KeyError:
        return False, False, False
    # x' = a x + c y, y' = b x + d y; other angles are rounded to the nearest right angle
    a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
    if abs(b) > abs(a):
        return True, b < 0, c < 0
    return False, d < 0, a < 0
