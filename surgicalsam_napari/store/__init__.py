"""A project on disk: labels, provenance and embeddings of one video, in zarr."""
