"""What the class vote along tracks gains: on predictions of the bundled weights, and on exact masks with wrong classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from surgicalsam_napari.instruments import ENDOVIS2018
from surgicalsam_napari.model.surgical_sam import FramePrediction
from surgicalsam_napari.phantom import LOOKS, PhantomScene, write_phantom_clip
from surgicalsam_napari.session import Session
from surgicalsam_napari.store import Project
from surgicalsam_napari.tracking.vote_classes import vote_classes
from surgicalsam_napari.video import VideoReader
from surgicalsam_training.scoring.metrics import evaluate_label_maps
from surgicalsam_training.scoring.tracking import classes_of_instruments, count_flips

SIZE = (256, 320)  # of the videos with wrong classes
SHARES = (0.1, 0.2, 0.4)  # of the frames in which an instrument has a wrong class
IOU, PRESENCE = 0.8, 0.9  # that the predictions with right and wrong classes claim: nothing gives the wrong ones away


def link_and_vote(project: Project) -> None:
    """As after a run over the whole video; the vote links the instances first."""
    for _report in vote_classes(project, range(project.manifest.video.frame_count)):
        pass


# Predictions -----------------------------------------------------------------------------------------------------------


def vote_on_predictions(folder: Path, first_seed: int, scenes: int, frames: int) -> dict:
    """By look, means over scenes of mixed instruments: Challenge IoU and flips of class, without and with the vote."""
    result = {}
    for look in LOOKS:
        rows = [_predicted_scene(folder / look, first_seed + scene, frames, look) for scene in range(scenes)]
        result[look] = {name: round(float(np.nanmean([row[name] for row in rows])), 2) for name in rows[0]}
        print(f"vote, {look} look: {result[look]}", flush=True)
    return result


def _predicted_scene(folder: Path, seed: int, frames: int, look: str) -> dict[str, float]:
    video = write_phantom_clip(folder, seed, frame_count=frames, look=look, with_instances=True)
    truth, instances = (list(_maps(video, kind)) for kind in ("labels", "instances"))
    with Session(ENDOVIS2018) as session:
        session.load_checkpoint()
        project = session.open(video)
        for _report in session.segment(session.trained_class_ids(), range(frames)):
            pass
        without = _scores(project, truth, instances)
        link_and_vote(project)
        voted = _scores(project, truth, instances)
    return {
        name: value for score in without for name, value in ((f"{score}_without", without[score]), (score, voted[score]))
    }


def _maps(video: Path, kind: str) -> Iterator[np.ndarray]:
    for file in sorted(video.with_name(f"{video.stem}_{kind}").glob("*.png")):
        yield np.asarray(Image.open(file))


def _scores(project: Project, truth: Sequence[np.ndarray], instances: Sequence[np.ndarray]) -> dict[str, float]:
    labels = [project.labels[index] for index in range(len(truth))]
    seen = sum(len(np.unique(numbers[numbers > 0])) for numbers in instances)
    flips = count_flips(map(classes_of_instruments, instances, labels))
    rate = project.manifest.video.frame_rate or PhantomScene.frame_rate
    return {
        "challenge_iou": evaluate_label_maps(zip(labels, truth, strict=True), ENDOVIS2018.ids).challenge_iou,
        "class_flips_per_minute": 60 * flips * rate / max(seen, 1),
    }


# Wrong classes ---------------------------------------------------------------------------------------------------------


def vote_on_wrong_classes(folder: Path, first_seed: int, scenes: int, frames: int) -> dict:
    """By share of frames with a wrong class: the share put right, the share spoiled, and the Challenge IoU."""
    result = {}
    for share in SHARES:
        rows = [_disturbed_scene(folder / f"{share}", first_seed + scene, frames, share) for scene in range(scenes)]
        wrong, right, put_right, spoiled = np.sum([row[:4] for row in rows], axis=0).tolist()
        before, after = np.mean([row[4:] for row in rows], axis=0).tolist()
        result[f"{share:.0%}"] = {
            "put_right": round(put_right / max(wrong, 1), 3),
            "spoiled": round(spoiled / max(right, 1), 3),
            "challenge_iou_without": round(before, 2),
            "challenge_iou": round(after, 2),
        }
        print(f"wrong classes in {share:.0%} of the frames: {result[f'{share:.0%}']}", flush=True)
    return result


def _disturbed_scene(folder: Path, seed: int, frames: int, share: float) -> tuple[float, ...]:
    """Instruments with a wrong class, with the right one, put right, spoiled; Challenge IoU without and with the vote.

    Every other scene has two instruments of one class.
    """
    alike = 2 * (seed % 2)
    scene = PhantomScene(seed, SIZE, frames, alike=alike)
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    video = write_phantom_clip(folder, seed, SIZE, frames, alike=alike)
    with Project.create(folder / f"{seed}.surgicalsam", VideoReader(video), ENDOVIS2018) as project:
        truth, given = list(scene), []
        for index, frame in enumerate(truth):
            given.append(_with_wrong_classes(rng, frame.instances, scene.instruments, share))
            project.labels.write_prediction(index, _prediction(given[-1]))
        link_and_vote(project)
        voted = [project.labels[index] for index in range(frames)]
    counts = np.zeros(4)
    for frame, before, after in zip(truth, given, voted, strict=True):
        counts += _changes(frame.instances, scene.instruments, before, after)
    ious = [
        evaluate_label_maps(zip(maps, (frame.labels for frame in truth), strict=True), ENDOVIS2018.ids).challenge_iou
        for maps in (given, voted)
    ]
    return (*counts, *ious)


def _with_wrong_classes(
    rng: np.random.Generator, instances: np.ndarray, class_ids: Sequence[int], share: float
) -> np.ndarray:
    """The label map, in which each instrument has a wrong class with a probability of `share`."""
    table = np.array([0, *class_ids], np.uint8)
    for number, class_id in enumerate(class_ids, start=1):
        if rng.random() < share:
            table[number] = rng.choice([id for id in ENDOVIS2018.ids if id != class_id])
    return table[instances]


def _prediction(label_map: np.ndarray) -> FramePrediction:
    ids = ENDOVIS2018.ids
    present = np.isin(ids, label_map)
    scores = (np.where(present, value, 0.05).astype(np.float32) for value in (IOU, PRESENCE))
    return FramePrediction(ids, label_map, *scores, present, np.zeros(len(ids), np.float32))


def _changes(instances: np.ndarray, class_ids: Sequence[int], before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Instruments of a frame that had a wrong class, had the right one, were put right, were spoiled."""
    old, new = classes_of_instruments(instances, before), classes_of_instruments(instances, after)
    right = {number for number, class_id in old.items() if class_id == class_ids[number - 1]}
    now_right = {number for number, class_id in new.items() if class_id == class_ids[number - 1]}
    wrong = old.keys() - right
    return np.array([len(wrong), len(right), len(wrong & now_right), len(right - now_right)])
