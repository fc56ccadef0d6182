"""Where the bundled weights say little: they were trained and checked on synthetic scenes, not on real video."""

from __future__ import annotations

from surgicalsam_napari.model.encoders import DEFAULT_CHECKPOINT
from surgicalsam_napari.phantom.clip import is_phantom_clip
from surgicalsam_napari.store.project import Project


def is_real_video(project: Project) -> bool:
    """Whether it is not a clip of the surgical phantom."""
    return not is_phantom_clip(project.manifest.video_path)


def is_unchecked_prediction(project: Project, frame_index: int, class_id: int) -> bool:
    """Whether the class was predicted there by the bundled weights, on a real video."""
    number = project.labels.prediction_checkpoint(frame_index, class_id)
    if not number or not is_real_video(project):
        return False
    return project.manifest.checkpoints[number - 1].get("name") == DEFAULT_CHECKPOINT
