"""Predictions without the black border: no instrument is outside the content area of the picture."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from surgicalsam_napari.store.label_maps import present_ids
from surgicalsam_napari.video import ContentArea

if TYPE_CHECKING:
    from surgicalsam_napari.model.surgical_sam import FramePrediction


def within_content(prediction: FramePrediction, area: ContentArea) -> FramePrediction:
    """The prediction with background outside the area; a class that had all its pixels there is absent, with presence 0."""
    if area.is_whole:
        return prediction
    label_map = np.where(area.mask, prediction.label_map, 0).astype(np.uint8)
    gone_ids = set(present_ids(prediction.label_map)) - set(present_ids(label_map))
    gone = np.array([class_id in gone_ids for class_id in prediction.class_ids])
    return replace(
        prediction,
        label_map=label_map,
        present=prediction.present & ~gone,
        presence=np.where(gone, 0, prediction.presence).astype(np.float32),
        contested=np.where(gone, 0, prediction.contested).astype(np.float32),
    )
