"""What `napari.yaml` names: reader, writers and sample data."""
