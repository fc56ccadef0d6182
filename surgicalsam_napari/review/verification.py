"""Confirm the labels of many frames, or take that back, as one action that can be undone."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from surgicalsam_napari.store import Project


@dataclass(frozen=True)
class VerificationReport:
    """One more frame is verified or unlocked."""

    frame_index: int
    done: int
    total: int


def verify_frames(project: Project, frame_indices: Sequence[int]) -> Generator[VerificationReport, None, None]:
    """Confirm all classes in these frames, as `LabelStore.verify` does.

    Raises
    ------
    ProjectError, DiskSpaceError
        a frame cannot be written; those reported before stay verified
    """
    return _written(project, "Verify", project.labels.verify, frame_indices)


def unlock_frames(project: Project, frame_indices: Sequence[int]) -> Generator[VerificationReport, None, None]:
    """Take back what was confirmed in these frames, as `LabelStore.unlock` does; errors as in `verify_frames`."""
    return _written(project, "Unlock", project.labels.unlock, frame_indices)


def _written(
    project: Project, verb: str, write: Callable[..., None], frame_indices: Sequence[int]
) -> Generator[VerificationReport, None, None]:
    if not len(frame_indices):
        return
    first, last = frame_indices[0], frame_indices[-1]
    name = f"{verb} frame {first}" if first == last else f"{verb} frames {first} to {last}"
    with project.history.action(name) as action:
        for done, frame_index in enumerate(frame_indices, 1):
            write(frame_index, action=action)
            yield VerificationReport(frame_index, done, len(frame_indices))
