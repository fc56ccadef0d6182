"""Smooth the flickering masks of a project, frame by frame, by those of the frames before and after."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from surgicalsam_napari.inference.frame_selection import checked_frames, prefetched_frames
from surgicalsam_napari.propagation.flow import scene_changes
from surgicalsam_napari.store import Provenance
from surgicalsam_napari.tracking.link_instances import TrackReport
from surgicalsam_napari.tracking.smoothing import Smoother

if TYPE_CHECKING:
    from surgicalsam_napari.store import Project
    from surgicalsam_napari.store.disk.action import Action


@dataclass(frozen=True)
class SmoothOutcome:
    """What smoothing changed.

    Attributes
    ----------
    changed : the frames in which a mask changed
    """

    changed: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"The masks of {len(self.changed):,} frames were smoothed." if self.changed else "No mask flickered."


@dataclass(frozen=True)
class _Frame:
    index: int
    labels: np.ndarray
    grey: np.ndarray
    begins_scene: bool


def smooth_masks(
    project: Project, frame_indices: Sequence[int], *, action: Action | None = None
) -> Generator[TrackReport, None, SmoothOutcome]:
    """Smooth the masks of these frames, as one action. A frame needs both neighbours among them, in its scene.

    Only predictions change: no painted pixel, and no class that a person edited or verified. Closing the generator keeps the
    frames that are done.

    Parameters
    ----------
    action : an open action that the frames become a part of

    Raises
    ------
    VideoError, ProjectError, DiskSpaceError
        frames up to then stay as they are
    """
    frames = sorted(checked_frames(frame_indices, project.labels.shape[0]))
    smoother, changed = Smoother(project.labels.shape[1:]), list[int]()
    name = f"Smooth masks in {len(frames):,} frames"
    with (
        project.action(name, len(frames), within=action) as recorded,
        closing(_triples(project, frames, smoother)) as triples,
    ):
        for done, (before, frame, after) in enumerate(triples, start=1):
            is_changed = False
            if before is not None and after is not None:
                labels = smoother.smoothed(
                    frame.labels, frame.grey, [(before.labels, before.grey), (after.labels, after.grey)]
                )
                labels = _of_predictions(project, frame.index, frame.labels, labels)
                is_changed = project.labels.relabel_predictions(frame.index, labels, is_vote=False, action=recorded) > 0
            changed += [frame.index] if is_changed else []
            yield TrackReport(frame.index, done, len(frames), is_changed)
    return SmoothOutcome(tuple(changed))


def _triples(
    project: Project, frames: Sequence[int], smoother: Smoother
) -> Generator[tuple[_Frame | None, _Frame, _Frame | None], None, None]:
    """Each frame with its neighbours before anything changes; None where there is none in its scene."""
    before: _Frame | None = None
    frame: _Frame | None = None
    with closing(_read(project, frames, smoother)) as read:
        for after in read:
            if frame is not None:
                yield _in_scene(before, frame, frame), frame, _in_scene(after, frame, after)
            before, frame = frame, after
    if frame is not None:
        yield _in_scene(before, frame, frame), frame, None


def _in_scene(neighbour: _Frame | None, frame: _Frame, later: _Frame) -> _Frame | None:
    """The neighbour if it is the next frame of the same scene."""
    is_next = neighbour is not None and abs(neighbour.index - frame.index) == 1 and not later.begins_scene
    return neighbour if is_next else None


def _read(project: Project, frames: Sequence[int], smoother: Smoother) -> Generator[_Frame, None, None]:
    previous: np.ndarray | None = None
    with closing(prefetched_frames(project.video, frames)) as pictures:
        for index, picture in zip(frames, pictures, strict=True):
            begins_scene = previous is not None and scene_changes(previous, picture)
            yield _Frame(index, project.labels[index], smoother.grey(picture), begins_scene)
            previous = picture


def _of_predictions(project: Project, index: int, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The labels after, but as before where the old or the new class is not a prediction."""
    provenance = project.labels.row("provenance", index)
    free = np.zeros(256, bool)
    free[0] = True
    free[list(project.classes.ids)] = np.isin(provenance, (Provenance.PREDICTED, Provenance.ABSENT))
    return np.where(free[before] & free[after], after, before)
