"""The scores that the paper and later publications print, from the YAML files in `published_tables`: one file per table."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).with_name("published_tables")
PAPER = "Yue et al., SurgicalSAM: Efficient Class Promptable Surgical Instrument Segmentation, AAAI 2024, arXiv 2308.08746"
CATEGORIES = {"specialist_models": "specialist model", "sam_based_models": "SAM-based model"}  # of the paper


@dataclass(frozen=True)
class Published:
    """One method on one dataset, in percent; where the table has a dash: None, or no entry in `class_iou`.

    Attributes
    ----------
    dataset : "endovis2018" or "endovis2017"
    class_iou : by class name
    parameters : millions of tuned parameters
    sources : the tables or publications with these scores
    category : a value of `CATEGORIES`; empty for systems that are not in the paper's tables
    mean_differs : whether the printed mean over classes differs from the mean of the printed class scores
    note : what the reader has to know to compare it
    """

    dataset: str
    method: str
    sources: tuple[str, ...]
    challenge_iou: float
    iou: float | None = None
    mean_class_iou: float | None = None
    class_iou: dict[str, float] = field(default_factory=dict)
    parameters: float | None = None
    category: str = ""
    mean_differs: bool = False
    note: str = ""


@lru_cache(maxsize=1)
def published_figures() -> tuple[Published, ...]:
    """The paper's Tables 1 and 2 in its order, and the text prototypes of its section 8.5."""
    return tuple(row for name in ("table1", "text_prototypes", "table2") for row in _main_table(published_table(name)))


def published_rows(dataset: str | None) -> list[Published]:
    """The paper's rows for one dataset."""
    return [row for row in published_figures() if row.dataset == dataset]


@lru_cache(maxsize=1)
def later_systems() -> tuple[Published, ...]:
    """Figures for the same two datasets that are not in the paper; the note of each says how it was scored."""
    table = published_table("later_systems")
    return tuple(
        _row(row, table["classes"][row["dataset"]], sources=tuple(table["sources"][name] for name in row["sources"]))
        for row in table["rows"]
    )


@lru_cache
def published_table(name: str) -> dict[str, Any]:
    """A file of `published_tables` as it is, such as "table3"; its comments explain its fields."""
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))


def _main_table(table: dict[str, Any]) -> list[Published]:
    return [
        _row(row, table["classes"], dataset=table["dataset"], sources=(table["source"],), category=category)
        for key, category in CATEGORIES.items()
        for row in table.get(key, ())
    ]


def _row(row: dict[str, Any], classes: list[str], **more: Any) -> Published:
    """A row of a file, with its scores by class under the names of the classes."""
    values = row.get("class_iou")
    by_class = {} if values is None else dict(zip(classes, values, strict=True))
    scores = {name: value for name, value in by_class.items() if value is not None}
    return Published(**{**row, **more, "class_iou": scores})
