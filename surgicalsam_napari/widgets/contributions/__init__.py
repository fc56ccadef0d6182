"""The functions that `napari.yaml` names: reader, writers and sample data."""
