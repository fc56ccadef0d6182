"""Find the frames that need review: an overview of all labels, and frames ranked by their expected error."""

from __future__ import annotations

from surgicalsam_napari.review.jumps import MaskJumps
from surgicalsam_napari.review.queue import ReviewQueue, Status
from surgicalsam_napari.review.ranking import Evidence, cell_suspicion, frame_suspicion

__all__ = ["Evidence", "MaskJumps", "ReviewQueue", "Status", "cell_suspicion", "frame_suspicion"]
