"""TODO forecast."""
