"""How far an experiment is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """`done` of `total` of what the title names."""

    title: str
    done: int
    total: int
