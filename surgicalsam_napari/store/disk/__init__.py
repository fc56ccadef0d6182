"""The files of a project: those of a frame change together, or not at all, also when the process dies."""
