"""The timeline below the canvas: its parts, from the dock to the painting."""
