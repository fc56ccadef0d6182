"""SurgicalSAM in napari: class-prompted instrument masks over surgical video."""

__version__ = "0.1.0"
