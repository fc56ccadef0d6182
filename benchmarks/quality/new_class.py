"""Learn a new class, a vessel sealer, from ten corrected frames.

No training scene of the bundled weights shows a vessel sealer. For each seed there are two phantom videos with one. Five
frames of each are corrected, and a training with the quick preset adds the class.

new_class_iou, new_class_iou_other_video: IoU of the new class on the other frames of these videos, and on a third video.
other_classes_before, other_classes_after: mean IoU of the seven known classes on the same frames.
known_videos_before, known_videos_after: Challenge IoU on uncorrected videos without a vessel sealer; the difference is the
cost of the training.
All figures are in percent. The last line printed with `--json` is one JSON object.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1]))
from common.options import parse, print_json
from correcting import QUICK_TRAINING, correct, parser, phantom_video, rounded, score, settings_of, spread, tune

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.phantom import NEW_TOOL, PHANTOM_CLASSES
from surgicalsam_napari.session import Session
from surgicalsam_training.scoring.metrics import Metrics

FIRST_SEED = 600_000
Video = tuple[Path, np.ndarray]


def segmented(session: Session, video: Video, frames: list[int]) -> Metrics:
    """Metrics of the session's model on uncorrected frames."""
    path, truth = video
    project = session.open(path, project_folder=path.parent / "scored")
    for _report in session.segment(session.trained_class_ids(), frames):
        pass
    return score(project, truth, frames, PHANTOM_CLASSES)


def known_classes_iou(scores: list[Metrics]) -> float:
    """Mean IoU over those of the seven known classes that occur."""
    per_class = [
        [m.class_iou[class_id] for m in scores if not np.isnan(m.class_iou[class_id])] for class_id in ENDOVIS2018.ids
    ]
    return float(np.mean([np.mean(ious) for ious in per_class if ious]))


def measure(folder: Path, seed: int, arguments) -> dict[str, float]:  # type: ignore[no-untyped-def]
    count = arguments.frames
    new = [phantom_video(folder, seed * 10 + position, count, new_tool=True) for position in range(3)]
    known = [phantom_video(folder, seed * 10 + position, count) for position in range(5, 8)]
    corrected = spread(arguments.corrected // 2, count)
    rest = [frame for frame in range(count) if frame not in corrected]
    with Session(PHANTOM_CLASSES) as session:

        def score_all() -> dict[str, float]:
            held_out = [segmented(session, video, rest) for video in new[:2]]
            third = segmented(session, new[2], list(range(count)))
            usual = [segmented(session, video, list(range(0, count, 3))) for video in known]
            return {
                "new_class_iou": float(np.nanmean([metrics.class_iou[NEW_TOOL.id] for metrics in held_out])),
                "new_class_iou_other_video": third.class_iou[NEW_TOOL.id],
                "other_classes": known_classes_iou(held_out),
                "known_videos": float(np.mean([metrics.challenge_iou for metrics in usual])),
            }

        session.load_checkpoint(arguments.checkpoint)
        before = score_all()
        projects = []
        for path, truth in new[:2]:
            project = session.open(path)
            correct(project, truth, corrected)
            projects.append(project.folder)
        result, seconds = tune(folder / f"run_{seed}", projects, settings_of(arguments))
        session.load_checkpoint(result.checkpoint)
        after = score_all()
    measured = {
        "new_class_iou": after["new_class_iou"],
        "new_class_iou_other_video": after["new_class_iou_other_video"],
        "other_classes_before": before["other_classes"],
        "other_classes_after": after["other_classes"],
        "known_videos_before": before["known_videos"],
        "known_videos_after": after["known_videos"],
        "seconds": seconds,
    }
    print(f"seed {seed}: {', '.join(f'{name} {value:.1f}' for name, value in measured.items())}", flush=True)
    return measured


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--frames", type=int, default=60, help="of each video")
    options.add_argument("--corrected", type=int, default=10)
    arguments = parse(options, quick={"seeds": 1, "frames": 4, "corrected": 4, "set": QUICK_TRAINING})
    with tempfile.TemporaryDirectory() as folder:
        measured = [measure(Path(folder) / str(seed), FIRST_SEED + seed, arguments) for seed in range(arguments.seeds)]
    means = {name: rounded(np.nanmean([one[name] for one in measured])) for name in measured[0]}
    spreads = {name: rounded(np.nanstd([one[name] for one in measured])) for name in measured[0]}
    print(", ".join(f"{name} {value}" for name, value in means.items()))
    if arguments.json:
        print_json({**means, "spread": spreads, "seeds": arguments.seeds, "corrected": arguments.corrected})


if __name__ == "__main__":
    main()
