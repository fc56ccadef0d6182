"""Predictions without the black border: no instrument is outside the content area of the picture."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from surgicalsam_napari.video import ContentArea

if TYPE_CHECKING:
    from surgicalsam_napari.model.surgical_sam import FramePrediction


def within_content(prediction: FramePrediction, area: ContentArea) -> FramePrediction:
    """The prediction with background outside the area; a class that had all its pixels there is absent, with presence 0."""
    if area.is_whole:
        return prediction
    label_map = np.where(area.mask, prediction.label_map, 0).astype(np.uint8)
    before, after = (np.bincount(labels.ravel(), minlength=256) > 0 for labels in (prediction.label_map, label_map))
    gone = (before & ~after)[list(prediction.class_ids)]
    return replace(
        prediction,
        label_map=label_map,
        present=prediction.present & ~gone,
        presence=np.where(gone, 0, prediction.presence).astype(np.float32),
        contested=np.where(gone, 0, prediction.contested).astype(np.float32),
    )
