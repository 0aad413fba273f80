"""A search over configurations, here or on W&B."""
