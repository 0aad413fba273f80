"""Rows: where they come from, which of them training sees, and in what mixture."""
