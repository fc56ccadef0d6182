"""The formats of datasets, one per file: how each is recognized, read and written."""
