"""Work in another thread: single functions, and runs with progress, Cancel, and a result or an error."""
