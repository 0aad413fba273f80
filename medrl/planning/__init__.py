"""What a run would do: its plan, its memory, what its rewards would pay, and the format that its model knows."""
