"""The labels of a video, as an array that is read like a numpy array and written by edits, predictions and imports."""
