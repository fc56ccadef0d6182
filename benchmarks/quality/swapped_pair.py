"""How many actions a person needs to put right two tracks that are exchanged from a frame on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from surgicalsam_napari.editing.tracks import swap_from_here
from surgicalsam_napari.phantom import PHANTOM_CLASSES, PhantomScene, write_phantom_clip
from surgicalsam_napari.store import Project
from surgicalsam_napari.store.tracks import Span
from surgicalsam_napari.video import VideoReader
from surgicalsam_training.scoring.tracking import count_tracking, frame_overlap

SIZE = (128, 160)


def actions_to_swap_back(folder: Path, seed: int, frames: int) -> dict[str, float | int]:
    """Exchange two tracks of a project from the middle on, and swap them back as a person does, by two clicks.

    Returns
    -------
    `swap_actions`, counted in the project's history, and the IDF1 before and after
    """
    scene = PhantomScene(seed, SIZE, frames, alike=2)
    video = write_phantom_clip(folder / "swapped", seed, SIZE, frames, alike=2)
    truth = [frame.instances for frame in scene]
    pair = [number for number, id in enumerate(scene.instruments, start=1) if scene.instruments.count(id) == 2]
    both = [index for index in range(frames // 3, frames) if all((truth[index] == number).any() for number in pair)]
    with Project.create(folder / "swapped.surgicalsam", VideoReader(video), PHANTOM_CLASSES) as project:
        for index, frame in enumerate(scene):
            project.labels[index] = frame.labels
            project.tracks.write_numbers(index, frame.instances)
        table = project.tracks.table
        for number, class_id in enumerate(scene.instruments, start=1):
            table = table.with_new(class_id, [Span(0, frames - 1, number)])
        project.tracks.edit("Exchange two tracks", table.swapped(*pair, both[0]))
        before, known = identity(project, truth), len(project.history.entries())
        places = [tuple(np.argwhere(truth[both[0]] == number)[0].tolist()) for number in pair]
        swap_from_here(project, (both[0], *places[0]), (both[0], *places[1]))
        return {
            "swap_actions": len(project.history.entries()) - known,
            "swap_idf1_before": round(before, 3),
            "swap_idf1_after": round(identity(project, truth), 3),
        }


def identity(project: Project, truth: list[np.ndarray]) -> float:
    """IDF1 of the tracks of a project."""
    overlaps = []
    for index, numbers in enumerate(truth):
        ids = np.zeros(256, int)
        for number, track in project.tracks.table.in_frame(index).items():
            ids[number] = track.id
        overlaps.append(frame_overlap(numbers, ids[project.tracks.numbers(index)]))
    return count_tracking(overlaps).idf1
