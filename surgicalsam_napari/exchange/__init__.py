"""Export and import of labels as datasets: formats, checks, and writing all or nothing."""
