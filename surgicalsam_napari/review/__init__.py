"""What is worth a look: the labels of a whole video at a glance, and the frames in the order of their doubt."""

from __future__ import annotations

from surgicalsam_napari.review.jumps import MaskJumps
from surgicalsam_napari.review.queue import ReviewQueue, Status
from surgicalsam_napari.review.ranking import Evidence, cell_suspicion, frame_suspicion

__all__ = ["Evidence", "MaskJumps", "ReviewQueue", "Status", "cell_suspicion", "frame_suspicion"]
