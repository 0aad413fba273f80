"""Judges of free-text answers, one file each."""
