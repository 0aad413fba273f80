"""Models behind an API of chat completions, asked within limits, counted and kept: one to be evaluated, or a judge's."""
