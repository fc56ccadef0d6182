"""What is told about a video file that cannot be read."""

from __future__ import annotations

from pathlib import Path

_BEGINNINGS = {b"RIFF": "avi", b"\x1aE\xdf\xa3": "mkv or webm", b"\0\0\1\xba": "mpeg", b"\0\0\1\xb3": "mpeg"}


def why_unreadable(path: Path, error: Exception) -> str:
    """Explain on one line why a file cannot be opened, from FFmpeg's error and the file's first bytes."""
    if isinstance(error, PermissionError):
        return f"{path.name} may not be read by this user. Change its permissions, or copy it to a folder of yours."
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] in (b"ftyp", b"mdat", b"moov", b"wide"):
        return (
            f"{path.name} is an mp4/mov file without its index (moov): the recording or copy stopped before its end. "
            "Copy it again from its source, or repair it with untrunc."
        )
    for beginning, kind in _BEGINNINGS.items():
        if head.startswith(beginning):
            return (
                f"{path.name} begins like a video ({kind}) but holds none that can be read ({path.stat().st_size} bytes): "
                "it was cut off or damaged. Copy it again from its source."
            )
    return (
        f"{path.name} is not a video ({path.stat().st_size} bytes, no known video container): expected mp4, mov, avi, mkv, "
        "webm or mpeg. Check that it is not another kind of file renamed, or convert it to mp4."
    )


def no_frames(path: Path) -> str:
    """Explain that a file has a video stream without a frame."""
    return f"{path.name} holds 0 frames that can be decoded, at least 1 is needed. Copy it again from its source."
