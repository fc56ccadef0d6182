"""Edits several frames of a project as one action that can be undone."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.store import Action, Project, TrackTable


@dataclass(frozen=True)
class EditReport:
    """Progress: one more frame is done.

    Attributes
    ----------
    changed_pixels : number of changed pixels in this frame
    is_locked : whether VERIFIED classes protected pixels of this frame
    """

    frame_index: int
    done: int
    total: int
    changed_pixels: int
    is_locked: bool = False


@dataclass(frozen=True)
class EditOutcome:
    """The result of an edit; the generators of `actions` return it.

    Attributes
    ----------
    changed : changed frames, in the order of work
    locked : frames in which VERIFIED classes protected pixels
    lost : frames in which a followed region was lost, at most one in each direction
    left : frames in which a track's pixels stay in another class, because a person painted or verified them
    """

    changed: tuple[int, ...] = ()
    locked: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()
    left: tuple[int, ...] = ()


class FrameEdits:
    """Writes and counts the edits of one action."""

    def __init__(self, project: Project, action: Action, total: int) -> None:
        self.project, self.total = project, total
        self._action = action
        self._done = 0
        self._changed: list[int] = []
        self._locked: list[int] = []
        self._lost: list[int] = []
        self._left: list[int] = []

    @property
    def outcome(self) -> EditOutcome:
        return EditOutcome(tuple(self._changed), tuple(self._locked), tuple(self._lost), tuple(self._left))

    def write(
        self,
        frame_index: int,
        before: np.ndarray,
        after: np.ndarray,
        decided: np.ndarray | None = None,
        *,
        keeps_instances: bool = False,
    ) -> EditReport:
        """Write a frame, except pixels whose old or new class is VERIFIED. The caller must hold the labels' lock.

        Parameters
        ----------
        before, after : (H, W) uint8
        decided : (H, W) bool, pixels that count as painted even if they do not change
        keeps_instances : as for `LabelStore.write_edit`
        """
        locked = np.zeros(256, bool)
        locked[self.project.labels.locked_class_ids(frame_index)] = True
        protected = locked[before] | locked[after] if locked.any() else np.zeros(before.shape, bool)
        differs = before != after
        edited = differs if decided is None else differs | decided
        changed_pixels = 0
        if np.any(edited & ~protected):  # do not try to write locked pixels: the window would warn at every frame
            labels = np.where(protected, before, after)
            decided = None if decided is None else decided & ~protected
            changed_pixels = self.project.labels.write_edit(
                frame_index, labels, decided=decided, keeps_instances=keeps_instances, action=self._action
            )
        return self._report(frame_index, changed_pixels, changed_pixels > 0, bool(np.any(differs & protected)))

    def set_verified(self, frame_index: int, class_ids: Sequence[int], is_verified: bool) -> EditReport:
        """Verify or unlock classes in a frame."""
        labels = self.project.labels
        with labels.lock:
            locked = set(labels.locked_class_ids(frame_index))
            due = [class_id for class_id in class_ids if (class_id in locked) != is_verified]
            if due:
                (labels.verify if is_verified else labels.unlock)(frame_index, due, action=self._action)
        return self._report(frame_index, 0, bool(due), False)

    @contextmanager
    def unlocked(self, frame_index: int, class_ids: Collection[int]) -> Iterator[None]:
        """Let VERIFIED classes of a frame change, because a person asked for it; they are VERIFIED again afterwards."""
        labels = self.project.labels
        locked = [class_id for class_id in labels.locked_class_ids(frame_index) if class_id in class_ids]
        if locked:
            labels.unlock(frame_index, locked, action=self._action)
        try:
            yield
        finally:
            if locked:
                labels.verify(frame_index, locked, action=self._action)

    def skip(self, frame_index: int) -> EditReport:
        """Report a frame without changing it."""
        return self._report(frame_index, 0, False, False)

    def write_table(self, table: TrackTable) -> None:
        """Replace the table of tracks as a part of the action."""
        self.project.tracks.write_table(table, action=self._action)

    def mark_left(self, frame_index: int) -> None:
        """Count a frame in which a person's pixels stay."""
        self._left.append(frame_index)

    def mark_lost(self, frame_indices: Sequence[int]) -> None:
        """Skip these frames because a followed region is not in the first of them."""
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
    """An action of the project's history, named `name` and its frames."""
    with project.action(f"{name} in {frames_text(frame_indices)}", len(frame_indices)) as action:
        yield FrameEdits(project, action, len(frame_indices))


def frames_to_edit(project: Project, frame_indices: Sequence[int]) -> list[int]:
    """The indices in their order, without duplicates.

    Raises
    ------
    ProjectError
        there is no index, or the video does not have such a frame
    """
    distinct = list(dict.fromkeys(int(index) for index in frame_indices))
    if not distinct:
        raise ProjectError("An edit needs at least one frame, but none is selected. Select one or more frames.")
    for index in distinct:
        if not 0 <= index < len(project.labels):
            raise ProjectError(
                f"This video has the frames 0 to {len(project.labels) - 1}; got {index}. Choose one of these."
            )
    return distinct


def frames_text(frame_indices: Sequence[int]) -> str:
    """ "frame 5", "frames 3 to 9", "4 frames from 0 to 30"."""
    first, last, count = min(frame_indices), max(frame_indices), len(frame_indices)
    if count == 1:
        return f"frame {first}"
    if last - first + 1 == count:
        return f"frames {first} to {last}"
    return f"{count} frames from {first} to {last}"
