"""What the Learn card says: before, during and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

from surgicalsam_napari.formatting import counted, in_time
from surgicalsam_napari.inference import SegmentReport
from surgicalsam_napari.propagation.fill_between import FillReport
from surgicalsam_napari.store.corrections import Corrections
from surgicalsam_training.learn import Learned, LearnReport

if TYPE_CHECKING:
    from surgicalsam_napari.tracking.link_instances import TrackReport

NOTHING_OPEN = "Open a video first."
NOTHING_CORRECTED = "Correct a frame first: paint its instruments, click them right, or verify it (Correct tab)."
ONLY_BACKGROUND = "Your {frames} only background. Paint an instrument in one of them, or correct another frame."
ONLY_PREDICTIONS = (
    "You verified {frames} and changed nothing: these are the model's own masks, nothing to learn from. Correct a frame in "
    "which a mask is wrong."
)
ALL_LEARNED = (
    "Next, in the Correct tab: correct the worst of the other frames (Review, Next), then learn again. All corrections take "
    "part, every time."
)
WHAT_IT_DOES = (
    "Fits a model to all frames that you corrected or verified, and uses it at once. The frames that you did not touch and "
    "that were predicted before are predicted again; between corrected frames, your masks are carried into them. Then the "
    "frames vote on the classes, if that is chosen. Undo brings the old masks back."
)
LONG = (
    "Learning and predicting again take about {time}. You can work elsewhere meanwhile and cancel at any time: what is "
    "finished stays, and the rest can be predicted later."
)
PHASES = {"embedding frames": "Reading frames", "checking": "Learning", "learning": "Learning"}


def button_text(corrections: Corrections | None) -> str:
    """The title of the button."""
    count = 0 if corrections is None else corrections.frame_count
    return f"Learn from my {counted(count, 'corrected frame')}" if count else "Learn from my corrected frames"


def why_not(corrections: Corrections | None) -> str | None:
    """Why there is nothing to learn from; None if there is. `corrections` is None while no video is open."""
    if corrections is None:
        return NOTHING_OPEN
    if not corrections.frame_count:
        return NOTHING_CORRECTED
    if corrections.is_only_predictions:
        return ONLY_PREDICTIONS.format(frames=counted(corrections.frame_count, "frame"))
    if not corrections.class_frames:
        frames = counted(corrections.frame_count, "corrected frame")
        return ONLY_BACKGROUND.format(frames=f"{frames} {'shows' if corrections.frame_count == 1 else 'show'}")
    return None


def cost(corrections: Corrections, seconds: float, predicted: int, seconds_to_predict: float | None = None) -> str:
    """What a press will take, from what, and what follows.

    Parameters
    ----------
    seconds : an estimate of the learning alone
    predicted : number of untouched frames that were predicted before
    seconds_to_predict : an estimate for them; None if it is not known
    """
    classes = ", ".join(f"{instrument.name} in {count:,}" for instrument, count in corrections.class_frames.items())
    text = f"About {in_time(rounded(seconds))}; {counted(corrections.frame_count, 'corrected frame')}: {classes}."
    if corrections.unchanged_count:
        text += f" {unchanged(corrections)}"
    if not predicted:
        return text
    time = "" if seconds_to_predict is None else f", about {in_time(rounded(seconds_to_predict))}"
    return f"{text} Then {counted(predicted, 'frame')} {_are(predicted)} predicted again{time}."


def unchanged(corrections: Corrections) -> str:
    """What the verified frames are good for in which nobody changed a mask."""
    return (
        f"In {corrections.unchanged_count:,} of them you changed nothing: they only confirm masks that were predicted or "
        "carried there, and absent classes."
    )


def rounded(seconds: float) -> float:
    """An estimate without false precision: to 5 s, and from a minute on to 10 s."""
    step = 5 if seconds < 60 else 10
    return max(round(seconds / step), 1) * step


def progress_text(
    report: LearnReport | SegmentReport | FillReport | TrackReport, done: int, total: int, seconds_left: float | None
) -> str:
    """The line beside Cancel."""
    left = f" · {in_time(seconds_left)} left" if seconds_left and done < total else ""
    if isinstance(report, SegmentReport):
        return f"Predicting frame {done:,} of {total:,}{left}"
    if isinstance(report, FillReport):
        return f"Filling between corrected frames: {done:,} of {total:,}{left}"
    if not isinstance(report, LearnReport):
        return f"Vote over time: {done / total:.0%}{left}"
    if report.phase == "embedding frames":
        return f"{PHASES[report.phase]}: {done:,} of {total:,}{left}"
    return f"Learning{left or '…'}"


def outcome(learned: Learned | None, predicted: int, to_predict: int, filled: int) -> str:
    """What a run did. `learned` is None if it was cancelled before that, or only predicted frames."""
    texts = [] if learned is None else [f"Learned in {in_time(learned.seconds)}."]
    if predicted < to_predict:
        texts.append(f"Stopped: {predicted:,} of {counted(to_predict, 'frame')} predicted again.")
    elif predicted:
        into = f" Your masks were carried into {filled:,} of them." if filled else ""
        texts.append(f"{counted(predicted, 'frame')} predicted again.{into}")
    return " ".join(texts) or "Stopped. Nothing was changed."


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
