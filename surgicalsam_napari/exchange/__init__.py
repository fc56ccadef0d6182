"""Dataset formats, one per file."""
