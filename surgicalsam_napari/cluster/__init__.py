"""Process many videos with the workers of a Dask cluster: the connection, the scheduling, and the worker's part."""
