"""Synthetic surgical scenes with exact masks: sample data, test data, and training data of the bundled weights."""

from __future__ import annotations

from surgicalsam_napari.phantom.clip import SAMPLE_SEED, write_phantom_clip
from surgicalsam_napari.phantom.look import LOOKS, Look
from surgicalsam_napari.phantom.scene import PhantomFrame, PhantomScene
from surgicalsam_napari.phantom.tools import NEW_TOOL, PHANTOM_CLASSES, PHANTOM_PARTS

__all__ = [
    "LOOKS",
    "NEW_TOOL",
    "PHANTOM_CLASSES",
    "PHANTOM_PARTS",
    "SAMPLE_SEED",
    "Look",
    "PhantomFrame",
    "PhantomScene",
    "write_phantom_clip",
]
