"""How many actions a frame needs until its masks are good enough, with three strategies.

A simulated person knows the exact masks of a phantom clip and corrects the predicted masks. A click is in the middle (the
pixel farthest from the border) of the largest error region of a class; a class gets at most 20 clicks in a frame. A frame is
done when every class reaches the target IoU and no absent class has a mask. Each of these is one action:

- a click
- giving a region another class (in one frame, or also in the neighbouring frames)
- clearing a class from a frame
- a propagation (from a frame in which the class is correct, through the neighbouring wrong frames)
- undoing a propagation that made the masks worse
- a training

Looking at a frame, choosing a class and moving to the next frame cost nothing. The strategies:

clicks        clicks only, on every frame, from empty masks
class_prompt  all classes are predicted first; then every frame below the target is corrected separately
full          all classes are predicted; frames follow the order of the review queue, errors are corrected in neighbouring
              frames too, corrected masks are propagated; after ten corrected frames there is one training (the quick
              preset), the other frames are predicted again, and the corrections continue

`actions_per_frame` has one entry per look ("first": the training look of the bundled weights; "second": another domain),
target and strategy. `ratio` is full over clicks, `reached` the share of frames that reached the target. The clips were not
used for training. The last line printed with `--json` is one JSON object.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from correcting import phantom_video, rounded, segment_untouched, tune
from scipy.ndimage import distance_transform_edt, label

sys.path.append(str(Path(__file__).parents[1]))
from common.options import new_parser, parse, print_json

from surgicalsam_napari.editing import clear_class, reassign_region
from surgicalsam_napari.inference.refine import Click, Refinement
from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.propagation.propagate import propagate_class
from surgicalsam_napari.review import MaskJumps, ReviewQueue
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project

FIRST_SEED = 700_000
MOST_CLICKS = 20  # for a class in a frame, as is usual
CORRECTED_BEFORE_TRAINING = 10
FOLLOWED = 30  # frames in each direction
SMALLEST_REGION = 0.0002  # of the frame; smaller false regions are left to clicks


def iou(mask: np.ndarray, truth: np.ndarray) -> float:
    """1 if both are empty."""
    union = np.count_nonzero(mask | truth)
    return np.count_nonzero(mask & truth) / union if union else 1.0


def middle(region: np.ndarray) -> tuple[int, int]:
    """(row, column) of the pixel of a region that is farthest from its border, the frame's border included."""
    distance = distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(distance.argmax(), distance.shape)
    return int(row), int(column)


def next_click(mask: np.ndarray, truth: np.ndarray) -> Click:
    """A click in the middle of the largest connected error region; positive if the region is missing from the mask."""
    regions, count = label(mask != truth, np.ones((3, 3)))
    largest = 1 + np.bincount(regions.ravel())[1:].argmax() if count else 0
    row, column = middle(regions == largest)
    return Click(row, column, bool(truth[row, column]))


