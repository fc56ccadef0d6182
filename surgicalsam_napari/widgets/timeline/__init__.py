"""The timeline below the canvas."""
