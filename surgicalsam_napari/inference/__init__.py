"""Generators over frames: embedding and segmentation."""
