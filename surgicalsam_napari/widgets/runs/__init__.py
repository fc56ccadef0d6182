"""Work in another thread: one function, or a run that reports, can be cancelled and ends in a result or a failure."""
