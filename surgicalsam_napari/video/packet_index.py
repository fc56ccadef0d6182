"""The packets of a video file, as its container lists them, read without decoding."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from typing import BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from surgicalsam_napari.video.key_packets import HEAD_BYTES, KeyPacket, length_bytes, read_key_packet
from surgicalsam_napari.video.mp4 import composition_offsets

NO_TIME = np.iinfo(np.int64).min
_PACKETS_COMPARED = 32
_HEADS_PROBED, _HEADS_READ = 64, 4000  # keyframes whose headers are read from an mp4
_B_PICTURE = 3


@dataclass(frozen=True)
class PacketIndex:
    """The P packets of a video stream in decode order; a packet's number in this order is its `ordinal`.

    Attributes
    ----------
    presentation_time, decode_time : (P,) int64 in the stream's time base, NO_TIME if the container has none
    position : (P,) int64, byte offset in the file, -1 if unknown
    byte_count : (P,) int64
    is_key : (P,) bool, True if decoding can start here
    is_shown : (P,) bool, False for packets that an edit list or the codec hides, and for a truncated packet
    is_cut_off : whether the file ends before its last packet ends
    frames_to_recover : (P,) int64, for a keyframe 0 if every picture shown from it on is right when decoding starts there;
        else about how many packets that takes
    new_parameters : ordinals of keyframes with parameters that no earlier one has; there, the size may change
    is_bidirectional : (P,) bool, B-pictures of MPEG-1 and MPEG-2, None for other codecs
    """

    presentation_time: np.ndarray
    decode_time: np.ndarray
    position: np.ndarray
    byte_count: np.ndarray
    is_key: np.ndarray
    is_shown: np.ndarray
    is_cut_off: bool
    frames_to_recover: np.ndarray
    new_parameters: tuple[int, ...] = ()
    is_bidirectional: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.byte_count)

    def presentation_order(self) -> np.ndarray | None:
        """Ordinals of the shown packets in presentation order; None if the times are unreliable."""
        shown = np.flatnonzero(self.is_shown)
        if self.is_bidirectional is not None:
            return _order_by_picture_type(shown, self.is_bidirectional)
        times = self.presentation_time[shown]
        decode_times = self.decode_time[self.decode_time != NO_TIME]
        if (times == NO_TIME).any() or len(np.unique(times)) < len(times) or (np.diff(decode_times) < 0).any():
            return None
        return shown[np.argsort(times, kind="stable")]


def index_by_demuxing(container: InputContainer, stream: VideoStream) -> PacketIndex:
    """Index the packets of `stream` by reading the file from the container's present position to the end."""
    rows: list[tuple[int, int, int, int, bool, bool]] = []
    types: list[bool] = []
    keys: dict[int, KeyPacket] = {}
    described_again: list[int] = []
    read_key = _key_reader(stream)
    has_picture_types = stream.codec_context.name in ("mpeg1video", "mpeg2video")
    hides_frames = stream.codec_context.name in ("vp8", "libvpx")
    is_cut_off = is_corrupt = False
    try:
        for packet in container.demux(stream):
            if packet.size == 0:
                continue
            is_corrupt = packet.is_corrupt
            # VP8 has separate packets for reference pictures that are not shown: bit 4 of the first byte is 0
            is_hidden = packet.is_discard or (hides_frames and not memoryview(packet)[0] & 0x10)
            if has_picture_types:
                types.append(_is_bidirectional(packet))
            if packet.is_keyframe:
                if rows and packet.has_sidedata("new_extradata"):
                    described_again.append(len(rows))
                keys[len(rows)] = read_key(bytes(memoryview(packet)[:HEAD_BYTES]))
            rows.append((*_times(packet), *_place(packet), packet.is_keyframe, not is_hidden))
    except av.FFmpegError:
        is_cut_off = True
    if rows and is_corrupt:
        is_cut_off = True
        rows[-1] = (*rows[-1][:-1], False)
    index = _with_keys(_index_of(rows, is_cut_off), keys, described_again)
    return replace(index, is_bidirectional=np.array(types, bool)) if has_picture_types else index


def _is_bidirectional(packet: av.Packet) -> bool:
    """Read the type in the first picture header of an MPEG-1 or MPEG-2 packet."""
    beginning = bytes(memoryview(packet)[:1024])  # the picture header follows sequence and group headers
    start = beginning.find(b"\0\0\1\0")
    return 0 <= start < len(beginning) - 5 and beginning[start + 5] >> 3 & 7 == _B_PICTURE


def _order_by_picture_type(shown: np.ndarray, is_bidirectional: np.ndarray) -> np.ndarray:
    """Order for MPEG-1 and MPEG-2: a reference picture is shown after the B-pictures that follow it in the file."""
    order: list[int] = []
    reference: list[int] = []
    for ordinal in shown.tolist():
        if is_bidirectional[ordinal]:
            order.append(ordinal)
        else:
            order += reference
            reference = [ordinal]
    return np.array(order + reference, np.int64)


