"""Sweeps: many runs over a W&B sweep file, and what they say."""
