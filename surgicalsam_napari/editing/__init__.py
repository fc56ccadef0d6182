"""Corrections of a region, a class, a range of frames or a track; each is one action that can be undone."""

from __future__ import annotations

from surgicalsam_napari.editing.actions import (
    clear_class,
    edit_frames,
    fill_class_holes,
    fill_from_previous,
    grow_class,
    keep_largest_region,
    reassign_region,
    shrink_class,
    smooth_class,
    swap_classes,
    unlock_frames,
    verify_frames,
)
from surgicalsam_napari.editing.frame_edits import EditOutcome, EditReport
from surgicalsam_napari.editing.regions import follow_region, region_at
from surgicalsam_napari.editing.tracks import (
    change_track_class,
    frames_of_a_person,
    region_of,
    same_as,
    split_here,
    swap_from_here,
    track_at,
)

__all__ = [
    "EditOutcome",
    "EditReport",
    "change_track_class",
    "clear_class",
    "edit_frames",
    "fill_class_holes",
    "fill_from_previous",
    "follow_region",
    "frames_of_a_person",
    "grow_class",
    "keep_largest_region",
    "reassign_region",
    "region_at",
    "region_of",
    "same_as",
    "shrink_class",
    "smooth_class",
    "split_here",
    "swap_classes",
    "swap_from_here",
    "track_at",
    "unlock_frames",
    "verify_frames",
]
