"""Predictions without the black border: no instrument is outside the content area of the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from surgicalsam_napari.store.disk.merging import within
from surgicalsam_napari.video import ContentArea

if TYPE_CHECKING:
    from surgicalsam_napari.model.surgical_sam import FramePrediction


def within_content(prediction: FramePrediction, area: ContentArea) -> FramePrediction:
    """The prediction with background outside the area; a class that had all its pixels there is absent, with presence 0."""
    if area.is_whole:
        return prediction
    return within(prediction, area.mask)
