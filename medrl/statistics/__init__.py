"""Intervals, paired tests and power."""
