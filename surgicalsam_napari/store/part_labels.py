"""The labels of parts in a project: their folder and video; their classes are the parts of the project's classes."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import numpy as np

from surgicalsam_napari.errors import ClassSetError, ProjectError
from surgicalsam_napari.instruments import ClassSet
from surgicalsam_napari.store.disk.files import writing
from surgicalsam_napari.store.disk.write_lock import WriteLock
from surgicalsam_napari.store.growing import grow_arrays
from surgicalsam_napari.store.label_maps import present_ids
from surgicalsam_napari.store.labels.label_store import LabelStore
from surgicalsam_napari.store.manifest import MANIFEST, Manifest, VideoRecord, read_manifest, write_manifest
from surgicalsam_napari.store.project_classes import ProjectClasses

PARTS = "parts"  # the folder in the project


def has_part_labels(folder: Path) -> bool:
    """Whether a project folder has labels of parts; a ProjectError if their manifest was lost."""
    if (folder / PARTS / MANIFEST).is_file():
        return True
    if (folder / PARTS / "labels").exists():
        raise ProjectError(
            f"{folder / PARTS} should have a {MANIFEST}, and has none. Restore it from a backup, or move the folder away to "
            "begin with new parts."
        )
    return False


def record_within(record: VideoRecord) -> VideoRecord:
    """The record of a project's video, as seen from the folder of the parts."""
    relative = None if record.relative_path is None else f"../{record.relative_path}"
    return record.model_copy(update={"relative_path": relative})


def following(folder: Path, record: VideoRecord) -> Manifest:
    """Give the labels of parts the video of their project as it is now: its place, and its length if it has grown."""
    manifest = read_manifest(folder)
    if manifest.video == record:
        return manifest
    lock = WriteLock(folder)
    try:
        with writing("The video of the parts", folder), lock:
            grow_arrays(folder, record.frame_count)
            manifest = read_manifest(folder).changed(video=record)
            write_manifest(folder, manifest)
            return manifest
    finally:
        lock.close()


def with_stored_parts(folder: Path, classes: ProjectClasses) -> ProjectClasses:
    """The classes of a project. If they name no parts, and labels of parts are stored, their parts belong to no class yet:
    an earlier version has changed the classes.
    """
    if classes.parts is not None or not (folder / PARTS / MANIFEST).is_file():
        return classes
    with suppress(ProjectError):  # whoever opens the parts is told
        return classes.with_part_set(read_manifest(folder / PARTS).project_classes)
    return classes


def check_unlabelled(whole: LabelStore, parts: LabelStore, before: ClassSet, after: ClassSet) -> None:
    """A ClassSetError if a class would lose a part that any frame shows.

    Parameters
    ----------
    whole, parts : the labels of the instruments, and those of their parts
    before, after : the classes of the instruments
    """
    if before.parts is None:
        return
    if after.parts is None:
        raise ClassSetError(
            f"A project with labels of parts needs a part, and {before.parts.names[0]} is its only one. Rename it, or take "
            "it from the instruments."
        )
    known = {instrument.id: instrument for instrument in after}
    for instrument in before:
        kept = known[instrument.id].parts if instrument.id in known else instrument.parts
        for part_id in set(instrument.parts) - set(kept):
            frame_index = _frame_with(whole, parts, instrument.id, part_id)
            if frame_index is not None:
                raise ClassSetError(
                    f"{before.parts.by_id(part_id).name} cannot be taken from {instrument.name}: frame {frame_index} shows "
                    "it, and maybe others do, too. First show the parts, and clear it in the whole video (Correct > Clean "
                    "up), or change it to another part (Correct > Wrong class)."
                )


def _frame_with(whole: LabelStore, parts: LabelStore, class_id: int, part_id: int) -> int | None:
    """The first frame in which a part is labelled in a class of instrument."""
    for frame_index in parts.frames_that_may_have(part_id):
        if np.any((parts.frame(frame_index) == part_id) & (whole.frame(frame_index) == class_id)):
            return frame_index
    return None


def with_parts_back(
    classes: ProjectClasses, part_ids: Collection[int], whole: np.ndarray, stored: np.ndarray
) -> ProjectClasses:
    """With removed parts again whose labels came back, for the instruments in which they lie.

    Parameters
    ----------
    whole, stored : (H, W) uint8, a frame's classes of instruments, and its parts
    """
    classes = classes.with_parts(lambda parts: parts.revived(part_ids))
    assert classes.parts is not None
    for part_id in part_ids:
        name = classes.parts.in_use.by_id(part_id).name
        classes = classes.part_added(name, present_ids(whole[stored == part_id]))
    return classes
