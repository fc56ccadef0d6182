"""Generators over frames: embedding and segmentation."""

from __future__ import annotations

from surgicalsam_napari.inference.embed import EmbedReport, embed_frames
from surgicalsam_napari.inference.estimation import Estimate, estimate
from surgicalsam_napari.inference.frame_selection import outward_order, parse_frames
from surgicalsam_napari.inference.predict_again import predict_again
from surgicalsam_napari.inference.segment import SegmentReport, frames_to_segment, segment_frames

__all__ = [
    "EmbedReport",
    "Estimate",
    "SegmentReport",
    "embed_frames",
    "estimate",
    "frames_to_segment",
    "outward_order",
    "parse_frames",
    "predict_again",
    "segment_frames",
]