@dataclass
class Annotator:
    """A simulated person who knows the truth (T, H, W) and corrects frames until they reach the target IoU."""

    session: Session
    truth: np.ndarray
    target: float
    follows: bool  # corrects errors in neighbouring frames too, and propagates
    actions: Counter[str] = field(default_factory=Counter)

    @property
    def project(self) -> Project:
        assert self.session.project is not None
        return self.session.project

    def wrong_classes(self, frame_index: int) -> list[int]:
        """Classes below the target IoU; an absent class with a mask is one of them."""
        labels, truth = self.project.labels[frame_index], self.truth[frame_index]
        return [class_id for class_id in ENDOVIS2018.ids if iou(labels == class_id, truth == class_id) < self.target]

    def correct(self, frame_index: int) -> None:
        """Correct all classes of a frame, and verify it."""
        self._give_regions_their_class(frame_index)
        for class_id in self.wrong_classes(frame_index):
            if not np.any(self.truth[frame_index] == class_id):
                self.actions["clear"] += 1
                _drain(clear_class(self.project, class_id, [frame_index]))
        for class_id in self.wrong_classes(frame_index):
            if self.follows and self._is_propagated_in(frame_index, class_id):
                continue
            self._refine(frame_index, class_id)
            if self.follows and class_id not in self.wrong_classes(frame_index):
                self._propagate_out(frame_index, class_id)
        self.project.labels.verify(frame_index)

    def _give_regions_their_class(self, frame_index: int) -> None:
        """Give each region that is mostly of another class that class, with one action."""
        for _ in range(10):
            labels, truth = self.project.labels[frame_index], self.truth[frame_index]
            wrong = self._wrong_region(labels, truth)
            if wrong is None:
                return
            region, class_id = wrong
            row, column = middle(region)
            around = range(max(frame_index - FOLLOWED, 0), min(frame_index + FOLLOWED + 1, len(self.truth)))
            frames = around if self.follows else ()
            self.actions["reassign"] += 1
            _drain(reassign_region(self.project, frame_index, row, column, class_id, frames))

    def _wrong_region(self, labels: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, int] | None:
        for class_id in self._present(labels):
            regions, count = label(labels == class_id, np.ones((3, 3)))
            for number in range(1, count + 1):
                region = regions == number
                area = np.count_nonzero(region)
                votes = np.bincount(truth[region], minlength=256)
                best = int(votes.argmax())
                if area >= SMALLEST_REGION * labels.size and best not in (0, class_id) and votes[best] > 0.5 * area:
                    return region, best
        return None

    def _refine(self, frame_index: int, class_id: int) -> None:
        labels, truth = self.project.labels[frame_index], self.truth[frame_index] == class_id
        refinement = Refinement(self.session.model, self._embedding(frame_index), labels == class_id)
        best, best_iou = labels == class_id, iou(labels == class_id, truth)
        for _ in range(MOST_CLICKS):
            if best_iou >= self.target:
                break
            self.actions["click"] += 1
            refinement.add_click(next_click(refinement.mask, truth))
            reached = iou(refinement.mask, truth)
            if reached >= best_iou:
                best, best_iou = refinement.mask, reached
        new = np.where(best, np.uint8(class_id), np.where(labels == class_id, np.uint8(0), labels))
        self.project.labels.write_edit(frame_index, new, decided=best)

    def _is_propagated_in(self, frame_index: int, class_id: int) -> bool:
        """Propagate the class from a neighbour in which it is correct; whether it is correct in this frame afterwards."""
        for step in (1, -1):
            neighbour = frame_index - step
            if self._is_right(neighbour, class_id):
                self._propagate(neighbour, class_id, step)
                if class_id not in self.wrong_classes(frame_index):
                    return True
        return False

    def _propagate_out(self, frame_index: int, class_id: int) -> None:
        """Propagate forward and backward into neighbours that need it."""
        for step in (1, -1):
            self._propagate(frame_index, class_id, step)

    def _propagate(self, start: int, class_id: int, step: int) -> None:
        """Propagate through all wrong frames next to `start`; undo it if it makes the first of them worse."""
        frames: list[int] = []
        frame_index = start + step
        while len(frames) < FOLLOWED and self._needs_propagation(frame_index, class_id):
            frames.append(frame_index)
            frame_index += step
        if not frames:
            return
        before = self._iou(frames[0], class_id)
        self.actions["propagate"] += 1
        with self.project.action("Propagate", len(frames)) as action:
            _drain(propagate_class(self.project, self.session.model, class_id, start, frames, action=action))
        if self._iou(frames[0], class_id) < before:
            self.actions["undo"] += 1
            self.project.history.undo()

    def _is_right(self, frame_index: int, class_id: int) -> bool:
        is_present = 0 <= frame_index < len(self.truth) and bool(np.any(self.truth[frame_index] == class_id))
        return is_present and self._iou(frame_index, class_id) >= self.target

    def _needs_propagation(self, frame_index: int, class_id: int) -> bool:
        is_present = 0 <= frame_index < len(self.truth) and bool(np.any(self.truth[frame_index] == class_id))
        return is_present and self._iou(frame_index, class_id) < self.target

    def _iou(self, frame_index: int, class_id: int) -> float:
        return iou(self.project.labels[frame_index] == class_id, self.truth[frame_index] == class_id)

    def _embedding(self, frame_index: int) -> np.ndarray:
        model = self.session.model
        assert model is not None
        return self.project.embeddings(model.encoder_digest, model.embedding_shape).read([frame_index])[0]

    def _present(self, labels: np.ndarray) -> list[int]:
        return [int(value) for value in np.unique(labels) if value]

    def reached(self) -> float:
        """The share of frames in which every class reaches the target."""
        return float(np.mean([not self.wrong_classes(index) for index in range(len(self.truth))]))


def _drain(reports) -> None:  # type: ignore[no-untyped-def]
    for _report in reports:
        pass


def annotate_every_frame(annotator: Annotator) -> None:
    """From the first frame to the last."""
    for frame_index in range(len(annotator.truth)):
        if annotator.wrong_classes(frame_index):
            annotator.correct(frame_index)


