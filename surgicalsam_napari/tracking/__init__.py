"""Instances over time: regions linked to tracks, the class vote along a track, and smoothing of flicker."""
