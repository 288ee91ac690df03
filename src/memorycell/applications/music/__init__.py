"""TODO music."""
