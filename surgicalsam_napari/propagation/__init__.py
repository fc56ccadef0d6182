"""Corrected masks carried into other frames, by optical flow and by appearance: propagate, and fill between."""
