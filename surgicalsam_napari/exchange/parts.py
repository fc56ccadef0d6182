"""The parts of instruments in the EndoVis challenges, and which part of a project is which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.listing import numbered_classes
from surgicalsam_napari.instruments import ClassSet, similar

ENDOVIS_PARTS = numbered_classes("EndoVis parts", ("Shaft", "Wrist", "Clasper", "Probe"))
Mark = TypeVar("Mark")


def marks_of_parts(parts: ClassSet, marks: Mapping[str, Mark], format: str) -> dict[int, Mark]:
    """What a format writes for each part: a value, or a colour.

    Parameters
    ----------
    marks : by the name of the part in the challenge
    format : its title, for messages

    Raises
    ------
    ExchangeError
        the format does not have a part of this name, or two parts are the same one
    """
    known = {_comparable(name): mark for name, mark in marks.items()}
    names = [_comparable(part.name) for part in parts]
    for part, name in zip(parts, names, strict=True):
        if name not in known or names.count(name) > 1:
            problem = "two parts are" if name in known else "there is the part"
            raise ExchangeError(
                f"{format} has the parts {', '.join(marks)}, but {problem} {part.name}. Rename it, or choose another format."
            )
    return {part.id: known[name] for part, name in zip(parts, names, strict=True)}


def same_parts(parts: ClassSet, others: ClassSet) -> dict[int, int]:
    """For each id of `parts` the id of the part with the same name in `others`; the plural is the same name."""
    known = {_comparable(part.name): part.id for part in others}
    return {part.id: known[_comparable(part.name)] for part in parts if _comparable(part.name) in known}


def table_of_parts(values: Mapping[int, int]) -> np.ndarray:
    """(256,) uint8: the entry of each key; 0 elsewhere."""
    table = np.zeros(256, np.uint8)
    for key, value in values.items():
        table[key] = value
    return table


def _comparable(name: str) -> str:
    """The names of parts in the plural are the same: claspers and clasper."""
    return similar(name).removesuffix("s")
