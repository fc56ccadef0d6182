"""The files that the decoder reads: FFmpeg's demuxers, and the suffixes of their files. The one list of video suffixes."""

from __future__ import annotations

# Only containers and plain codec streams: no playlists (they open other files), no text or image demuxers.
_SUFFIXES: dict[str, tuple[str, ...]] = {
    "mov,mp4,m4a,3gp,3g2,mj2": (".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".mj2"),
    "avi": (".avi", ".divx"),
    "matroska,webm": (".mkv", ".webm"),
    "mpeg": (".mpg", ".mpeg", ".vob", ".mod"),  # .mod: camcorders of JVC and Panasonic
    "mpegvideo": (".m1v", ".m2v", ".mpv"),
    "mpegts": (".ts", ".mts", ".m2ts", ".m2t", ".tod"),
    "asf": (".wmv", ".asf"),
    "flv": (".flv", ".f4v"),
    "h264": (".h264", ".264", ".avc"),
    "hevc": (".h265", ".265", ".hevc"),
    "m4v": (),  # a plain MPEG-4 stream; its suffix .m4v is above
    "mjpeg": (".mjpg", ".mjpeg"),
    "mxf": (".mxf",),
    "dv": (".dv", ".dif"),
    "ogg": (".ogv", ".ogm"),
    "ivf": (".ivf",),
    "obu": (".obu",),
    "nut": (".nut",),
    "wtv": (".wtv",),
}
DEMUXERS = ",".join(_SUFFIXES)
STREAM_SUFFIXES: tuple[str, ...] = tuple(suffix for suffixes in _SUFFIXES.values() for suffix in suffixes)
