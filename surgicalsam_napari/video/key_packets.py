"""What a keyframe's packet says at its beginning: whether pictures are right from there on, and the stream's parameters.

A container marks more packets as keyframes than those from which every picture comes out right. With intra refresh, H.264
and HEVC have recovery points: a decoder that starts there gets a whole picture only bit by bit, frame after frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

HEAD_BYTES = 4096  # of a packet; the headers are shorter, except for rare streams with large user data
UNSTATED = 1  # frames to recover, where the stream does not state it

_START_CODE = b"\0\0\1"
_RECOVERY_POINT = 6  # payload type of a supplemental message (SEI)
_H264_IDR, _H264_SLICES, _H264_SEI, _H264_SPS = 5, range(1, 6), 6, 7
_HEVC_RANDOM_ACCESS, _HEVC_SLICES, _HEVC_SEI, _HEVC_SPS = range(16, 24), range(32), 39, 33
_INTRA = (2, 7)  # slice_type of an H.264 slice, or of all slices of its picture
_SEQUENCE_HEADER_BYTES = {"mpeg1video": (b"\0\0\1\xb3", 7), "mpeg2video": (b"\0\0\1\xb3", 7), "mpeg4": (b"\0\0\1\x20", 24)}
_VP_SIZE = {"vp8": slice(6, 10), "vp9": slice(4, 9)}
_AV1_SEQUENCE_HEADER = 1


@dataclass(frozen=True)
class KeyPacket:
    """What a keyframe's packet states.

    Attributes
    ----------
    frames_to_recover : 0 if every picture shown from this one on is right when decoding starts here. Else about how many
        packets it takes, as the stream states it
    parameters : bytes that change if the picture size changes (they may also change for other reasons); empty if the packet
        states none
    """

    frames_to_recover: int
    parameters: bytes


def read_key_packet(codec: str, head: bytes, length_bytes: int) -> KeyPacket:
    """Read the headers of a packet.

    Parameters
    ----------
    codec : FFmpeg's name
    head : the packet, or its first bytes
    length_bytes : size of the length before each unit of H.264 or HEVC in the packet; 0 if there are start codes
    """
    if codec == "h264":
        return _h264(list(_units(head, length_bytes)))
    if codec == "hevc":
        return _hevc(list(_units(head, length_bytes)))
    return KeyPacket(0, _parameters(codec, head))


def length_bytes(codec: str, extradata: bytes | None) -> int:
    """Size of the length before each unit, from the configuration record of H.264 (avcC) or HEVC (hvcC); 0: start codes."""
    place = {"h264": 4, "hevc": 21}.get(codec, 0)
    is_record = extradata is not None and len(extradata) > place and extradata[0] == 1
    return (extradata[place] & 3) + 1 if is_record and place and extradata else 0


def _units(head: bytes, length_bytes: int) -> Iterator[bytes]:
    """The NAL units of an H.264 or HEVC packet; the last one may be cut."""
    if length_bytes:
        place = 0
        while place + length_bytes < len(head):
            size = int.from_bytes(head[place : place + length_bytes], "big")
            yield head[place + length_bytes : place + length_bytes + size]
            place += length_bytes + size
        return
    for unit in head.split(_START_CODE)[1:]:
        if unit:
            yield unit.rstrip(b"\0")


def _h264(units: list[bytes]) -> KeyPacket:
    sets = b"".join(unit for unit in units if unit and unit[0] & 31 == _H264_SPS)
    messages = [unit[1:] for unit in units if unit and unit[0] & 31 == _H264_SEI]
    slice_ = next((unit for unit in units if unit and unit[0] & 31 in _H264_SLICES), b"")
    if slice_ and slice_[0] & 31 == _H264_IDR:
        return KeyPacket(0, sets)
    bits = _Bits(slice_[1:])
    bits.unsigned()  # first_mb_in_slice
    is_intra = bits.unsigned() in _INTRA
    for payload in _payloads(messages):
        count, is_exact = payload.unsigned(), payload.take(1)
        return KeyPacket(0 if is_intra and is_exact and count == 0 else max(count, UNSTATED), sets)
    return KeyPacket(UNSTATED, sets)


def _hevc(units: list[bytes]) -> KeyPacket:
    kinds = [unit[0] >> 1 & 63 for unit in units if unit]
    units = [unit for unit in units if unit]
    sets = b"".join(unit for unit, kind in zip(units, kinds, strict=True) if kind == _HEVC_SPS)
    if next((kind for kind in kinds if kind in _HEVC_SLICES), None) in _HEVC_RANDOM_ACCESS:
        return KeyPacket(0, sets)
    for payload in _payloads(unit[2:] for unit, kind in zip(units, kinds, strict=True) if kind == _HEVC_SEI):
        code = payload.unsigned()  # signed: 1, -1, 2, -2 … are 1, 2, 3, 4 …
        return KeyPacket(max((code + 1) // 2 if code % 2 else 0, UNSTATED), sets)
    return KeyPacket(UNSTATED, sets)


def _payloads(messages: Iterator[bytes] | list[bytes]) -> Iterator[_Bits]:
    """The recovery points in units with supplemental messages."""
    for message in messages:
        data, place = message.replace(b"\0\0\3", b"\0\0"), 0
        while place + 2 < len(data):
            kind, place = _long_number(data, place)
            size, place = _long_number(data, place)
            if kind == _RECOVERY_POINT:
                yield _Bits(data[place : place + size])
            place += size


def _long_number(data: bytes, place: int) -> tuple[int, int]:
    """A number written as bytes of 255 and a last byte; and the place after it."""
    number = 0
    while place < len(data) - 1 and data[place] == 255:
        number, place = number + 255, place + 1
    return number + data[place] if place < len(data) else number, place + 1


class _Bits:
    """Reads bits from the left; zeros after the end."""

    def __init__(self, data: bytes) -> None:
        data = data[:16]
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        return (self._value >> self._left if self._left >= 0 else 0) & ((1 << count) - 1)

    def unsigned(self) -> int:
        """A number in Exp-Golomb code, ue(v)."""
        zeros = 0
        while self._left > 0 and not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)


def _parameters(codec: str, head: bytes) -> bytes:
    if codec in _SEQUENCE_HEADER_BYTES:
        code, size = _SEQUENCE_HEADER_BYTES[codec]
        place = head.find(code)
        return head[place : place + size] if place >= 0 else b""
    if codec in _VP_SIZE:
        return head[_VP_SIZE[codec]]
    if codec == "mjpeg":
        place = max(head.find(b"\xff\xc0"), head.find(b"\xff\xc2"))
        return head[place + 5 : place + 9] if place >= 0 else b""
    return _av1_sequence_header(head) if codec in ("av1", "libdav1d") else b""


def _av1_sequence_header(head: bytes) -> bytes:
    place = 0
    while place + 2 < len(head):
        header, start = head[place], place + 1 + (head[place] >> 2 & 1)
        size = shift = 0
        while header & 2 and start < len(head):  # the size, seven bits a byte, the lowest first
            size, shift, start = size | (head[start] & 127) << shift, shift + 7, start + 1
            if not head[start - 1] & 128:
                break
        if header >> 3 & 15 == _AV1_SEQUENCE_HEADER:
            return head[start : start + size]
        if not size and not header & 2:
            return b""
        place = start + size
    return b""
