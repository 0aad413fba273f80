"""Runs over the values of some options, as a W&B sweep file says: here without an account, or on W&B."""
