"""Edits of a range of frames: generators, each one action of the project's history.

They write frame by frame and yield an `EditReport` for each; at the end they return an `EditOutcome`. If one is closed
early, the reported frames stay edited and are undone as one action. These edits may change painted pixels, because a person
asks for them. VERIFIED pixels do not change, and their frames are counted.

Besides the errors in their own docstrings, all raise:

ProjectError, DiskSpaceError
    no frame, a frame that the video does not have, a failed write; frames reported before stay edited
ClassSetError
    a class id that the project does not have; nothing is changed
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
    name : name of the action for the user, shown after "Undo"; the frames are added to it
    operation : takes a label map, (H, W) uint8, and returns the new one
    """
    frame_indices = frames_to_edit(project, frame_indices)
    with editing(project, name, frame_indices) as edits:
        for frame_index in frame_indices:
            with project.labels.lock:  # prevents strokes and predictions between reading and writing
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
    """Give the region at a pixel to a class, and follow it through other frames, forward and backward.

    The whole region counts as painted in every frame, even if it already has the class. So later predictions keep it.

    Parameters
    ----------
    class_id : 0 for background
    frame_indices : frames to follow it through, besides `frame_index`; see `follow_region`
    followed_class_ids : classes that the region may have there; by default any

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
            matched = 0
            for index, match in follow_region(project.labels, frame_index, region, direction, class_ids=followed_class_ids):
                matched += 1
                yield _reassigned(edits, index, match, class_id)
            if direction[matched:]:
                edits.mark_lost(direction[matched:])
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
        both classes are the same
    """
    names = _name(project, first), _name(project, second)
    if first == second:
        raise ClassSetError(f"A swap needs two different classes; got {names[0]} twice. Choose another class.")
    exchange = partial(operations.swap, first=first, second=second)
    return (yield from edit_frames(project, f"Swap {names[0]} and {names[1]}", frame_indices, exchange))


# ---- the mask of one class


def fill_from_previous(project: Project, class_id: int, frame_indices: Sequence[int], *, distance: int = 1) -> Edits:
    """Copy the mask of a class from the previous frame; the mask counts as painted.

    The frames are filled from first to last, so a range gets the mask of the frame before it, or of the last VERIFIED frame
    inside it. A frame does not change if the class is not in the frame before.

    Parameters
    ----------
    distance : number of frames between source and target, for example 5 if every fifth frame is labelled. If negative,
        frames are filled from later ones, from last to first.

    Raises
    ------
    ProjectError
        there is no frame before the range, or the class is not in it
    """
    name = _name(project, class_id)
    frame_indices = sorted(frames_to_edit(project, frame_indices), reverse=distance < 0)
    source_frame = frame_indices[0] - distance
    if distance == 0 or not 0 <= source_frame < len(project.labels):
        raise ProjectError(
            f"Frame {frame_indices[0]} has no frame {distance} before it to fill from. Start at another frame."
        )
    if not np.any(project.labels[source_frame] == class_id):
        raise ProjectError(f"{name} must be in frame {source_frame} to fill from it, but is not. Start at another frame.")
    with editing(project, f"Fill {name}", frame_indices) as edits:
        for frame_index in frame_indices:
            yield _filled(edits, frame_index, frame_index - distance, class_id)
        return edits.outcome


def _filled(edits: FrameEdits, frame_index: int, source_frame: int, class_id: int) -> EditReport:
    labels = edits.project.labels
    if not 0 <= source_frame < len(labels):
        return edits.skip(frame_index)
    with labels.lock:
        source, before = labels[source_frame], labels[frame_index]
        mask = source == class_id
        if not mask.any():
            return edits.skip(frame_index)
        after = operations.fill(before, source, class_id)
        return edits.write(frame_index, before, after, decided=mask & (after == class_id))


def clear_class(project: Project, class_id: int, frame_indices: Sequence[int]) -> Edits:
    """Make a class background.

    Later predictions keep these pixels as background, but may predict the class elsewhere in the frame. If the frame is
    verified, the class stays absent.
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
    """Smooth the outline of a class; `radius` in pixels, see `operations.smooth`."""
    operation = partial(operations.smooth, class_id=class_id, radius=radius)
    return (yield from edit_frames(project, f"Smooth {_name(project, class_id)}", frame_indices, operation))


def grow_class(project: Project, class_id: int, frame_indices: Sequence[int], radius: int) -> Edits:
    """Extend a class into the background within `radius` pixels of it."""
    operation = partial(operations.grow, class_id=class_id, radius=radius)
    return (yield from edit_frames(project, f"Grow {_name(project, class_id)}", frame_indices, operation))


def shrink_class(project: Project, class_id: int, frame_indices: Sequence[int], radius: int) -> Edits:
    """Turn the pixels of a class within `radius` pixels of its outline into background."""
    operation = partial(operations.shrink, class_id=class_id, radius=radius)
    return (yield from edit_frames(project, f"Shrink {_name(project, class_id)}", frame_indices, operation))


# ---- verified


def verify_frames(project: Project, frame_indices: Sequence[int], class_ids: Sequence[int] | None = None) -> Edits:
    """Verify presence or absence of classes (by default all) in these frames; only `unlock_frames` allows changes again."""
    return (yield from _verification(project, frame_indices, class_ids, is_verified=True))


def unlock_frames(project: Project, frame_indices: Sequence[int], class_ids: Sequence[int] | None = None) -> Edits:
    """Unlock verified classes (by default all) in these frames."""
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
