"""Edits of a project's frames, one after another, as one action that can be undone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.store import Action, Project


@dataclass(frozen=True)
class EditReport:
    """One more frame is done.

    Attributes
    ----------
    changed_pixels : in this frame
    is_locked : whether VERIFIED classes kept pixels of this frame as they were
    """

    frame_index: int
    done: int
    total: int
    changed_pixels: int
    is_locked: bool = False


@dataclass(frozen=True)
class EditOutcome:
    """What an edit of frames came to: the generators of `actions` return it.

    Attributes
    ----------
    changed : frames of which something changed, in the order of work
    locked : frames in which VERIFIED classes kept pixels as they were
    lost : frames in which a region that was followed is not to be found any more, at most one in either direction
    """

    changed: tuple[int, ...] = ()
    locked: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()


class FrameEdits:
    """The edits of one action: writes them, and counts."""

    def __init__(self, project: Project, action: Action, total: int) -> None:
        self.project, self.total = project, total
        self._action = action
        self._done = 0
        self._changed: list[int] = []
        self._locked: list[int] = []
        self._lost: list[int] = []

    @property
    def outcome(self) -> EditOutcome:
        return EditOutcome(tuple(self._changed), tuple(self._locked), tuple(self._lost))

    def write(
        self, frame_index: int, before: np.ndarray, after: np.ndarray, decided: np.ndarray | None = None
    ) -> EditReport:
        """Write a frame, but for pixels whose class is or would be a VERIFIED one. Call it while holding the labels' lock.

        Parameters
        ----------
        before, after : (H, W) uint8
        decided : (H, W) bool, pixels that count as painted though they stay as they are
        """
        locked = np.zeros(256, bool)
        locked[self.project.labels.locked_class_ids(frame_index)] = True
        stays = locked[before] | locked[after] if locked.any() else np.zeros(before.shape, bool)
        differs = before != after
        chosen = differs if decided is None else differs | decided
        changed_pixels = 0
        if np.any(chosen & ~stays):  # what is locked is not even tried: the window would warn at every frame
            labels = np.where(stays, before, after)
            decided = None if decided is None else decided & ~stays
            changed_pixels = self.project.labels.write_edit(frame_index, labels, decided=decided, action=self._action)
        return self._report(frame_index, changed_pixels, changed_pixels > 0, bool(np.any(differs & stays)))

    def set_verified(self, frame_index: int, class_ids: Sequence[int], is_verified: bool) -> EditReport:
        """Verify or unlock classes in a frame."""
        labels = self.project.labels
        with labels.lock:
            now = set(labels.locked_class_ids(frame_index))
            due = [class_id for class_id in class_ids if (class_id in now) != is_verified]
            if due:
                (labels.verify if is_verified else labels.unlock)(frame_index, due, action=self._action)
        return self._report(frame_index, 0, bool(due), False)

    def pass_over(self, frame_index: int) -> EditReport:
        """Leave a frame as it is."""
        return self._report(frame_index, 0, False, False)

    def lose(self, frame_indices: Sequence[int]) -> None:
        """A region that was followed is not in the first of these frames; they are not gone through."""
        self._lost.append(frame_indices[0])
        self._done += len(frame_indices)

    def _report(self, frame_index: int, changed_pixels: int, is_changed: bool, is_locked: bool) -> EditReport:
        self._done += 1
        if is_changed:
            self._changed.append(frame_index)
        if is_locked:
            self._locked.append(frame_index)
        return EditReport(frame_index, self._done, self.total, changed_pixels, is_locked)


@contextmanager
def editing(project: Project, name: str, frame_indices: Sequence[int]) -> Iterator[FrameEdits]:
    """An action of the project's history, called `name` with the frames behind it."""
    with project.action(f"{name} in {frames_text(frame_indices)}", len(frame_indices)) as action:
        yield FrameEdits(project, action, len(frame_indices))


def frames_to_edit(project: Project, frame_indices: Sequence[int]) -> list[int]:
    """The indices in their order, each once.

    Raises
    ------
    ProjectError
        there is none, or one that the video does not have
    """
    distinct = list(dict.fromkeys(int(index) for index in frame_indices))
    if not distinct:
        raise ProjectError("An edit needs at least one frame, and none is chosen. Choose frames.")
    for index in distinct:
        if not 0 <= index < len(project.labels):
            raise ProjectError(f"This video has the frames 0 to {len(project.labels) - 1}; got {index}. Choose among these.")
    return distinct


def frames_text(frame_indices: Sequence[int]) -> str:
    """ "frame 5", "frames 3 to 9", "4 frames from 0 to 30"."""
    first, last, count = min(frame_indices), max(frame_indices), len(frame_indices)
    if count == 1:
        return f"frame {first}"
    if last - first + 1 == count:
        return f"frames {first} to {last}"
    return f"{count} frames from {first} to {last}"
