"""Loss and validation IoU over the epochs, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from surgicalsam_napari.store.disk.files import writing
from surgicalsam_training.run.run_folder import RunFolder


def draw_curves(run: RunFolder) -> Path:
    """Draw metrics.csv as curves.png."""
    from matplotlib.figure import Figure  # imported here because the import takes half a second

    rows = run.metrics()
    figure = Figure(figsize=(8, 3.2), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in [name for name in (rows[0] if rows else {}) if name not in _NOT_LOSSES]:
        left.plot(*_points(rows, name), label=name.replace("_", " "), linewidth=2 if name == "total" else 1)
    left.set(xlabel="epoch", ylabel="loss")
    right.plot(*_points(rows, "challenge_iou"), marker="o", markersize=3)
    right.set(xlabel="epoch", ylabel="validation Challenge IoU (%)")
    if rows:
        left.legend(frameon=False, fontsize=8)
    with writing("The curves", run.path):
        figure.savefig(run.curves)
    return run.curves


_NOT_LOSSES = {
    "epoch",
    "seconds",
    "challenge_iou",
    "iou",
    "mean_class_iou",
    "absent_false_positive_rate",
    "missed_rate",
    "presence_threshold",
}


def _points(rows: Sequence[dict[str, float | None]], name: str) -> tuple[list[float], list[float]]:
    measured = [(row["epoch"], row[name]) for row in rows if row.get(name) is not None and row["epoch"] is not None]
    return [x for x, _ in measured if x is not None], [y for _, y in measured if y is not None]
