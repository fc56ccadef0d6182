"""The list of all actions. The manifest has a command for each; a test compares both.

Shift reverses a key: N is next and Shift+N previous. napari does not use these keys for the viewer, an Image or a Labels
layer, so a key does the same for every selected layer.
"""

from __future__ import annotations

from typing import Any

from surgicalsam_napari.widgets.actions.action import Action
from surgicalsam_napari.widgets.runs.run import Run

VIDEO, SEGMENT, REVIEW, FIX = "Video", "Segment", "Review", "Correct"
TRAIN, EXPORT, HISTORY, VIEW = "Train", "Export and measure", "Undo and snapshots", "View"
GROUPS = (VIDEO, SEGMENT, REVIEW, FIX, TRAIN, EXPORT, HISTORY, VIEW)
UNLOCK_KEY = "Shift+D"  # messages about verified frames name it


def _cancel_runs(dock: Any) -> bool:
    """Cancel what runs; returns whether something did."""
    running = [run for run in dock.findChildren(Run) if run.is_running]
    for run in running:
        run.cancel()
    return bool(running)


ACTIONS = (
    Action("open_video", "Open a video…", VIDEO, "video_panel.open_file"),
    Action("open_folder", "Open a folder of images or a project…", VIDEO, "video_panel.open_folder"),
    Action("videos", "List of videos…", VIDEO, "video_panel.videos"),
    Action("segment", "Segment the chosen frames", SEGMENT, "segment_panel.segment"),
    Action("cancel", "Cancel the work that runs now", SEGMENT, _cancel_runs),
    Action("next_frame", "Next frame that needs review", REVIEW, "correct_panel.review.next_button", "N"),
    Action("previous_frame", "Previous frame that needs review", REVIEW, "correct_panel.review.previous_button", "Shift+N"),
    Action("suggested_class", "Select the class that needs review", REVIEW, "correct_panel.review.suggestion", "Q"),
    Action("verify", "Done: verify this frame", REVIEW, "correct_panel.review.verify_button", "D"),
    Action("unlock", "Unlock this frame", REVIEW, "correct_panel.review.unlock_button", UNLOCK_KEY),
    Action("refine", "Click to refine, on or off", FIX, "correct_panel.refine.switch", "R"),
    Action("accept", "Accept the preview", FIX, "correct_panel.refine.accept_button", "A"),
    Action("discard", "Discard the preview", FIX, "correct_panel.refine.discard_button", "Shift+A"),
    Action("wrong_class", "Change the class of a region, on or off", FIX, "correct_panel.wrong_class.switch", "W"),
    Action("find_instances", "Find instances: follow each region over time", FIX, "correct_panel.instances.find_button"),
    Action("same_as", "Two regions are the same instrument", FIX, "correct_panel.instances.same_button", "Shift+S"),
    Action("split_here", "From here on it is another instrument", FIX, "correct_panel.instances.split_button", "Shift+X"),
    Action("swap_tracks", "Swap left and right from here on", FIX, "correct_panel.instances.swap_button", "Shift+Y"),
    Action("track_class", "Change the class of a whole track", FIX, "correct_panel.instances.class_button", "Shift+W"),
    Action("propagate", "Carry the class into later frames", FIX, "correct_panel.propagate.forward_button", "T"),
    Action(
        "propagate_back", "Carry the class into earlier frames", FIX, "correct_panel.propagate.backward_button", "Shift+T"
    ),
    Action("fill_between", "Fill between corrected frames", FIX, "correct_panel.propagate.fill_button"),
    Action("copy_previous", "Copy the class from the previous frame", FIX, "correct_panel.frames.fill_button", "G"),
    Action("keep_largest", "Keep the largest region of the class", FIX, "correct_panel.frames.largest_button", "K"),
    Action("fill_holes", "Fill the holes of the class", FIX, "correct_panel.frames.holes_button", "H"),
    Action("smooth", "Smooth the class", FIX, "correct_panel.frames.smooth_button", "S"),
    Action("grow", "Grow the class", FIX, "correct_panel.frames.grow_button"),
    Action("shrink", "Shrink the class", FIX, "correct_panel.frames.shrink_button"),
    Action("clear", "Clear the class", FIX, "correct_panel.frames.clear_button", "Shift+C"),
    Action("learn", "Learn from the corrected frames", TRAIN, "train_panel.learn.learn_button"),
    Action("export", "Export the labels", EXPORT, "export_panel.export"),
    Action("statistics", "Statistics of the video…", EXPORT, "export_panel.results.statistics_button"),
    Action("overlay", "Overlay video or picture…", EXPORT, "export_panel.results.overlay_button"),
    Action("undo", "Undo the last action", HISTORY, "correct_panel.undo_bar.undo_button", "U"),
    Action("redo", "Redo what was undone last", HISTORY, "correct_panel.undo_bar.redo_button", "Shift+U"),
    Action("check_project", "Check the project for damage", HISTORY, "correct_panel.history.safety.check_button"),
    Action("back_up", "Back up the project…", HISTORY, "correct_panel.history.safety.back_up_button"),
    Action("restore_backup", "Restore a backup…", HISTORY, "correct_panel.history.safety.restore_button"),
    Action("save_work_log", "Save the work log…", HISTORY, "correct_panel.history.save_log_button"),
    Action("instruments", "Show the instruments", VIEW, "parts_switch.instruments"),
    Action("parts", "Show the parts of the instruments", VIEW, "parts_switch.parts"),
    Action("similarity", "Similarity map, on or off", VIEW, "correct_panel.similarity_button", "J"),
    Action("instance_colors", "Colours by instance, on or off", VIEW, "correct_panel.instances.by_instance", "Shift+J"),
    Action("track_rows", "Tracks in the timeline, on or off", VIEW, "correct_panel.instances.rows_box", "Shift+L"),
    Action("keys", "List of all keys", VIEW, "correct_panel.keys_button"),
)


def action_by_id(action_id: str) -> Action:
    """The action with this id; a KeyError if there is none."""
    return {action.id: action for action in ACTIONS}[action_id]
