"""Error messages for video files that cannot be read."""

from __future__ import annotations

from pathlib import Path

_BEGINNINGS = {b"RIFF": "avi", b"\x1aE\xdf\xa3": "mkv or webm", b"\0\0\1\xba": "mpeg", b"\0\0\1\xb3": "mpeg"}


def why_unreadable(path: Path, error: Exception) -> str:
    """One line that explains why a file cannot be opened, from FFmpeg's error and the file's first bytes."""
    if isinstance(error, PermissionError):
        return f"This user may not read {path.name}. Change its permissions, or copy it to your own folder."
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError as unreachable:
        return f"{path} cannot be read now ({unreachable.strerror}). Connect its disk or share again, or check the disk."
    if head[4:8] in (b"ftyp", b"mdat", b"moov", b"wide"):
        return (
            f"{path.name} is an mp4/mov file without its index (moov): the recording or the copy is incomplete. "
            "Copy it again from its source, or repair it with untrunc."
        )
    for beginning, kind in _BEGINNINGS.items():
        if head.startswith(beginning):
            return (
                f"{path.name} begins like a video ({kind}) but cannot be read ({path.stat().st_size} bytes): "
                "it is incomplete or damaged. Copy it again from its source."
            )
    return (
        f"{path.name} is not a video ({path.stat().st_size} bytes, no known video container): expected mp4, mov, avi, mkv, "
        "mpeg or another container of video. Check that it is not a renamed file of another kind, or convert it to mp4."
    )


def no_frames(path: Path) -> str:
    """One line that explains that a file has a video stream without frames."""
    return f"{path.name} holds 0 frames that can be decoded; at least 1 is needed. Copy it again from its source."


def size_changes(path: Path, size: tuple[int, int], other: tuple[int, int], place: str) -> str:
    """One line that explains that the pictures of a file have several sizes, each (H, W).

    Parameters
    ----------
    place : where the size changes, such as "at frame 50 (0:00:02.00)"
    """
    return (
        f"{path.name} changes from {size[1]}x{size[0]} to {other[1]}x{other[0]} pixels {place}; all frames must have one "
        "size. Split the video there, for example with ffmpeg or LosslessCut, and open the parts."
    )
