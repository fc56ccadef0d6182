"""How well the review queue ranks frames: its score, computed from the stored predictions, against the true error.

The phantom clips were not used to train the bundled weights; half have the first look, half are from another domain. A class
has an error in a frame if it is present or was predicted: 1 - IoU. The error of a frame is the mean over these classes.
Frames are ranked by each single sign (its largest value over the classes) and by combinations: `sum` and `largest` of the
signs, `expected_error` as in `review.ranking`, and `expected_error_by_tables`, which does not compare masks. The weights of
`review.ranking` were fitted on other clips; `--fit` repeats the fit and prints them.

correlation: Spearman correlation of rank and error, over the frames of all clips; within_clip: its mean over the clips.
worst_found: share of the worst 20 % of frames that are in the first 20 % of the queue; bad_found: the same for bad frames,
which have a class with an IoU below 0.75. A random order gives 0.2 for both; `best_possible` is a perfect order.
looks: a person reviews 5, 10 and 20 % of the frames in the order of the queue, with and without moving the neighbours of a
reviewed frame back in the queue. looks_at_bad: share of reviewed frames that are bad; bad_reached: share of the bad frames
that are at most ten frames from a reviewed bad frame, so that its propagated correction may reach them.
The last line printed with `--json` is one JSON object.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from correcting import phantom_video, rounded
from scipy.stats import rankdata

sys.path.append(str(Path(__file__).parents[1]))
from common.options import new_parser, parse, print_json

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.review import Evidence, MaskJumps, ReviewQueue, cell_suspicion, frame_suspicion
from surgicalsam_napari.review.queue import REVIEW_THRESHOLD
from surgicalsam_napari.review.ranking import NAMES, measure
from surgicalsam_napari.session import Session

FIRST_SEED = 850_000
FITTED_SEEDS = (*range(800_000, 800_006), *range(900_000, 900_006))
BAD = 0.25  # error of a class
REACH = 10  # frames that a correction is propagated


@dataclass(frozen=True)
class Clip:
    """The stored evidence of a clip, and its true error.

    Attributes
    ----------
    class_error : (T, C), NaN for a class that is neither present nor predicted
    """

    evidence: Evidence
    class_error: np.ndarray

    @property
    def frame_error(self) -> np.ndarray:
        """(T,), 0 for a frame without a present or predicted class."""
        counted = ~np.isnan(self.class_error)
        return np.nansum(self.class_error, axis=1) / np.maximum(counted.sum(axis=1), 1)

    @property
    def is_bad(self) -> np.ndarray:
        return np.nanmax(np.nan_to_num(self.class_error, nan=0), axis=1) > BAD


def class_errors(labels: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(C,): 1 - IoU of each class in one frame, NaN for a class that is in neither label map."""
    errors = []
    for class_id in ENDOVIS2018.ids:
        predicted, true = labels == class_id, truth == class_id
        union = np.count_nonzero(predicted | true)
        errors.append(1 - np.count_nonzero(predicted & true) / union if union else np.nan)
    return np.array(errors)


def segmented_clip(session: Session, folder: Path, seed: int, look: str, frame_count: int) -> Clip:
    video, truth = phantom_video(folder, seed, frame_count, look=look)
    project = session.open(video)
    for _report in session.segment(session.trained_class_ids(), range(frame_count)):
        pass
    jumps = MaskJumps(project.labels, frame_count, project.classes.ids)
    for _frame in jumps.fill():
        pass
    errors = np.stack([class_errors(project.labels[index], truth[index]) for index in range(frame_count)])
    print(f"seed {seed}, {look} look: mean error {np.nanmean(errors):.2f}", flush=True)
    return Clip(Evidence.of(project.labels, jumps), errors)


def segmented_clips(seeds: Sequence[int], looks: Sequence[str], frame_count: int) -> list[Clip]:
    clips = []
    with Session(ENDOVIS2018) as session:
        session.load_checkpoint()
        for seed in seeds:
            for look in looks:
                with tempfile.TemporaryDirectory() as folder:
                    clips.append(segmented_clip(session, Path(folder), seed, look, frame_count))
    return clips


def without_jumps(evidence: Evidence) -> Evidence:
    unknown = np.full_like(evidence.overlaps, np.nan)
    return Evidence(*(unknown if f.name in ("areas", "overlaps") else getattr(evidence, f.name) for f in fields(Evidence)))


