"""What a person reads of a run: the report page and the terminal."""
