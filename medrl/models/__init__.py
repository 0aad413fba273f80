"""Weights, adapters, chat templates, generation and likelihood."""
