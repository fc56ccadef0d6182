"""The layers of the viewer that show the open project, and the signals of what changes."""
