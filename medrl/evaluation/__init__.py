"""Asks held-out rows of a model and writes metrics.json."""
