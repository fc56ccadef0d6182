"""Panels for the video and the model: open, load, download."""
