"""Many videos by the workers of a Dask cluster: the connection, the scheduling, and what a worker does."""