def _index_of(rows: Iterable[tuple[int, int, int, int, bool, bool]], is_cut_off: bool) -> PacketIndex:
    table = np.array(list(rows), np.int64).reshape(-1, 6)
    presentation, decode, position, byte_count, is_key, is_shown = table.T.copy()
    return PacketIndex(
        presentation,
        decode,
        position,
        byte_count,
        is_key.astype(bool),
        is_shown.astype(bool),
        is_cut_off,
        np.zeros(len(table), np.int64),
    )


def _key_reader(stream: VideoStream) -> Callable[[bytes], KeyPacket]:
    """A function from the first bytes of a keyframe's packet to what it states."""
    codec = stream.codec_context.codec.canonical_name
    size = length_bytes(codec, stream.codec_context.extradata)
    return lambda head: read_key_packet(codec, head, size)


def _with_keys(index: PacketIndex, keys: dict[int, KeyPacket], described_again: Iterable[int] = ()) -> PacketIndex:
    """Add what the keyframes state, and the ordinals where the container describes the stream again."""
    frames_to_recover = index.frames_to_recover.copy()
    frames_to_recover[list(keys)] = [key.frames_to_recover for key in keys.values()]
    first_with: dict[bytes, int] = {}
    for ordinal, key in keys.items():
        if key.parameters:
            first_with.setdefault(key.parameters, ordinal)
    changed = list(first_with.values())[1:]
    return replace(index, frames_to_recover=frames_to_recover, new_parameters=tuple(sorted({*changed, *described_again})))


def _times(packet: av.Packet) -> tuple[int, int]:
    return NO_TIME if packet.pts is None else packet.pts, NO_TIME if packet.dts is None else packet.dts


def _place(packet: av.Packet) -> tuple[int, int]:
    return -1 if packet.pos is None else packet.pos, packet.size


def index_from_sample_table(container: InputContainer, stream: VideoStream, file: BinaryIO) -> PacketIndex | None:
    """Index the packets of an MP4 or QuickTime file from its sample table; None without a reliable table.

    This reads a few packets for comparison, so seek before decoding.

    Parameters
    ----------
    file : the same file, opened a second time
    """
    entries = getattr(stream, "index_entries", ())  # PyAV 16 and later
    if "mp4" not in container.format.name or len(entries) == 0:
        return None
    offsets = composition_offsets(file, stream.id, len(entries))
    if offsets is None:
        return None
    index = _index_of(
        ((NO_TIME, e.timestamp, e.pos, e.size, e.is_keyframe, not e.is_discard) for e in entries), is_cut_off=False
    )
    first = [packet for packet in islice(container.demux(stream), _PACKETS_COMPARED) if packet.size]
    shift = _shift_of_times(index, offsets, first)
    if shift is None:
        return None
    is_complete = index.position + index.byte_count <= file.seek(0, os.SEEK_END)
    count = len(index) if is_complete.all() else int(np.argmin(is_complete))
    index = PacketIndex(
        (index.decode_time + offsets + shift)[:count],
        index.decode_time[:count],
        index.position[:count],
        index.byte_count[:count],
        index.is_key[:count],
        index.is_shown[:count],
        is_cut_off=count < len(index),
        frames_to_recover=np.zeros(count, np.int64),
    )
    return _with_keys(index, _read_keys(index, _key_reader(stream), file))


def _read_keys(index: PacketIndex, read_key: Callable[[bytes], KeyPacket], file: BinaryIO) -> dict[int, KeyPacket]:
    """What the keyframes state, by ordinal: of all of them only if some state more than that pictures are right at once.

    An ordinary mp4 has its parameters in the header, and reading one packet of each second from a hard disk takes long.
    """
    ordinals = np.flatnonzero(index.is_key)

    def read(count: int) -> dict[int, KeyPacket]:
        spread = np.unique(np.linspace(0, len(ordinals) - 1, min(len(ordinals), count)).astype(int))
        return {ordinal: _read_head(index, ordinal, read_key, file) for ordinal in ordinals[spread].tolist()}

    keys = read(_HEADS_PROBED)
    if any(key.parameters for key in keys.values()):
        keys = read(_HEADS_READ)
    return read(len(ordinals)) if any(key.frames_to_recover for key in keys.values()) else keys


def _read_head(index: PacketIndex, ordinal: int, read_key: Callable[[bytes], KeyPacket], file: BinaryIO) -> KeyPacket:
    file.seek(int(index.position[ordinal]))
    return read_key(file.read(min(HEAD_BYTES, int(index.byte_count[ordinal]))))


def _shift_of_times(index: PacketIndex, offsets: np.ndarray, packets: list[av.Packet]) -> int | None:
    """The constant that FFmpeg adds to composition offsets; None if the table disagrees with the demuxed packets."""
    shifts = set()
    for ordinal, packet in enumerate(packets):
        if packet.is_corrupt or packet.pts is None or packet.dts is None or ordinal >= len(index):
            return None
        if (packet.dts, packet.pos, packet.size) != (
            index.decode_time[ordinal],
            index.position[ordinal],
            index.byte_count[ordinal],
        ):
            return None
        shifts.add(int(packet.pts - packet.dts - offsets[ordinal]))
    return shifts.pop() if len(shifts) == 1 else None
