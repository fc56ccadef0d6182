"""Adapt the model to a second domain: correct ten frames of a video, train with the quick preset, predict again.

For each seed, the bundled weights segment a phantom video of the second look. Ten evenly spread frames are corrected and
verified. The quick preset tunes the model on them in a separate process, as the window does. The other frames are then
predicted again. All figures are Challenge IoU in percent on these other frames.

clean_iou: the same scenes with the first look, which the bundled weights were trained on. before_iou, after_iou: the second
look. recovered_share: (after - before) / (clean - before), of the means. seconds: of the slowest training.
other_videos_before, other_videos_after: the same two models on further videos of the second domain, without corrections.
The last line printed with `--json` is one JSON object.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))
from common.options import parse, print_json
from correcting import (
    QUICK_TRAINING,
    correct,
    parser,
    phantom_video,
    rounded,
    score,
    segment_untouched,
    settings_of,
    spread,
    tune,
)

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.session import Session
from surgicalsam_napari.store.corrections import untouched_frames

# training used scenes from 100,000 on, calibration from 200,000 on, benchmarks/quality/bundled_weights.py from 300,000 on
FIRST_SEED = 500_000


def segmented_iou(session: Session, folder: Path, seed: int, frame_count: int, look: str) -> float:
    """Challenge IoU of the session's model on a whole video."""
    video, truth = phantom_video(folder / look, seed, frame_count, look=look)
    project = session.open(video)
    for _report in session.segment(session.trained_class_ids(), range(frame_count)):
        pass
    return score(project, truth, range(frame_count), ENDOVIS2018).challenge_iou


def measure(folder: Path, seed: int, arguments) -> dict[str, float]:  # type: ignore[no-untyped-def]
    """One seed: from opening the video to predicting the uncorrected frames again."""
    count, others = arguments.frames, [seed * 10 + position for position in range(arguments.other_videos)]
    with Session(ENDOVIS2018) as session:
        session.load_checkpoint(arguments.checkpoint)
        clean = segmented_iou(session, folder, seed, count, "first")
        others_before = [segmented_iou(session, folder, other, 30, "second") for other in others]
        video, truth = phantom_video(folder / "second", seed, count, look="second")
        project = session.open(video)
        segment_untouched(session)
        correct(project, truth, spread(arguments.corrected, count))
        rest = untouched_frames(project)
        before = score(project, truth, rest, ENDOVIS2018)
        result, seconds = tune(folder / f"run_{seed}", [project.folder], settings_of(arguments))
        session.load_checkpoint(result.checkpoint)
        segment_untouched(session)
        after = score(project, truth, rest, ENDOVIS2018)
        others_after = [segmented_iou(session, folder, other, 30, "second") for other in others]
    measured = {
        "clean_iou": clean,
        "before_iou": before.challenge_iou,
        "after_iou": after.challenge_iou,
        "absent_false_positive_rate": after.absent_false_positive_rate,
        "other_videos_before": float(np.mean(others_before)) if others else float("nan"),
        "other_videos_after": float(np.mean(others_after)) if others else float("nan"),
        "seconds": seconds,
    }
    shown = ", ".join(f"{name} {value:.1f}" for name, value in measured.items())
    print(f"seed {seed}: {shown}; best epoch {result.best_epoch}, {result.reason}", flush=True)
    return measured


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--frames", type=int, default=120, help="of each video")
    options.add_argument("--corrected", type=int, default=10)
    options.add_argument("--other-videos", type=int, default=2)
    arguments = parse(options, quick={"seeds": 1, "frames": 8, "corrected": 4, "other_videos": 0, "set": QUICK_TRAINING})
    with tempfile.TemporaryDirectory() as folder:
        measured = [measure(Path(folder), FIRST_SEED + seed, arguments) for seed in range(arguments.seeds)]
    means = {name: float(np.mean([one[name] for one in measured])) for name in measured[0]}
    spreads = {name: float(np.std([one[name] for one in measured])) for name in measured[0]}
    lost = means["clean_iou"] - means["before_iou"]
    result = {name: rounded(value) for name, value in means.items()} | {
        "recovered_share": rounded((means["after_iou"] - means["before_iou"]) / lost),
        "seconds": rounded(max(one["seconds"] for one in measured)),
        "spread": {name: rounded(value) for name, value in spreads.items()},
        "seeds": arguments.seeds,
        "corrected": arguments.corrected,
    }
    print(f"recovered {100 * result['recovered_share']:.0f} % of the {lost:.1f} points lost in the second domain")
    if arguments.json:
        print_json(result)


if __name__ == "__main__":
    main()
