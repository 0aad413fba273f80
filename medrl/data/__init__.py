"""From published rows to training rows: where they come from, what is left out, how they become prompts."""
