"""What a person does to a range of frames: generators, each one action of the project's history.

They write frame by frame and yield an `EditReport` for each; exhausted, they return an `EditOutcome`. Closed early, what was
reported stays done, and is undone as one. What a person painted is changed here, as a person asks for it; what is VERIFIED
stays, and is counted.

All of them raise, beside what they name themselves:

ProjectError, DiskSpaceError
    no frame, one that the video does not have, a failed write; frames reported up to then stay as they are
ClassSetError
    an id that the project's class set does not have; nothing is changed
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from functools import partial

import numpy as np

from surgicalsam_napari.editing import operations
from surgicalsam_napari.editing.frame_edits import EditOutcome, EditReport, FrameEdits, editing, frames_to_edit
from surgicalsam_napari.editing.regions import directions_from, follow_region, region_at
from surgicalsam_napari.errors import ClassSetError, ProjectError
from surgicalsam_napari.store import Project

Edits = Generator[EditReport, None, EditOutcome]
Operation = Callable[[np.ndarray], np.ndarray]


def edit_frames(project: Project, name: str, frame_indices: Sequence[int], operation: Operation) -> Edits:
    """Change each frame's label map by an operation, in the order given.

    Parameters
    ----------
    name : in a user's words, as it stands behind "Undo"; the frames are added to it
    operation : of a label map, (H, W) uint8, to another
    """
    frame_indices = frames_to_edit(project, frame_indices)
    with editing(project, name, frame_indices) as edits:
        for frame_index in frame_indices:
            with project.labels.lock:  # no stroke or prediction between reading and writing
                before = project.labels[frame_index]
                report = edits.write(frame_index, before, operation(before))
            yield report
        return edits.outcome


# ---- wrong class


def reassign_region(
    project: Project,
    frame_index: int,
    row: int,
    column: int,
    class_id: int,
    frame_indices: Sequence[int] = (),
    *,
    followed_class_ids: Collection[int] | None = None,
) -> Edits:
    """Give the region at a pixel to a class, and follow it through other frames, forward and back.

    The whole region counts as painted in every frame, where it has that class already, too: a later prediction leaves it.

    Parameters
    ----------
    class_id : 0 makes it background
    frame_indices : where to follow it, beside `frame_index`; see `follow_region`
    followed_class_ids : the classes that it may have there; by default any

    Raises
    ------
    ProjectError
        the pixel is background or outside the frame
    """
    name = "background" if class_id == 0 else project.classes.by_id(class_id).name
    frame_indices = frames_to_edit(project, [frame_index, *frame_indices])
    region = region_at(project.labels[frame_index], row, column)
    with editing(project, f"Change a region to {name}", frame_indices) as edits:
        yield _reassigned(edits, frame_index, region, class_id)
        for direction in directions_from(frame_index, frame_indices):
            found_in = 0
            for index, found in follow_region(project.labels, frame_index, region, direction, class_ids=followed_class_ids):
                found_in += 1
                yield _reassigned(edits, index, found, class_id)
            if direction[found_in:]:
                edits.lose(direction[found_in:])
        return edits.outcome


def _reassigned(edits: FrameEdits, frame_index: int, region: np.ndarray, class_id: int) -> EditReport:
    with edits.project.labels.lock:
        before = edits.project.labels[frame_index]
        return edits.write(frame_index, before, operations.reassign(before, region, class_id), decided=region)


def swap_classes(project: Project, first: int, second: int, frame_indices: Sequence[int]) -> Edits:
    """Exchange two classes.

    Raises
    ------
    ClassSetError
        it is one class twice
    """
    names = _name(project, first), _name(project, second)
    if first == second:
        raise ClassSetError(f"A swap needs two classes; got {names[0]} twice. Choose another one.")
    exchange = partial(operations.swap, first=first, second=second)
    return (yield from edit_frames(project, f"Swap {names[0]} and {names[1]}", frame_indices, exchange))


# ---- the mask of one class


def fill_from_previous(project: Project, class_id: int, frame_indices: Sequence[int], *, distance: int = 1) -> Edits:
    """Give a class the mask that it has in the frame before; the mask counts as painted.

    The frames are gone through from first to last, so that a range takes over the mask of the frame before it, or of the
    last VERIFIED frame within. A frame stays as it is if the class is not in the one before.

    Parameters
    ----------
    distance : frames from each to the one it is filled from; where every fifth frame is labelled, 5. Below 0, frames are
        filled from later ones, and gone through from last to first.

    Raises
    ------
    ProjectError
        the class is not in the frame before the range, or there is none
    """
    name = _name(project, class_id)
    frame_indices = sorted(frames_to_edit(project, frame_indices), reverse=distance < 0)
    source_frame = frame_indices[0] - distance
    if distance == 0 or not 0 <= source_frame < len(project.labels):
        raise ProjectError(f"Frame {frame_indices[0]} has no frame {distance} before it to be filled from. Start elsewhere.")
    if not np.any(project.labels[source_frame] == class_id):
        raise ProjectError(f"{name} should be in frame {source_frame} to be filled from it, and is not. Start elsewhere.")
    with editing(project, f"Fill {name}", frame_indices) as edits:
        for frame_index in frame_indices:
            yield _filled(edits, frame_index, frame_index - distance, class_id)
        return edits.outcome


def _filled(edits: FrameEdits, frame_index: int, source_frame: int, class_id: int) -> EditReport:
    labels = edits.project.labels
    if not 0 <= source_frame < len(labels):
        return edits.pass_over(frame_index)
    with labels.lock:
        source, before = labels[source_frame], labels[frame_index]
        mask = source == class_id
        if not mask.any():
            return edits.pass_over(frame_index)
        after = operations.fill(before, source, class_id)
        return edits.write(frame_index, before, after, decided=mask & (after == class_id))


def clear_class(project: Project, class_id: int, frame_indices: Sequence[int]) -> Edits:
    """Make a class background.

    A later prediction leaves these pixels, and may find the class elsewhere in the frame; verified, it is absent for good.
    """
    operation = partial(operations.clear, class_id=class_id)
    return (yield from edit_frames(project, f"Clear {_name(project, class_id)}", frame_indices, operation))


def keep_largest_region(project: Project, class_id: int, frame_indices: Sequence[int]) -> Edits:
    """Keep the largest connected region of a class in each frame."""
    name = f"Keep the largest region of {_name(project, class_id)}"
    return (yield from edit_frames(project, name, frame_indices, partial(operations.keep_largest, class_id=class_id)))


def fill_class_holes(project: Project, class_id: int, frame_indices: Sequence[int]) -> Edits:
    """Fill background that a class surrounds."""
    name = f"Fill holes of {_name(project, class_id)}"
    return (yield from edit_frames(project, name, frame_indices, partial(operations.fill_holes, class_id=class_id)))


def smooth_class(project: Project, class_id: int, frame_indices: Sequence[int], radius: int) -> Edits:
    """Make the outline of a class smooth; `radius` in pixels, see `operations.smooth`."""
    operation = partial(operations.smooth, class_id=class_id, radius=radius)
    return (yield from edit_frames(project, f"Smooth {_name(project, class_id)}", frame_indices, operation))


def grow_class(project: Project, class_id: int, frame_indices: Sequence[int], radius: int) -> Edits:
    """Let a class take the background within `radius` pixels of it."""
    operation = partial(operations.grow, class_id=class_id, radius=radius)
    return (yield from edit_frames(project, f"Grow {_name(project, class_id)}", frame_indices, operation))


def shrink_class(project: Project, class_id: int, frame_indices: Sequence[int], radius: int) -> Edits:
    """Make the pixels of a class within `radius` pixels of its outline background."""
    operation = partial(operations.shrink, class_id=class_id, radius=radius)
    return (yield from edit_frames(project, f"Shrink {_name(project, class_id)}", frame_indices, operation))


# ---- verified


def verify_frames(project: Project, frame_indices: Sequence[int], class_ids: Sequence[int] | None = None) -> Edits:
    """Confirm classes, or their absence, in these frames; by default all. Nothing changes them then but `unlock_frames`."""
    return (yield from _verification(project, frame_indices, class_ids, is_verified=True))


def unlock_frames(project: Project, frame_indices: Sequence[int], class_ids: Sequence[int] | None = None) -> Edits:
    """Take back that classes were confirmed in these frames; by default all."""
    return (yield from _verification(project, frame_indices, class_ids, is_verified=False))


def _verification(
    project: Project, frame_indices: Sequence[int], class_ids: Sequence[int] | None, *, is_verified: bool
) -> Edits:
    frame_indices = frames_to_edit(project, frame_indices)
    what = "all" if class_ids is None else ", ".join(_name(project, class_id) for class_id in class_ids)
    chosen = project.classes.ids if class_ids is None else tuple(class_ids)
    with editing(project, f"{'Verify' if is_verified else 'Unlock'} {what}", frame_indices) as edits:
        for frame_index in frame_indices:
            yield edits.set_verified(frame_index, chosen, is_verified)
        return edits.outcome


def _name(project: Project, class_id: int) -> str:
    return project.classes.by_id(class_id).name
