"""The layers of the viewer that show the open project, and the signals that tell of changes."""
