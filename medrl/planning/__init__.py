"""What a run would do: its plan, its memory, what its rewards would pay."""
