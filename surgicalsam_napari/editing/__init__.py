"""Corrections of a region, a class or a range of frames; each range is one action that can be undone."""

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

__all__ = [
    "EditOutcome",
    "EditReport",
    "clear_class",
    "edit_frames",
    "fill_class_holes",
    "fill_from_previous",
    "follow_region",
    "grow_class",
    "keep_largest_region",
    "reassign_region",
    "region_at",
    "shrink_class",
    "smooth_class",
    "swap_classes",
    "unlock_frames",
    "verify_frames",
]
