"""The napari plugin's widgets: the only folder that imports Qt, napari and magicgui."""
