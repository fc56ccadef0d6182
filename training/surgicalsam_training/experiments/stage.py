"""Progress of an experiment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """`done` of `total` steps of the titled work."""

    title: str
    done: int
    total: int