def area_jump(evidence: Evidence) -> np.ndarray:
    """(T, C): 1 - smaller / larger area of a frame and its neighbour; the larger value of the two neighbours."""
    before, after = evidence.areas[:-1], evidence.areas[1:]
    larger = np.maximum(before, after)
    jump = np.where(larger > 0, 1 - np.minimum(before, after) / np.where(larger > 0, larger, 1), 0)
    jump = np.pad(jump, ((1, 1), (0, 0)))
    return np.maximum(jump[:-1], jump[1:])


def rankings(evidence: Evidence) -> dict[str, np.ndarray]:
    """(T,) for every ranking; higher is more suspicious."""
    measures = measure(evidence)
    signs = {name: np.nan_to_num(getattr(measures, name)) for name in NAMES}
    tables = without_jumps(evidence)
    return {
        **{name: values.max(axis=1) for name, values in signs.items()},
        "area_jump": area_jump(evidence).max(axis=1),
        "sum": sum(signs.values()).max(axis=1),  # type: ignore[union-attr]
        "largest": np.max(list(signs.values()), axis=0).max(axis=1),
        "expected_error_by_tables": frame_suspicion(tables, cell_suspicion(tables)),
        "expected_error": frame_suspicion(evidence, cell_suspicion(evidence)),
    }


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman correlation; 0 if one of them is constant."""
    ranks = rankdata(first), rankdata(second)
    return 0.0 if min(np.std(rank) for rank in ranks) == 0 else float(np.corrcoef(*ranks)[0, 1])


def worst(values: np.ndarray, share: float = 0.2) -> np.ndarray:
    """(N,) bool: the highest values; of equal values the earlier ones."""
    chosen = np.zeros(len(values), bool)
    chosen[np.argsort(-values, kind="stable")[: round(share * len(values))]] = True
    return chosen


def ranked(clips: Sequence[Clip]) -> dict[str, dict[str, float]]:
    """The figures of every ranking."""
    scores = [rankings(clip.evidence) for clip in clips]
    errors = [clip.frame_error for clip in clips]
    error, is_bad = np.concatenate(errors), np.concatenate([clip.is_bad for clip in clips])
    result = {}
    for name in scores[0]:
        pooled = np.concatenate([score[name] for score in scores])
        first = worst(pooled)
        result[name] = {
            "correlation": spearman(pooled, error),
            "within_clip": float(np.mean([spearman(s[name], e) for s, e in zip(scores, errors, strict=True)])),
            "worst_found": (first & worst(error)).sum() / worst(error).sum(),
            "bad_found": (first & is_bad).sum() / is_bad.sum(),
        }
    possible = min(worst(error).sum() / is_bad.sum(), 1)
    result["random"] = {"correlation": 0, "within_clip": 0, "worst_found": 0.2, "bad_found": 0.2}
    result["best_possible"] = {"correlation": 1, "within_clip": 1, "worst_found": 1, "bad_found": possible}
    return {name: {figure: rounded(value) for figure, value in figures.items()} for name, figures in result.items()}


def joined(clips: Sequence[Clip]) -> Evidence:
    """All clips as one video. Masks are not compared across a cut, because the first rows of a clip are unknown."""
    return Evidence(*(np.concatenate([getattr(clip.evidence, f.name) for clip in clips]) for f in fields(Evidence)))


def looks(clips: Sequence[Clip]) -> dict[str, dict[str, float]]:
    """Bad frames that a person finds in the order of the queue, by the share of reviewed frames."""
    is_bad = np.concatenate([clip.is_bad for clip in clips])
    clip_of = np.repeat(np.arange(len(clips)), [len(clip.is_bad) for clip in clips])
    result: dict[str, dict[str, float]] = {}
    for title, near in (("near_put_back", None), ("near_left", 0)):
        queue = ReviewQueue(joined(clips), ENDOVIS2018, **({} if near is None else {"near": near}))
        order = []
        while (frame := queue.next()) is not None:
            order.append(frame)
        for share in (0.05, 0.1, 0.2):
            shown = np.array(order[: round(share * len(is_bad))])
            bad = shown[is_bad[shown]]
            within = (np.abs(np.arange(len(is_bad))[:, None] - bad) <= REACH) & (clip_of[:, None] == clip_of[bad])
            figures = {"looks_at_bad": is_bad[shown].mean(), "bad_reached": within.any(axis=1)[is_bad].mean()}
            result.setdefault(f"{share:.2f}", {}).update({f"{k}_{title}": rounded(v) for k, v in figures.items()})
    return result


def needing_review(clips: Sequence[Clip]) -> dict[str, float]:
    """How many frames need review according to the queue, and how many of them are bad."""
    is_bad = np.concatenate([clip.is_bad for clip in clips])
    needs_review = np.concatenate([rankings(clip.evidence)["expected_error"] for clip in clips]) >= REVIEW_THRESHOLD
    return {
        "share_of_frames": rounded(needs_review.mean()),
        "bad_among_them": rounded(is_bad[needs_review].mean()),
        "bad_held": rounded(needs_review[is_bad].mean()),
        "bad_among_all": rounded(is_bad.mean()),
    }


def logistic(signs: np.ndarray, error: np.ndarray, ridge: float = 1e-3) -> np.ndarray:
    """Bias and weights (1 + K,) of a logistic regression of an error from 0 to 1 on signs (N, K), by Newton's method."""
    inputs = np.column_stack([np.ones(len(signs)), signs])
    penalty = ridge * len(inputs) * np.diag([0.0, *np.ones(signs.shape[1])])
    weights = np.zeros(inputs.shape[1])
    for _ in range(60):
        expected = 1 / (1 + np.exp(-inputs @ weights))
        slope = inputs.T @ (error - expected) - penalty @ weights
        weights += np.linalg.solve((inputs.T * (expected * (1 - expected))) @ inputs + penalty, slope)
    return weights


