"""The provenance of labels, per frame and class, and the tables that store it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any

import numpy as np

from surgicalsam_napari.instruments import ClassSet


class Provenance(IntEnum):
    """Where the labels of one class in one frame come from."""

    EMPTY = 0  #: not predicted and not edited
    ABSENT = 1  #: predicted as not in the frame
    PREDICTED = 2
    EDITED = 3  #: a person added or removed pixels of it
    VERIFIED = 4  #: a person confirmed it; no prediction changes it


TABLES = {  # name: dtype, fill value
    "provenance": ("uint8", 0),
    "predicted_iou": ("float32", np.nan),
    "presence": ("float32", np.nan),
    "contested": ("float32", np.nan),
    "predicted_by": ("uint16", 0),
    "before_verified": ("uint8", 0),
    "voted": ("uint8", 0),
}
LATER_TABLES = ("contested", "before_verified", "voted")  # projects of an earlier version lack these

TABLE_NOTES: dict[str, dict[str, Any]] = {
    "provenance": {
        "description": "where the labels of a class in a frame come from",
        "flag_values": [int(value) for value in Provenance],
        "flag_meanings": " ".join(value.name.lower() for value in Provenance),
    },
    "predicted_iou": {"description": "IoU that the model predicted for its mask; NaN without a prediction"},
    "presence": {"description": "score from 0 to 1 that the class is in the frame; NaN without a prediction"},
    "contested": {"description": "share of its mask that another class claimed, too; NaN without a prediction"},
    "predicted_by": {"description": "number of the checkpoint, from 1, in project.json; 0 without a prediction"},
    "before_verified": {"description": "provenance of a verified class before a person verified it, for unlocking"},
    "voted": {"description": "1 where the vote over time changed the prediction of a class; 0 else"},
}


def class_attributes(classes: ClassSet) -> dict[str, Any]:
    """The classes as zarr attributes, so that the arrays can be read without project.json."""
    return {"classes": classes.to_json()["classes"]}


def is_by_person(provenance: np.ndarray) -> np.ndarray:
    """Bool, shaped like `provenance`: whether a person edited or verified the class in the frame."""
    return provenance >= Provenance.EDITED


def is_corrected(provenance: np.ndarray) -> np.ndarray:
    """Whether a person edited or verified any class of a frame: (T,) bool of a table (T, C), one bool of a row (C,)."""
    corrected: np.ndarray = np.any(is_by_person(provenance), axis=-1)
    return corrected


def is_trusted(provenance: np.ndarray, trust: str) -> np.ndarray:
    """Bool, shaped like `provenance`: the classes of a corrected frame that training learns from.

    Parameters
    ----------
    trust : "frame" trusts all classes of a corrected frame, "class" only those that a person edited or verified
    """
    return is_by_person(provenance) if trust == "class" else provenance != Provenance.EMPTY


def predicted_provenance(labels: np.ndarray, presence: np.ndarray, class_ids: Sequence[int]) -> np.ndarray:
    """(C,) uint8: what the classes of a frame are if no person worked on it: PREDICTED, ABSENT, or EMPTY.

    Parameters
    ----------
    labels : (H, W) uint8
    presence : (C,) float32, NaN without a prediction
    class_ids : C class ids
    """
    is_there = (np.bincount(labels.ravel(), minlength=256) > 0)[list(class_ids)]
    predicted = np.where(is_there, Provenance.PREDICTED, Provenance.ABSENT)
    return np.where(np.isnan(presence), Provenance.EMPTY, predicted).astype(np.uint8)


def expects_labels(provenance: np.ndarray) -> bool:
    """Whether a frame with this row of provenance has a chunk of labels; it may hold only background."""
    return bool(np.any((provenance == Provenance.PREDICTED) | (provenance == Provenance.EDITED)))


def expects_painted(provenance: np.ndarray) -> bool:
    return bool(np.any(provenance == Provenance.EDITED))


EXPECTS: dict[str, Callable[[np.ndarray], bool]] = {  # by array: whether a frame with this provenance has a file of it
    "labels": expects_labels,
    "painted": expects_painted,
    "instances": lambda _provenance: False,
}
