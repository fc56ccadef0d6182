"""A table with the scores of one or several systems under both protocols, and with published scores below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from surgicalsam_napari.instruments import ClassSet
from surgicalsam_training.scoring.metrics import Metrics
from surgicalsam_training.scoring.protocol import EvaluationProtocol
from surgicalsam_training.scoring.published import PAPER, Published, later_systems
from surgicalsam_training.scoring.tables import Table

PUBLISHED = "published"
OVERALL = {"challenge_iou": "Challenge IoU", "iou": "IoU", "mean_class_iou": "mc IoU"}
ERRORS = {"absent_false_positive_rate": "masks on absent classes", "missed_rate": "present classes missed"}
HOW_TO_READ = (
    f"All in percent. {EvaluationProtocol.PRESENT}: only the classes in the frame are prompted, as in the paper, so no "
    f"absent class can get a mask. {EvaluationProtocol.EVERY}: as in use; the system itself must decide which classes are "
    "present.",
)
OF_FILES = (
    "Masks from files are scored unchanged under the second protocol; under the first, masks of absent classes are removed.",
)


@dataclass(frozen=True)
class Result:
    """The scores of one method under one protocol.

    Attributes
    ----------
    split : the scored frames, such as "fold 0: sequences 1, 3"
    parameters : millions of tuned parameters; None if unknown
    """

    method: str
    split: str
    protocol: EvaluationProtocol
    metrics: Metrics
    parameters: float | None = None


def comparison_table(
    title: str,
    classes: ClassSet,
    results: Sequence[Result],
    published: Sequence[Published] = (),
    notes: Sequence[str] = (),
) -> Table:
    """A table with one row per result, then one row per published method.

    Parameters
    ----------
    classes : of the data; a class without any score gets no column
    """
    shown = [
        instrument
        for instrument in classes
        if any(not np.isnan(result.metrics.class_iou.get(instrument.id, np.nan)) for result in results)
        or any(instrument.name in row.class_iou for row in published)
    ]
    names = tuple(instrument.name for instrument in shown)
    columns = ("Method", "Frames", "Protocol", *OVERALL.values(), *names, *ERRORS.values(), "M parameters")
    rows: list[tuple[object, ...]] = []
    for result in results:
        overall = (_number(getattr(result.metrics, name)) for name in OVERALL)
        by_class = (_number(result.metrics.class_iou.get(instrument.id, np.nan)) for instrument in shown)
        errors = (_number(getattr(result.metrics, name)) for name in ERRORS)
        rows.append((result.method, result.split, str(result.protocol), *overall, *by_class, *errors, result.parameters))
    for row in published:
        overall = (getattr(row, name) for name in OVERALL)
        by_class = (row.class_iou.get(name) for name in names)
        frames = f"EndoVis {row.dataset.removeprefix('endovis')}"
        rows.append((row.method, frames, PUBLISHED, *overall, *by_class, None, None, row.parameters))
    decimals = 2 if published else 1  # published figures as they are printed
    return Table(title, columns, tuple(rows), (*HOW_TO_READ, *notes, *_sources(published)), decimals)


def later_systems_table() -> Table:
    """The figures that are not in the paper, each with its source and how it was scored."""
    classes = list(dict.fromkeys(name for row in later_systems() for name in row.class_iou))
    rows = []
    for row in later_systems():
        scores = (getattr(row, name) for name in OVERALL)
        by_class = (row.class_iou.get(name) for name in classes)
        dataset = f"EndoVis {row.dataset.removeprefix('endovis')}"
        rows.append((row.method, dataset, *scores, *by_class, row.parameters, row.note, "; ".join(row.sources)))
    columns = ("Method", "Dataset", *OVERALL.values(), *classes, "M parameters", "How it was scored", "Source")
    return Table("Figures that are not in the paper", columns, tuple(rows), decimals=2)


def _sources(published: Sequence[Published]) -> list[str]:
    if not published:
        return []
    texts = "; ".join(dict.fromkeys(text for row in published for text in row.sources))
    remarks = [f"{row.method}: {row.note}" for row in published if row.note]
    return [
        f"{PUBLISHED}: on the datasets themselves, copied from {PAPER}, {texts}; none of it was made with this code. If "
        "the IoU equals the Challenge IoU, no absent class got a mask.",
        *remarks,
    ]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 3)
