"""Figures that papers give, from `published.yaml`, which says where each was read."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import yaml

FILE = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True)
class Published:
    """One method on one dataset, in percent; None, and no entry in `class_iou`, where the sources state nothing.

    Attributes
    ----------
    dataset : "endovis2018" or "endovis2017"
    class_iou : by class name
    parameters : millions that are tuned
    sources : texts in which the figures were read
    mean_differs : whether the sources' mean over classes is not the mean of their figures by class
    """

    dataset: str
    method: str
    sources: tuple[str, ...]
    challenge_iou: float
    iou: float | None = None
    mean_class_iou: float | None = None
    class_iou: dict[str, float] = field(default_factory=dict)
    parameters: float | None = None
    mean_differs: bool = False
    note: str = ""


@lru_cache(maxsize=1)
def published_figures() -> tuple[Published, ...]:
    """All that the file holds, in its order."""
    record = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    texts = record["sources"]
    return tuple(Published(**{**row, "sources": tuple(texts[name] for name in row["sources"])}) for row in record["rows"])


def paper() -> str:
    """The paper whose tables compare these methods."""
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))["paper"]
