"""Training data: projects, exported datasets and the authors' processed folders, as one list of frames."""
