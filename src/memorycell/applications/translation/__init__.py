"""TODO translation."""
