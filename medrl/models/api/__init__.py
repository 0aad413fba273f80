"""Models behind an API of chat completions: asked, limited, counted and kept; a model to be evaluated, and what judges ask with."""
