"""Metrics and protocols: how predictions are scored and compared."""
