"""What is written down while a run goes on: the run folder, W&B, the names of metrics."""