def annotate_with_everything(annotator: Annotator, runs: Path) -> None:
    """In the order of the review queue, with one training after the first corrected frames."""
    corrected = 0
    trained = False
    left = _by_queue(annotator)
    while left:
        frame_index = left.pop(0)
        if not annotator.wrong_classes(frame_index):
            continue
        annotator.correct(frame_index)
        corrected += 1
        if corrected == CORRECTED_BEFORE_TRAINING and not trained:
            annotator.actions["training"] += 1
            result, _seconds = tune(runs, [annotator.project.folder], {})
            annotator.session.load_checkpoint(result.checkpoint)
            segment_untouched(annotator.session)
            trained = True
            left = _by_queue(annotator)


def _by_queue(annotator: Annotator) -> list[int]:
    """All frames: first those of the review queue in its order, then the others."""
    project = annotator.project
    jumps = MaskJumps(project.labels, len(annotator.truth), project.classes.ids)
    _drain(jumps.fill())
    queue = ReviewQueue.of(project, jumps)
    ordered: list[int] = []
    while (frame_index := queue.next()) is not None:
        ordered.append(frame_index)
    return [*ordered, *sorted(set(range(len(annotator.truth))) - set(ordered))]


def measure(folder: Path, seed: int, look: str, frame_count: int, targets: Sequence[float]) -> dict:
    """Actions per frame by target and strategy, and the share of frames that reached the target."""
    video, truth = phantom_video(folder, seed, frame_count, look=look)
    with Session(ENDOVIS2018) as session:
        session.load_checkpoint()
        fresh = session.open(video).folder
        for _report in session.segment(session.trained_class_ids(), range(frame_count)):
            pass
    measured: dict = {}
    for target in targets:
        for strategy in ("clicks", "class_prompt", "full"):
            started = time.perf_counter()
            copy = fresh.with_name(f"{fresh.stem}_{strategy}_{target}{fresh.suffix}")
            shutil.copytree(fresh, copy)
            with Session(ENDOVIS2018) as session:
                session.load_checkpoint()
                session.open(copy)
                annotator = Annotator(session, truth, target, follows=strategy == "full")
                if strategy == "clicks":
                    for frame_index in range(frame_count):
                        annotator.project.labels.reset_frame(frame_index)
                if strategy == "full":
                    annotate_with_everything(annotator, folder / f"run_{target}")
                else:
                    annotate_every_frame(annotator)
                result = {
                    "actions_per_frame": sum(annotator.actions.values()) / frame_count,
                    "reached": annotator.reached(),
                    **annotator.actions,
                }
            measured.setdefault(f"{target:.2f}", {})[strategy] = result
            seconds = time.perf_counter() - started
            print(f"{look} {seed} {target:.2f} {strategy}: {json.dumps(result)} ({seconds:.0f} s)", flush=True)
            shutil.rmtree(copy)
    return measured


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--clips", type=int, default=1, help="number of clips of each look")
    parser.add_argument("--frames", type=int, default=100, help="of each clip")
    parser.add_argument("--targets", type=float, nargs="+", default=[0.85, 0.90])
    parser.add_argument("--looks", nargs="+", default=["first", "second"])
    arguments = parse(parser, quick={"clips": 1, "frames": 2, "targets": [0.5], "looks": ["second"]})
    result: dict = {"actions_per_frame": {}, "ratio": {}, "reached": {}}
    for look in arguments.looks:
        clips = []
        for seed in range(FIRST_SEED, FIRST_SEED + arguments.clips):
            with tempfile.TemporaryDirectory() as folder:
                clips.append(measure(Path(folder), seed, look, arguments.frames, arguments.targets))
        for figure in ("actions_per_frame", "reached"):
            result[figure][look] = {
                target: {
                    strategy: rounded(float(np.mean([clip[target][strategy][figure] for clip in clips])))
                    for strategy in clips[0][target]
                }
                for target in clips[0]
            }
        means = result["actions_per_frame"][look]
        result["ratio"][look] = {target: rounded(actions["full"] / actions["clicks"]) for target, actions in means.items()}
    for look, by_target in result["actions_per_frame"].items():
        for target, by_strategy in by_target.items():
            shown = ", ".join(f"{strategy} {actions:.2f}" for strategy, actions in by_strategy.items())
            print(f"{look} look, IoU {target}: actions a frame: {shown}; full / clicks {result['ratio'][look][target]:.2f}")
    if arguments.json:
        print_json(result)


if __name__ == "__main__":
    main()
