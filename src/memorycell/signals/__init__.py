"""TODO signals."""
