"""Bytes, times and counts as text: the same in the window, the command line and every message."""

from __future__ import annotations


def in_bytes(byte_count: int) -> str:
    """812 -> "812 bytes", 1536 -> "1.5 kB", 2564550879 -> "2.6 GB" (decimal units, as disks are sold)."""
    size, unit = float(byte_count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 999.5:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if unit == "bytes" or size >= 99.95 else f"{size:.1f} {unit}"


def in_time(seconds: float) -> str:
    """4 -> "4 s", 75 -> "1 min 15 s", 4000 -> "1 h 07 min"."""
    whole = max(round(seconds), 1)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 10:
        return f"{minutes} min {rest:02d} s"
    minutes = round(whole / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def counted(count: int, noun: str) -> str:
    """1, "frame" -> "1 frame"; 1200, "frame" -> "1,200 frames"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
