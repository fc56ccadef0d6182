"""The napari side: the only folder that imports Qt, napari and magicgui."""
