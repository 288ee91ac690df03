"""TODO streaming."""
