"""Figures in a user's words."""

from __future__ import annotations


def in_units(byte_count: int) -> str:
    """A number of bytes in a user's words: "3.2 GB"."""
    size, unit = float(byte_count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"
