"""Commands as processes: chains, multiruns, their GPUs and their ends."""
