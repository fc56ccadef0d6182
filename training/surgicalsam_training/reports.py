"""The reports of a training: frozen dataclasses that travel between processes as lines of JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from surgicalsam_napari.formatting import counted

POOR_IOU = 50.0  # percent
FEWEST_TO_JUDGE = 10  # validation frames; scores on fewer say little about other frames
EXIT_CODE_OF_ERROR = 3  # the last line on stderr is the error message; a traceback exits with 1


@dataclass(frozen=True)
class PreparationReport:
    """Before the first epoch: `done` of `total` items of `phase` ("reading labels", "embedding frames", …)."""

    phase: str
    done: int
    total: int


@dataclass(frozen=True)
class SplitReport:
    """The frames for training and for validation.

    Attributes
    ----------
    how : one sentence for the user: split by video, or by a contiguous block of a single video
    training_frames, validation_frames : number of frames
    class_frames : number of training frames, by class name
    warnings : sentences for the user (a class with one frame, no validation data, …)
    """

    how: str
    training_frames: int
    validation_frames: int
    class_frames: dict[str, int]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class EpochReport:
    """An epoch is finished: `done` of `total`.

    Attributes
    ----------
    losses : means over the epoch's steps: dice, contrastive, total, and the other terms in use
    challenge_iou : of the validation data after this epoch, in percent; None without a validation
    best_challenge_iou : the best value so far, in percent; None before the first validation
    seconds_left : estimated time to the end of the run
    """

    done: int
    total: int
    losses: dict[str, float]
    challenge_iou: float | None
    best_challenge_iou: float | None
    seconds_left: float


@dataclass(frozen=True)
class Scores:
    """Validation metrics in percent; None if there is nothing to average. `class_iou` is by class name."""

    challenge_iou: float | None
    iou: float | None
    mean_class_iou: float | None
    class_iou: dict[str, float | None]
    absent_false_positive_rate: float | None
    missed_rate: float | None


@dataclass(frozen=True)
class ResultReport:
    """The training ended.

    Attributes
    ----------
    checkpoint : path of the best checkpoint, ready to be loaded
    reason : "all epochs", "time is up", "no longer better", "cancelled"
    best_epoch : the epoch of the best checkpoint; 0 if no epoch was better than the start
    before, after : scores of the start and of the result; None without validation data
    examples : paths of pictures: a validation frame as corrected, before and after, side by side
    validation_frames : number of frames that the scores rest on; None in results of earlier versions
    """

    checkpoint: str
    reason: str
    best_epoch: int
    seconds: float
    before: Scores | None
    after: Scores | None
    examples: tuple[str, ...]
    validation_frames: int | None = None

    @property
    def is_judged(self) -> bool:
        """Whether the scores rest on enough frames to call the result better or worse."""
        is_enough = self.validation_frames is None or self.validation_frames >= FEWEST_TO_JUDGE
        return self.after is not None and is_enough


def weakness(result: ResultReport) -> str | None:
    """What is poor about a result, in a sentence for the user; None if nothing is, or nothing was measured."""
    if result.after is None:
        return None
    frames = counted(result.validation_frames or 0, "frame")
    few = None if result.is_judged else f"The scores rest on {frames}, too few for a verdict (at least {FEWEST_TO_JUDGE})."
    poor = {name: iou for name, iou in result.after.class_iou.items() if iou is not None and iou < POOR_IOU}
    if poor:
        listed = ", ".join(f"{name} {iou:.0f}" for name, iou in poor.items())
        text = f"Poor on the validation frames, with an IoU below {POOR_IOU:.0f}: {listed}."
        return text if few is None else f"{text} {few}"
    before, after = (None if scores is None else scores.challenge_iou for scores in (result.before, result.after))
    if few is None and before is not None and after is not None and after < before:
        return f"Worse than the start on the validation frames: IoU {before:.0f} before, {after:.0f} now."
    return few


Report = PreparationReport | SplitReport | EpochReport | ResultReport
_KINDS: dict[str, type] = {kind.__name__: kind for kind in (PreparationReport, SplitReport, EpochReport, ResultReport)}


def to_line(report: Report) -> str:
    """One line of JSON."""
    return json.dumps({"kind": type(report).__name__, **asdict(report)})


def from_line(line: str) -> Report | None:
    """The inverse of `to_line`; None for a line that is not a report."""
    try:
        record: dict[str, Any] = json.loads(line)
        kind = _KINDS[record.pop("kind")]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    for name in ("before", "after"):
        if record.get(name) is not None:
            record[name] = Scores(**record[name])
    for name in ("warnings", "examples"):
        if name in record:
            record[name] = tuple(record[name])
    return kind(**record)
