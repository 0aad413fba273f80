"""What a run logs, by name, and how it reaches W&B."""
