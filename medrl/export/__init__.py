"""A finished run, taken out: adapter, whole weights, GGUF, a card, the hub; each asked again what the run was asked."""
