"""Accuracy of SAM with boxes that are too large, too small, or shifted (paper, Fig. 2).

The paper plots mAP against the jitter factor; this module uses the Challenge IoU.

The boxes come from the truth (`oracle.box_of`) and are jittered by a known amount; at amount 0 the method is an oracle.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from surgicalsam_napari.model.surgical_sam import SurgicalSAM
from surgicalsam_napari.store.disk.files import writing
from surgicalsam_training.baselines.answers import frame_embedding, frame_geometry, merged
from surgicalsam_training.baselines.oracle import answer_box, box_of, true_masks
from surgicalsam_training.data.training_data import TrainingData
from surgicalsam_training.scoring.protocol import Asked, present_classes, score

KINDS = ("scale", "position")
AMOUNTS = tuple(round(-0.5 + 0.1 * step, 1) for step in range(11))


@dataclass(frozen=True)
class JitterRow:
    """One point of the curve: `done` of `total`.

    Attributes
    ----------
    kind : "scale" or "position"
    amount : -0.5 to 0.5
    challenge_iou : percent
    """

    kind: str
    amount: float
    challenge_iou: float
    done: int
    total: int


def jittered_box(box: np.ndarray, kind: str, amount: float, size: tuple[int, int]) -> np.ndarray:
    """A box with a changed size or position.

    Parameters
    ----------
    box : (4,) left, top, right, bottom in pixels of the frame
    kind : "scale": both sides are multiplied by 1 + amount, the middle stays; "position": the box moves right and down by
        this share of its width and its height
    size : (H, W) of the frame, to which the result is clipped; a box outside the frame keeps one pixel of it

    Returns
    -------
    (4,)
    """
    corners = np.asarray(box, float).reshape(2, 2)
    sides, middle = corners[1] - corners[0], corners.mean(0)
    if kind == "scale":
        sides = sides * (1 + amount)
    elif kind == "position":
        middle = middle + amount * sides
    else:
        raise ValueError(f"The kind of jitter should be {' or '.join(KINDS)}; got {kind!r}. Choose one of them.")
    limits = np.array([size[1], size[0]], float)
    upper_left = np.clip(middle - sides / 2, 0, limits - 1)
    return np.concatenate([upper_left, np.clip(middle + sides / 2, upper_left + 1, limits)])


def predict_from_jittered_boxes(
    model: SurgicalSAM, data: TrainingData, example_indices: Sequence[int], asked: Asked, *, kind: str, amount: float
) -> Iterator[tuple[int, np.ndarray]]:
    """GT box + SAM with every box jittered; see `jittered_box`. An oracle."""
    for example_index in example_indices:
        embedding, geometry = frame_embedding(model, data, example_index), frame_geometry(model, data, example_index)
        answers = {}
        for class_id, mask in true_masks(data, example_index, asked).items():
            box = jittered_box(box_of(mask), kind, amount, geometry.original_size)
            answers[class_id] = answer_box(model, embedding, box, geometry)
        yield example_index, merged(answers, geometry)


def box_jitter_curve(
    model: SurgicalSAM,
    data: TrainingData,
    example_indices: Sequence[int],
    *,
    kinds: Sequence[str] = KINDS,
    amounts: Sequence[float] = AMOUNTS,
) -> Generator[JitterRow, None, None]:
    """The Challenge IoU for each kind and amount of jitter; each frame is asked for the classes that are in it."""
    points = [(kind, amount) for kind in kinds for amount in amounts]
    asked = present_classes(data)
    for done, (kind, amount) in enumerate(points, 1):
        predictions = predict_from_jittered_boxes(model, data, example_indices, asked, kind=kind, amount=amount)
        yield JitterRow(kind, amount, score(data, predictions).challenge_iou, done, len(points))


def draw_box_jitter(rows: Sequence[JitterRow], path: Path) -> Path:
    """Write the curves as a picture, side by side as in the paper's figure."""
    from matplotlib.figure import Figure  # imported here, because it takes half a second

    kinds = list(dict.fromkeys(row.kind for row in rows))
    figure = Figure(figsize=(4.2 * len(kinds), 3.2), layout="constrained")
    for axes, kind in zip(np.atleast_1d(figure.subplots(1, len(kinds), sharey=True)), kinds, strict=True):
        shown = sorted((row.amount, row.challenge_iou) for row in rows if row.kind == kind)
        axes.plot(*zip(*shown, strict=True), marker="o", markersize=4)
        axes.set(xlabel=f"{kind} jitter of the box", ylim=(0, 100))
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("Challenge IoU")
    with writing("The curve", path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    return path
