"""A person's edits of who is who: *Same as*, *Split here*, *Swap from here on*, *This track is a*. Each is one action.

The tracks that a person has touched are the person's (`Track.made_by`): linking again never undoes it. A region is given as
(frame index, row, column) of one of its pixels.

Besides the errors in their own docstrings, all raise:

ProjectError, DiskSpaceError
    the pixel is background or outside the frame, tracks.json is damaged, or a failed write
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from surgicalsam_napari.editing.frame_edits import EditOutcome, EditReport, FrameEdits, editing
from surgicalsam_napari.editing.regions import region_at
from surgicalsam_napari.errors import ProjectError
from surgicalsam_napari.store import Action, Project, Span, Track, TrackTable
from surgicalsam_napari.store.label_maps import present_ids
from surgicalsam_napari.store.provenance import is_by_person
from surgicalsam_napari.store.tracks import LARGEST_NUMBER

Place = tuple[int, int, int]  # frame index, row, column


@dataclass(frozen=True)
class Region:
    """The pixels of one instance in a frame.

    Attributes
    ----------
    mask : (H, W) bool
    number : of its pixels, 0 if it was never linked
    track : None if it has none yet
    """

    frame_index: int
    mask: np.ndarray
    class_id: int
    number: int
    track: Track | None


def region_of(project: Project, place: Place) -> Region:
    """The region at a pixel: connected, of one class, and of one instance where it has one."""
    frame_index, row, column = place
    labels, numbers = project.labels[frame_index], project.tracks.numbers(frame_index)
    mask = region_at(labels, row, column)
    number = int(numbers[row, column])
    track = project.tracks.table.at(frame_index, number)
    return Region(frame_index, mask & (numbers == number), int(labels[row, column]), number, track)


def track_at(project: Project, place: Place) -> Track:
    """The track of the region at a pixel.

    Raises
    ------
    ProjectError
        the region has none
    """
    region = region_of(project, place)
    if region.track is None:
        raise ProjectError(
            f"The region at row {place[1]}, column {place[2]} of frame {place[0]} should belong to a track, but has none "
            "yet. Link the instances of this frame first, or say which one it is (Same as)."
        )
    return region.track


# ---- the table


def same_as(project: Project, place: Place, other_place: Place) -> Track:
    """Two regions are the same instrument: their tracks become one. Returns that track.

    A region without a track joins the other one's. In one frame, two regions are the same instrument only if one of them
    has no track yet: the two pieces of an instrument behind another one.

    Raises
    ------
    ProjectError
        both are one region or one track already, have different classes, or are in one frame as two instruments
    """
    with project.labels.lock:
        region, other = region_of(project, place), region_of(project, other_place)
        _check_joinable(project, region, other)
        if region.track is not None and other.track is not None:
            kept, gone = sorted((region.track.id, other.track.id))
            name = f"{_title(project, gone)} is {_title(project, kept)}"
            project.tracks.edit(name, _joined(project, kept, gone))
            return project.tracks.table.by_id(kept)
        return _linked_by_hand(project, *((region, other) if region.track is not None else (other, region)))


def _linked_by_hand(project: Project, region: Region, new: Region) -> Track:
    """The region `new`, which has no track, joins that of the other one, or both get a new track."""
    track, other_frame = region.track, new.frame_index != region.frame_index
    if track is not None and other_frame and _is_visible(project, track, new.frame_index):
        raise _in_two_places(project, new.frame_index, (track.id,))
    name = "a region" if track is None else _title(project, track.id)
    with project.history.action(f"Same as {name}", all_or_none=True) as action:
        table = project.tracks.table if track is not None else _with_new_track(project, region, action)
        track_id = table.tracks[-1].id if track is None else track.id
        table = _adopted(project, table, track_id, new, action)
        project.tracks.write_table(table, action=action)
    return table.by_id(track_id)


def split_here(project: Project, place: Place) -> Track:
    """From this frame on, the region is another instrument. Returns its new track."""
    track = track_at(project, place)
    table = project.tracks.table.split(track.id, place[0])
    project.tracks.edit(f"Split {_title(project, track.id)} at frame {place[0]}", table)
    return table.tracks[-1]


def swap_from_here(project: Project, place: Place, other_place: Place) -> None:
    """From this frame on, the tracks of two regions are exchanged.

    Raises
    ------
    ProjectError
        the regions are not in one frame, belong to one track, or have different classes
    """
    if place[0] != other_place[0]:
        raise ProjectError(
            f"A swap needs two regions of one frame; got the frames {place[0]} and {other_place[0]}. Click on two regions "
            "of the first frame that is wrong."
        )
    track, other = track_at(project, place), track_at(project, other_place)
    if track.class_id != other.class_id:
        raise _different(project, track.class_id, other.class_id)
    table = project.tracks.table.swapped(track.id, other.id, place[0])
    names = _title(project, track.id), _title(project, other.id)
    project.tracks.edit(f"Swap {names[0]} and {names[1]} from frame {place[0]} on", table)


def _check_joinable(project: Project, region: Region, other: Region) -> None:
    is_one_region = region.frame_index == other.frame_index and bool((region.mask & other.mask).any())
    if is_one_region or (region.track is not None and region.track == other.track):
        raise ProjectError("Same as needs two instances, but both clicks are on the same one. Click on another region.")
    classes = [each.class_id if each.track is None else each.track.class_id for each in (region, other)]
    if classes[0] != classes[1]:
        raise _different(project, *classes)


def _different(project: Project, class_id: int, other_id: int) -> ProjectError:
    names = [project.classes.by_id(number).name for number in (class_id, other_id)]
    return ProjectError(
        f"One instrument has one class, but these are {names[0]} and {names[1]}. First give them the same class (This track "
        "is a; Wrong class for a region without a track)."
    )


def _in_two_places(project: Project, frame_index: int, track_ids: tuple[int, ...]) -> ProjectError:
    shown = " and ".join(_title(project, track_id) for track_id in track_ids)
    return ProjectError(
        f"One instrument has one place in a frame, but frame {frame_index} shows {shown} beside the other region. Split one "
        "of them before they meet (Split here), or swap them from that frame on, then join."
    )


def _joined(project: Project, track_id: int, other_id: int) -> TrackTable:
    """The two tracks as one. A frame in which only one of them still has pixels belongs to that one."""
    table, gone = project.tracks.table, dict[int, list[int]]()
    tracks = table.by_id(track_id), table.by_id(other_id)
    for frame_index in tracks[0].frames_shared_with(tracks[1]):
        hidden = [track.id for track in tracks if not _is_visible(project, track, frame_index)]
        if not hidden:
            raise _in_two_places(project, frame_index, (track_id, other_id))
        for hidden_id in hidden:
            gone.setdefault(hidden_id, []).append(frame_index)
    for hidden_id, frame_indices in gone.items():
        table = table.without_frames(frame_indices, hidden_id)
    return table.joined(track_id, other_id)


def _adopted(project: Project, table: TrackTable, track_id: int, region: Region, action: Action) -> TrackTable:
    """The table after a region without a track has joined one; the region gets its number."""
    track, frame_index = table.by_id(track_id), region.frame_index
    number = track.number_at(frame_index)
    spans = []
    if number is None:
        number = _free_number(project, table, frame_index, track)
        spans = [Span(frame_index, frame_index, number)]
    _write_number(project, region, number, action)
    return table.with_spans(track_id, spans)


def _with_new_track(project: Project, region: Region, action: Action) -> TrackTable:
    table, frame_index = project.tracks.table, region.frame_index
    number = _free_number(project, table, frame_index)
    _write_number(project, region, number, action)
    return table.with_new(region.class_id, [Span(frame_index, frame_index, number)])


def _write_number(project: Project, region: Region, number: int, action: Action) -> None:
    numbers = np.where(region.mask, np.uint8(number), project.tracks.numbers(region.frame_index))
    project.tracks.write_numbers(region.frame_index, numbers, action=action)


def _free_number(project: Project, table: TrackTable, frame_index: int, track: Track | None = None) -> int:
    """A number that nothing has in this frame; that of the track in the neighbouring frame if possible."""
    used = {0, *present_ids(project.tracks.numbers(frame_index)), *table.in_frame(frame_index)}
    near = () if track is None else (track.number_at(frame_index - 1) or 0, track.number_at(frame_index + 1) or 0)
    free = [number for number in (*near, *range(1, LARGEST_NUMBER + 1)) if number not in used]
    if not free:
        raise ProjectError(
            f"A frame holds at most {LARGEST_NUMBER} instances, and frame {frame_index} has them all. Remove specks first "
            "(Correct > Clean up), then link again."
        )
    return free[0]


def _is_visible(project: Project, track: Track, frame_index: int) -> bool:
    return track.number_at(frame_index) in present_ids(project.tracks.numbers(frame_index))


def _title(project: Project, track_id: int) -> str:
    table = project.tracks.table
    return table.title(table.by_id(track_id), project.classes)


# ---- the class of a whole track


def change_track_class(
    project: Project, track_id: int, class_id: int, *, include_edited: bool = False
) -> Generator[EditReport, None, EditOutcome]:
    """*This track is a …*: give a track, and its regions in all its frames, another class.

    Its pixels in other classes then count as painted. One action, together with the table. If it is closed early, the track
    has the new class, and so do its regions in the frames reported; call it again for the others.

    Parameters
    ----------
    include_edited : also change pixels that a person painted or verified in another class; by default they stay, and the
        outcome counts their frames (`EditOutcome.left`)

    Raises
    ------
    ClassSetError, ProjectError, DiskSpaceError
        a class or track that the project does not have; nothing is changed. A failed write; frames reported stay changed
    """
    name = project.classes.by_id(class_id).name
    frame_indices = list(project.tracks.table.by_id(track_id).frames())
    with editing(project, f"Change {_title(project, track_id)} to {name}", frame_indices) as edits:
        edits.write_table(project.tracks.table.with_class(track_id, class_id))
        for frame_index in frame_indices:
            yield _reclassed(edits, frame_index, track_id, class_id, include_edited=include_edited)
        return edits.outcome


def frames_of_a_person(project: Project, track_id: int, class_id: int) -> Generator[EditReport, None, tuple[int, ...]]:
    """The frames in which `change_track_class` leaves pixels that a person painted or verified in another class."""
    track = project.tracks.table.by_id(track_id)
    touched = np.any(is_by_person(project.labels.table("provenance")), axis=1)
    frame_indices = [frame_index for frame_index in track.frames() if touched[frame_index]]
    found = []
    for done, frame_index in enumerate(frame_indices, start=1):
        with project.labels.lock:
            _, by_person = _other_class(project, frame_index, track.number_at(frame_index), class_id)
        found += [frame_index] if by_person.any() else []
        yield EditReport(frame_index, done, len(frame_indices), 0)
    return tuple(found)


def _other_class(project: Project, frame_index: int, number: int | None, class_id: int) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) bool: the pixels of a number in other classes, and those of them that a person painted or verified."""
    labels = project.labels[frame_index]
    region = (project.tracks.numbers(frame_index) == number) & (labels != class_id)
    locked = project.labels.locked_class_ids(frame_index)
    by_person = region & (project.labels.painted(frame_index) | np.isin(labels, locked) | (class_id in locked))
    return region, by_person


def _reclassed(edits: FrameEdits, frame_index: int, track_id: int, class_id: int, *, include_edited: bool) -> EditReport:
    project, labels = edits.project, edits.project.labels
    with labels.lock:
        number = project.tracks.table.by_id(track_id).number_at(frame_index)
        before = labels[frame_index]
        region, by_person = _other_class(project, frame_index, number, class_id)
        if not region.any():
            return edits.skip(frame_index)
        if by_person.any() and not include_edited:
            edits.mark_left(frame_index)
            region &= ~by_person
        after = np.where(region, np.uint8(class_id), before)
        with edits.unlocked(frame_index, {class_id, *present_ids(before[region])} if include_edited else ()):
            return edits.write(frame_index, before, after, keeps_instances=True)
