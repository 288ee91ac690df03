"""TODO sentiment."""