def fitted(clips: Sequence[Clip]) -> dict[str, dict[str, float]]:
    """The weights of `review.ranking`; signs with a negative weight are left out."""
    result = {}
    for kind in ("PREDICTED", "PREDICTED_BY_TABLES", "ABSENT", "ABSENT_BY_TABLES"):
        names = list(NAMES) if kind.startswith("PREDICTED") else ["undecided", "jump", "unlike_around"]
        if kind.endswith("TABLES"):
            names.remove("jump")
        measures = [measure(clip.evidence) for clip in clips]
        chosen = [c.evidence.is_predicted if kind.startswith("PREDICTED") else c.evidence.is_absent for c in clips]
        error = np.concatenate([np.nan_to_num(c.class_error)[is_kind] for c, is_kind in zip(clips, chosen, strict=True)])
        while True:
            columns = [
                np.concatenate(
                    [np.nan_to_num(getattr(m, name))[is_kind] for m, is_kind in zip(measures, chosen, strict=True)]
                )
                for name in names
            ]
            bias, *weights = logistic(np.column_stack(columns), error)
            if min(weights) >= 0:
                break
            names.pop(int(np.argmin(weights)))
        result[kind] = {"bias": rounded(bias)} | {n: rounded(w) for n, w in zip(names, weights, strict=True)}
    return result


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=6, help="clips of each look")
    parser.add_argument("--frames", type=int, default=50, help="of each clip")
    parser.add_argument("--looks", nargs="+", default=["first", "second"])
    parser.add_argument("--fit", action="store_true", help="fit the weights, on other clips, and print them")
    arguments = parse(parser, quick={"seeds": 1, "frames": 12, "looks": ["second"]})
    if arguments.fit:
        result: dict = fitted(segmented_clips(FITTED_SEEDS, arguments.looks, arguments.frames))
        for kind, weights in result.items():
            print(kind, ", ".join(f"{name} {weight}" for name, weight in weights.items()))
    else:
        seeds = range(FIRST_SEED, FIRST_SEED + arguments.seeds)
        clips = segmented_clips(seeds, arguments.looks, arguments.frames)
        result = {"ranking": ranked(clips), "looks": looks(clips), "worth_a_look": needing_review(clips)}
        for name, figures in result["ranking"].items():
            print(f"{name:26}", ", ".join(f"{figure} {value:.2f}" for figure, value in figures.items()))
        for share, figures in result["looks"].items():
            print(
                f"{share} of the frames reviewed:", ", ".join(f"{figure} {value:.2f}" for figure, value in figures.items())
            )
        print("needs review:", ", ".join(f"{figure} {value:.2f}" for figure, value in result["worth_a_look"].items()))
    if arguments.json:
        print_json(result)


if __name__ == "__main__":
    main()
