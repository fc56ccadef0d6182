"""Figures in a user's words."""

from __future__ import annotations


def in_bytes(count: int) -> str:
    """1536 -> "2 KB", 2564550879 -> "2.6 GB" (decimal units, as disks are sold)."""
    if count < 1_000_000:
        return f"{round(count / 1000)} KB"
    if count < 1_000_000_000:
        return f"{count / 1e6:.0f} MB"
    return f"{count / 1e9:.1f} GB"


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
