"""The trainer, checkpoints, processes and hardware."""
