"""How completions reach an online trainer and come back as log-probabilities: the one place that knows vLLM and TRL's batches."""
