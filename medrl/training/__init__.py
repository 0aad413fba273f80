"""What happens while a run trains: its processes, trainer, checkpoints and warnings."""
