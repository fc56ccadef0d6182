"""The start page, the list of videos with its queue for segmenting, and what the window remembers."""
