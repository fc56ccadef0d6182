"""The scores of the paper's Tables 1 and 2, from `published.yaml`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import yaml

FILE = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True)
class Published:
    """One method on one dataset, in percent; where the table has a dash: None, or no entry in `class_iou`.

    Attributes
    ----------
    dataset : "endovis2018" or "endovis2017"
    class_iou : by class name
    parameters : millions of tuned parameters
    sources : the tables with these scores
    mean_differs : whether the printed mean over classes differs from the mean of the printed class scores
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
    """All rows of the file, in its order."""
    record = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    texts = record["sources"]
    return tuple(Published(**{**row, "sources": tuple(texts[name] for name in row["sources"])}) for row in record["rows"])


def paper() -> str:
    """The paper whose tables compare these methods."""
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))["paper"]
